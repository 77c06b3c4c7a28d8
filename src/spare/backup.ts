/** Keeps what is about to be replaced on a spare in a file, and puts it back. */
import { DeviceError, type Device } from '../device/device.js'
import { RefusedError } from '../util/errors.js'
import { alignDown } from '../util/units.js'
import { chooseHeader } from './choose.js'
import { HEADER_AREA_SIZE, PAGE_SIZE } from './format.js'
import { readCopies } from './header.js'
import { uuidText } from './membership.js'
import { MetadataFile, RANGE_LENGTH_MAX, writeMetadataFile, type FileRange } from './metadata-file.js'

/** Bytes [offset, offset + length) of a spare. */
export interface ByteRange {
  readonly offset: number
  readonly length: number
}

export interface BackupHead {
  readonly uuid: Buffer
  /** Of the newest header. */
  readonly headerSequence: number
}

/** Durable when it resolves. @throws MetadataFileError */
export function backUp(path: string, device: Device, head: BackupHead, ranges: readonly ByteRange[]): Promise<void> {
  return writeMetadataFile(path, { ...head, kind: 'backup', spareSize: device.size, contents: read(device, ranges) })
}

async function* read(device: Device, ranges: readonly ByteRange[]): AsyncGenerator<FileRange> {
  for (const range of ranges) {
    for (let done = 0; done < range.length; done += RANGE_LENGTH_MAX) {
      yield* readWhatCanBe(device, range.offset + done, Math.min(RANGE_LENGTH_MAX, range.length - done))
    }
  }
}

/** In halves, down to single pages. */
async function* readWhatCanBe(device: Device, offset: number, length: number): AsyncGenerator<FileRange> {
  const bytes = Buffer.alloc(length)
  try {
    await device.read(offset, bytes)
    yield { offset, length, bytes }
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error
    if (length <= PAGE_SIZE) {
      yield { offset, length }
      return
    }
    const half = Math.max(PAGE_SIZE, alignDown(length / 2, PAGE_SIZE))
    yield* readWhatCanBe(device, offset, half)
    yield* readWhatCanBe(device, offset + half, length - half)
  }
}

export interface RestoreReport {
  readonly spare: string
  readonly written: number
  /** Could not be read when the backup was made, and are as they are now. */
  readonly leftAlone: number
}

/** One repair raises the sequence number of the header by one; so does an update that could not be flushed. */
const SEQUENCE_LEEWAY = 2

/**
 * Puts back what a repair replaced: pages, flushed, then headers one by one.
 * @param force although the spare was in use since
 * @throws RefusedError, MetadataFileError: nothing was written; DeviceError
 */
export async function restore(device: Device, path: string, force: boolean): Promise<RestoreReport> {
  const file = await MetadataFile.open(path)
  try {
    await refuseOther(device, file, force)
    const report = { spare: device.name, written: 0, leftAlone: 0 }
    for (const isHeader of [false, true]) {
      for await (const { offset, length, bytes } of file.ranges()) {
        if (offset < HEADER_AREA_SIZE !== isHeader) continue
        if (bytes) {
          await device.write(offset, [bytes])
          if (isHeader) await device.flush()
          report.written += length
        } else report.leftAlone += length
      }
      await device.flush()
    }
    return report
  } finally {
    await file.close()
  }
}

async function refuseOther(device: Device, { head, path }: MetadataFile, force: boolean): Promise<void> {
  if (head.kind !== 'backup') throw new RefusedError(`${path} is an export: use "nbd-remap import"`)
  if (head.spareSize !== device.size)
    throw new RefusedError(`${path} is of a spare of ${head.spareSize} bytes, and ${device.name} has ${device.size}`)
  const choice = chooseHeader(await readCopies(device))
  if (choice.kind !== 'chosen') {
    if (force) return
    throw new RefusedError(
      `${device.name} has no header that could say whether ${path} is of it: if it is, add --force`,
    )
  }
  const { uuid, sequence } = choice.header
  if (!uuid.equals(head.uuid))
    throw new RefusedError(`${path} is of spare ${uuidText(head.uuid)}, and ${device.name} is spare ${uuidText(uuid)}`)
  if (sequence > head.headerSequence + SEQUENCE_LEEWAY && !force)
    throw new RefusedError(
      `spare ${device.name} was in use since ${path} was made, and remaps made since would be forgotten, with what was written to those blocks: if they can go, add --force`,
    )
}
