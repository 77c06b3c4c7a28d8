/**
 * A file with metadata of a spare: an `export`, which `import` puts on the same spare again, or a `backup` of every byte that
 * a repair or an import replaced. `docs/ON-DISK-FORMAT.md` says the same in prose. Nothing of a file is used before all of
 * it has been checked, and none is ever overwritten.
 *
 *   0    head of 64 bytes
 *   64   ranges, each with 24 bytes of its own and then the bytes of the spare
 */
import { open, type FileHandle } from 'node:fs/promises'
import { fileProblem, writingProblem } from '../util/errors.js'
import { crc32c } from '../util/crc32c.js'

export const FILE_VERSION = 1
export const FILE_HEAD_SIZE = 64
export const RANGE_HEAD_SIZE = 24
/** Of the bytes of one range. */
export const RANGE_LENGTH_MAX = 1024 * 1024

export type FileKind = 'export' | 'backup'
const KINDS: readonly FileKind[] = ['export', 'backup']

export interface FileHead {
  readonly kind: FileKind
  /** Of the spare; zeros: it was not known. */
  readonly uuid: Buffer
  /** Bytes of the spare. */
  readonly spareSize: number
  /** Of the newest header of the spare; 0: it had none. */
  readonly headerSequence: number
  /** How many ranges follow. */
  readonly ranges: number
  /** Bytes of the whole file. */
  readonly length: number
}

export interface FileRange {
  readonly offset: number
  readonly length: number
  /** Absent: they could not be read, and none follow in the file. */
  readonly bytes?: Buffer
}

const MAGIC = Buffer.from('NBDRMETA', 'latin1')
const F = {
  magic: 0, // 8 bytes
  crc: 8, // u32, of the head
  version: 12, // u16
  kind: 14, // u8: 1 export, 2 backup
  uuid: 16, // 16 bytes: another spare
  spareSize: 32, // u64
  headerSequence: 40, // u64
  ranges: 48, // u32: ranges that are missing
  length: 56, // u64: a truncated file
}
const R = {
  offset: 0, // u64
  length: 8, // u32
  index: 12, // u32: ranges that are missing, or in another order
  state: 16, // u32: 0 bytes follow, 1 they could not be read
  crc: 20, // u32, of this and the bytes
}

export function encodeFileHead(head: FileHead): Buffer {
  const bytes = Buffer.alloc(FILE_HEAD_SIZE)
  MAGIC.copy(bytes, F.magic)
  bytes.writeUInt16LE(FILE_VERSION, F.version)
  bytes.writeUInt8(KINDS.indexOf(head.kind) + 1, F.kind)
  head.uuid.copy(bytes, F.uuid, 0, 16)
  bytes.writeBigUInt64LE(BigInt(head.spareSize), F.spareSize)
  bytes.writeBigUInt64LE(BigInt(head.headerSequence), F.headerSequence)
  bytes.writeUInt32LE(head.ranges, F.ranges)
  bytes.writeBigUInt64LE(BigInt(head.length), F.length)
  bytes.writeUInt32LE(crc32c(bytes), F.crc)
  return bytes
}

/** @throws MetadataFileError */
export function decodeFileHead(bytes: Buffer): FileHead {
  if (bytes.length < FILE_HEAD_SIZE || !bytes.subarray(0, MAGIC.length).equals(MAGIC))
    throw new MetadataFileError('it is no file with metadata of nbd-remap')
  if (crcOf(bytes.subarray(0, FILE_HEAD_SIZE), F.crc) !== bytes.readUInt32LE(F.crc))
    throw new MetadataFileError('its head is damaged: the checksum does not match')
  const version = bytes.readUInt16LE(F.version)
  if (version !== FILE_VERSION)
    throw new MetadataFileError(`it has version ${version}, and this program knows version ${FILE_VERSION}`)
  const kind = KINDS[bytes.readUInt8(F.kind) - 1]
  if (!kind) throw new MetadataFileError('it is neither an export nor a backup')
  return {
    kind,
    uuid: Buffer.from(bytes.subarray(F.uuid, F.uuid + 16)),
    spareSize: Number(bytes.readBigUInt64LE(F.spareSize)),
    headerSequence: Number(bytes.readBigUInt64LE(F.headerSequence)),
    ranges: bytes.readUInt32LE(F.ranges),
    length: Number(bytes.readBigUInt64LE(F.length)),
  }
}

