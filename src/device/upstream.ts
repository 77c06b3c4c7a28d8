/**
 * `UpstreamDevice`: an export of another NBD server as a `Device`.
 *
 * The server sees only requests it must accept: aligned to its minimum block size and no longer than its maximum.
 * Unaligned writes are read-modify-write here, one after the other where they share blocks. What the server cannot do
 * is made up for: zeros are written without WRITE_ZEROES, FUA becomes a FLUSH; without TRIM a trim has no effect, and
 * without FLUSH a flush has none. Losing the connection is not an error at first, see `upstream-link.ts`.
 */

import { NbdServerError } from '../nbd/client-errors.js'
import { assert } from '../util/assert.js'
import { GiB, MiB, alignDown, alignUp, isAligned } from '../util/units.js'
import {
  type BlockSizes,
  type Device,
  DeviceError,
  type DeviceErrorCode,
  type DeviceOperation,
  type WriteOptions,
  type ZeroOptions,
} from './device.js'
import { cutChunks, cutRange } from './pieces.js'
import { UpstreamGoneError, UpstreamLink, type UpstreamSettings } from './upstream-link.js'
import { WriteOrder } from './write-order.js'

/** Longest READ and WRITE sent, whatever more the server allows: what every server must take. */
const TRANSFER_MAX = 32 * MiB
/** Longest TRIM and WRITE_ZEROES sent. The length field has 32 bits; this is the largest power of two that servers agree on. */
const RANGE_MAX = 1 * GiB

const NOTHING = Promise.resolve(Buffer.alloc(0))

export class UpstreamDevice implements Device {
  readonly name: string
  readonly size: number
  readonly readOnly: boolean
  readonly blockSizes: BlockSizes
  readonly #link: UpstreamLink
  readonly #order = new WriteOrder()

  private constructor(name: string, link: UpstreamLink) {
    const { minimum, preferred, maximum } = link.blockSizes
    this.name = name
    this.size = alignDown(link.size, minimum)
    this.readOnly = link.flags.readOnly
    this.blockSizes = { minimum, preferred, maximum: alignDown(Math.min(maximum, TRANSFER_MAX), minimum) }
    this.#link = link
  }

  /** @throws NbdUriError, NbdConnectionError, NbdServerError, NbdProtocolError: one sentence each, and at once */
  static async open(uri: string, settings: UpstreamSettings): Promise<UpstreamDevice> {
    const device = new UpstreamDevice(uri, await UpstreamLink.open(uri, settings))
    const unreachable = device.#link.size - device.size
    if (unreachable > 0) settings.log.warn(`${uri}: the last ${unreachable} bytes are no whole block and are not used`)
    return device
  }

  /** As if the network had: the link connects again, and what is under way is sent again. */
  dropConnection(): void {
    this.#link.dropConnection()
  }

  read(offset: number, into: Buffer): Promise<void> {
    return this.#do('read', offset, into.length, () => this.#read(offset, into))
  }

  write(offset: number, chunks: readonly Buffer[], { fua = false }: WriteOptions = {}): Promise<void> {
    const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
    return this.#do('write', offset, length, () =>
      this.#inOrder(offset, length, () => this.#write(offset, length, chunks, fua)),
    )
  }

  flush(): Promise<void> {
    return this.#do('flush', 0, 0, () => this.#link.flush())
  }

  async trim(offset: number, length: number, { fua = false }: WriteOptions = {}): Promise<void> {
    await this.#do('trim', offset, length, async () => {
      if (!this.#link.flags.sendTrim) return
      const { start, end } = this.#wholeBlocks(offset, length)
      if (start < end) await this.#inOrder(start, end - start, () => this.#trim(start, end - start, fua))
    })
  }

  writeZeroes(
    offset: number,
    length: number,
    { fua = false, noHole = false, fast = false }: ZeroOptions = {},
  ): Promise<void> {
    // Whether the server would be fast is not known, and finding out could change the content.
    if (fast) return Promise.reject(new DeviceError('ENOTSUP', this.name, 'write-zeroes', offset, length))
    return this.#do('write-zeroes', offset, length, () =>
      this.#inOrder(offset, length, () => this.#writeZeroes(offset, length, fua, noHole)),
    )
  }

  close(): Promise<void> {
    return this.#link.close()
  }

  async #do(operation: DeviceOperation, offset: number, length: number, task: () => Promise<void>): Promise<void> {
    assert(
      offset >= 0 && offset + length <= this.size,
      `${operation} of ${length} bytes at ${offset} beyond ${this.name}`,
    )
    if (length === 0 && operation !== 'flush') return
    try {
      await task()
    } catch (error) {
      const code = errorCode(error)
      if (code === undefined) throw error
      throw new DeviceError(code, this.name, operation, offset, length, { cause: error })
    }
  }

  /** Without read-modify-write nobody needs the order of writes: whoever wants it keeps it above. */
  #inOrder(offset: number, length: number, task: () => Promise<void>): Promise<void> {
    const { minimum } = this.blockSizes
    if (minimum === 1) return task()
    return this.#order.run(alignDown(offset, minimum), alignUp(offset + length, minimum), task)
  }

  /** The blocks that lie within the range; `start >= end` when there are none. */
  #wholeBlocks(offset: number, length: number): { start: number; end: number } {
    const { minimum } = this.blockSizes
    return { start: alignUp(offset, minimum), end: alignDown(offset + length, minimum) }
  }

  async #read(offset: number, into: Buffer): Promise<void> {
    const { start, end } = this.#wholeBlocks(offset, into.length)
    if (start === offset && end === offset + into.length && into.length <= this.blockSizes.maximum) {
      await this.#link.read(offset, into)
      return
    }
    if (start > end) {
      await this.#readWithinBlock(offset, into)
      return
    }
    const middle = [...cutRange(start, end - start, this.blockSizes.maximum)]
    await allDone([
      this.#readWithinBlock(offset, into.subarray(0, start - offset)),
      ...middle.map((piece) =>
        this.#link.read(piece.offset, into.subarray(piece.offset - offset, piece.offset - offset + piece.length)),
      ),
      this.#readWithinBlock(end, into.subarray(end - offset)),
    ])
  }

  async #readWithinBlock(offset: number, into: Buffer): Promise<void> {
    if (into.length === 0) return
    const start = alignDown(offset, this.blockSizes.minimum)
    const block = await this.#readBlock(start)
    block.copy(into, 0, offset - start)
  }

  async #readBlock(offset: number): Promise<Buffer> {
    const block = Buffer.allocUnsafe(this.blockSizes.minimum)
    await this.#link.read(offset, block)
    return block
  }

  async #write(offset: number, length: number, chunks: readonly Buffer[], fua: boolean): Promise<void> {
    const { minimum, maximum } = this.blockSizes
    const aligned = isAligned(offset, minimum) && isAligned(length, minimum)
    const widened = aligned ? chunks : await this.#widen(offset, length, chunks)
    const pieces = cutChunks(alignDown(offset, minimum), widened, maximum)
    await allDone(pieces.map((piece) => this.#link.mutate({ kind: 'write', ...piece }, fua)))
  }

  /** Adds what stands around the range in its first and last block. */
  async #widen(offset: number, length: number, chunks: readonly Buffer[]): Promise<Buffer[]> {
    const { minimum } = this.blockSizes
    const end = offset + length
    const first = alignDown(offset, minimum)
    const last = alignDown(end, minimum)
    const head = first < offset ? this.#readBlock(first) : NOTHING
    const sameBlock = last === first && first < offset
    const tail = last === end ? NOTHING : sameBlock ? head : this.#readBlock(last)
    await allDone([head, tail])
    return [(await head).subarray(0, offset - first), ...chunks, (await tail).subarray(end - last)]
  }

  async #trim(offset: number, length: number, fua: boolean): Promise<void> {
    for (const piece of cutRange(offset, length, RANGE_MAX)) await this.#link.mutate({ kind: 'trim', ...piece }, fua)
  }

  async #writeZeroes(offset: number, length: number, fua: boolean, noHole: boolean): Promise<void> {
    const { start, end } = this.#wholeBlocks(offset, length)
    if (start >= end) {
      await this.#write(offset, length, [Buffer.alloc(length)], fua)
      return
    }
    await this.#write(offset, start - offset, [Buffer.alloc(start - offset)], fua)
    for (const piece of cutRange(start, end - start, RANGE_MAX)) {
      await this.#link.mutate({ kind: 'write-zeroes', noHole, ...piece }, fua)
    }
    await this.#write(end, offset + length - end, [Buffer.alloc(offset + length - end)], fua)
  }
}

/** Rejects with the first error, but only once all have settled: until then the caller's buffers are in use. */
async function allDone(tasks: readonly Promise<unknown>[]): Promise<void> {
  if (tasks.length === 1) {
    await tasks[0]
    return
  }
  for (const result of await Promise.allSettled(tasks)) if (result.status === 'rejected') throw result.reason
}

const SERVER_ERRORS: ReadonlyMap<string, DeviceErrorCode> = new Map([
  ['NBD_EPERM', 'EPERM'],
  ['NBD_EIO', 'EIO'],
  ['NBD_ENOMEM', 'ENOMEM'],
  // Only well-formed requests are sent, so it cannot mean what it says. QEMU's servers answer it for every errno
  // that the protocol has no value for, and disks fail with those: ETIMEDOUT, ENODATA, EILSEQ, EREMOTEIO.
  ['NBD_EINVAL', 'EIO'],
  ['NBD_ENOSPC', 'ENOSPC'],
  ['NBD_EOVERFLOW', 'EOVERFLOW'],
  ['NBD_ENOTSUP', 'ENOTSUP'],
])

/** @returns `undefined` for what is not the upstream's doing */
function errorCode(error: unknown): DeviceErrorCode | undefined {
  if (error instanceof UpstreamGoneError) return 'ENODEV'
  if (error instanceof NbdServerError) return SERVER_ERRORS.get(error.errorName) ?? 'EIO'
  return undefined
}