/** What stands before the bytes of a range. */
export function encodeRangeHead({ offset, length, bytes }: FileRange, index: number): Buffer {
  const head = Buffer.alloc(RANGE_HEAD_SIZE)
  head.writeBigUInt64LE(BigInt(offset), R.offset)
  head.writeUInt32LE(length, R.length)
  head.writeUInt32LE(index, R.index)
  head.writeUInt32LE(bytes ? 0 : 1, R.state)
  head.writeUInt32LE(crc32c(bytes ? Buffer.concat([head, bytes]) : head), R.crc)
  return head
}

function crcOf(bytes: Buffer, at: number): number {
  const copy = Buffer.from(bytes)
  copy.writeUInt32LE(0, at)
  return crc32c(copy)
}

/** The file is not what it should be, or cannot be read or written. */
export class MetadataFileError extends Error {
  override name = 'MetadataFileError'
}

export interface NewFile extends Omit<FileHead, 'ranges' | 'length'> {
  /** What is in it, in this order. */
  readonly contents: AsyncIterable<FileRange> | Iterable<FileRange>
}

/** Writes a file that is durable when this resolves. @throws MetadataFileError, also when there is one of this name */
export async function writeMetadataFile(path: string, { contents, ...head }: NewFile): Promise<void> {
  let file: FileHandle | undefined
  try {
    file = await open(path, 'wx', 0o600)
    let position = FILE_HEAD_SIZE
    let ranges = 0
    for await (const range of contents) {
      const bytes = Buffer.concat([encodeRangeHead(range, ranges++), range.bytes ?? Buffer.alloc(0)])
      await file.write(bytes, 0, bytes.length, position)
      position += bytes.length
    }
    // The head comes last: a file that was cut off has none.
    await file.write(encodeFileHead({ ...head, ranges, length: position }), 0, FILE_HEAD_SIZE, 0)
    await file.sync()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error
    throw new MetadataFileError(`${path} cannot be written: ${writingProblem(error)}`, { cause: error })
  } finally {
    await file?.close()
  }
}

/** A file that was read once and is whole. */
export class MetadataFile {
  readonly path: string
  readonly head: FileHead
  readonly #file: FileHandle

  private constructor(path: string, head: FileHead, file: FileHandle) {
    this.path = path
    this.head = head
    this.#file = file
  }

  /** Checks all of it. @throws MetadataFileError */
  static async open(path: string): Promise<MetadataFile> {
    let file: FileHandle | undefined
    try {
      file = await open(path, 'r')
      const head = decodeFileHead(await readAt(file, 0, FILE_HEAD_SIZE))
      const { size } = await file.stat()
      if (size !== head.length) throw new MetadataFileError(`it has ${size} bytes, and should have ${head.length}`)
      const opened = new MetadataFile(path, head, file)
      // eslint-disable-next-line @typescript-eslint/no-unused-vars -- each one is checked as it is read
      for await (const _ of opened.ranges());
      return opened
    } catch (error) {
      await file?.close()
      throw new MetadataFileError(`${path} cannot be used: ${fileProblem(error)}`, { cause: error })
    }
  }

  /** @throws MetadataFileError */
  async *ranges(): AsyncGenerator<FileRange> {
    let position = FILE_HEAD_SIZE
    for (let index = 0; index < this.head.ranges; index++) {
      const range = await this.#range(position, index)
      position += RANGE_HEAD_SIZE + (range.bytes?.length ?? 0)
      yield range
    }
    if (position !== this.head.length) throw new MetadataFileError('there is more in it than its ranges')
  }

  async #range(position: number, index: number): Promise<FileRange> {
    const head = await readAt(this.#file, position, RANGE_HEAD_SIZE)
    if (head.length < RANGE_HEAD_SIZE) throw new MetadataFileError(`range ${index} is missing`)
    const length = head.readUInt32LE(R.length)
    const state = head.readUInt32LE(R.state)
    const damaged = new MetadataFileError(`range ${index} is damaged`)
    if (length > RANGE_LENGTH_MAX || state > 1 || head.readUInt32LE(R.index) !== index) throw damaged
    const bytes = await readAt(this.#file, position + RANGE_HEAD_SIZE, state === 0 ? length : 0)
    if (state === 0 && bytes.length !== length) throw damaged
    if (crcOf(Buffer.concat([head, bytes]), R.crc) !== head.readUInt32LE(R.crc)) throw damaged
    const offset = Number(head.readBigUInt64LE(R.offset))
    return { offset, length, ...(state === 0 && { bytes }) }
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

async function readAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length)
  const { bytesRead } = await file.read(bytes, 0, length, position)
  return bytes.subarray(0, bytesRead)
}
