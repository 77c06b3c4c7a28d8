/**
 * `InjectedDevice`: a disk that fails on order. The rules of its `FaultBook` decide which requests are struck, this carries
 * out what they order, and everything else goes to the disk below as it is. The true bytes and the faults are kept apart:
 * only a torn write, a corrupt write and a lying cache change what the disk below holds, and clearing the rules brings
 * everything else back.
 *
 * A request that no rule could strike is done as fast as the disk below does it, synchronously where that is possible.
 */
import type { FaultBook, Strike } from '../faults/fault-book.js'
import type { FaultAction } from '../faults/live-rule.js'
import { chunksLength, copyChunks, sliceChunks, zeroChunks } from '../util/chunks.js'
import type { Random } from '../util/random.js'
import { alignDown, alignUp, SECTOR_SIZE } from '../util/units.js'
import { assertInside } from './bounds.js'
import { corruptInPlace, misdirect } from './corruption.js'
import {
  DeviceError,
  after,
  type AllocationExtent,
  type Completion,
  type Device,
  type DeviceErrorCode,
  type DeviceOperation,
  type WriteOptions,
  type ZeroOptions,
} from './device.js'
import { PassThrough } from './pass-through.js'
import { VOLATILE_BYTES_MAX, VolatileLayer } from './volatile-layer.js'

export interface InjectedOptions {
  /** A rule cuts a connection. */
  readonly onDrop?: (connection: 'upstream' | 'clients') => void
  readonly onClosed?: () => void
}

interface Held {
  readonly operation: DeviceOperation
  readonly offset: number
  readonly length: number
  /** Of the entry in the log. */
  readonly number: number
}

type Of<Kind extends FaultAction['kind']> = Extract<FaultAction, { kind: Kind }>
type StrikeOf<Kind extends FaultAction['kind']> = Strike & { readonly action: Of<Kind> }

const isOf =
  <Kind extends FaultAction['kind']>(kind: Kind) =>
  (strike: Strike): strike is StrikeOf<Kind> =>
    strike.action.kind === kind

export class InjectedDevice extends PassThrough implements Device {
  protected readonly book: FaultBook
  readonly #options: InjectedOptions
  readonly #cache: VolatileLayer
  /** Requests that a rule keeps waiting. */
  readonly #held = new Set<Held>()

  constructor(below: Device, book: FaultBook, options: InjectedOptions = {}) {
    super(below)
    this.book = book
    this.#options = options
    this.#cache = new VolatileLayer(below)
  }

  /** Bytes that were acknowledged and are in memory alone. */
  get heldBytes(): number {
    return this.#cache.size
  }

  heldBy(operation: DeviceOperation, offset: number, length: number): number | undefined {
    for (const held of this.#held) {
      if (held.operation === operation && held.offset === offset && held.length === length) return held.number
    }
    return undefined
  }

  /** What is held in memory is lost. @returns how many bytes */
  cutPower(): number {
    return this.#cache.drop()
  }

  /** Rules were taken out: what they held in memory goes to the disk. @throws DeviceError of the disk below */
  async settle(): Promise<void> {
    if (!this.book.rules.some(({ rule }) => rule.effect === 'lie')) await this.#cache.writeBack()
  }

  override read(offset: number, into: Buffer): Completion {
    assertInside(this, offset, into.length)
    const strikes = this.book.strikes('read', offset, into.length)
    if (strikes.length > 0) return this.#readStruck(offset, into, strikes)
    return this.#cache.isEmpty ? this.below.read(offset, into) : this.#cache.read(offset, into)
  }

  override write(offset: number, chunks: readonly Buffer[], options?: WriteOptions): Completion {
    const length = chunksLength(chunks)
    assertInside(this, offset, length)
    const strikes = this.book.strikes('write', offset, length)
    if (strikes.length > 0) return this.#writeStruck(offset, chunks, strikes, options)
    if (this.#cache.overlaps(offset, length)) return this.#writePast(offset, chunks, options)
    return after(this.below.write(offset, chunks, options), () => this.#written(offset, length, options))
  }

  override readNow(offset: number, into: Buffer, start: number, length: number): boolean {
    if (!this.#cache.isEmpty || this.book.concerns('read', offset, length)) return false
    if (!super.readNow(offset, into, start, length)) return false
    this.book.tick()
    return true
  }

  override writeNow(offset: number, from: Buffer, start: number, length: number): boolean {
    if (!this.#cache.isEmpty || this.book.concerns('write', offset, length)) return false
    if (!super.writeNow(offset, from, start, length)) return false
    this.book.tick()
    this.#heal(offset, length)
    return true
  }

  /** What a fault does is not told to a pipe. */
  override readToPipe(): boolean {
    return false
  }

  override writeFromPipe(): number {
    return 0
  }

  override flush(): Completion {
    const strikes = this.book.strikes('flush', 0, this.size)
    if (strikes.length > 0) return this.#flushStruck(strikes)
    return this.#cache.isEmpty ? this.below.flush() : this.#flushHonestly()
  }

  override trim(offset: number, length: number, options?: WriteOptions): Completion {
    assertInside(this, offset, length)
    const strikes = this.book.strikes('trim', offset, length)
    if (strikes.length === 0 && this.#cache.isEmpty) return this.below.trim(offset, length, options)
    return this.#trimStruck(offset, length, strikes, options)
  }

  override writeZeroes(offset: number, length: number, options?: ZeroOptions): Completion {
    assertInside(this, offset, length)
    const strikes = this.book.strikes('write-zeroes', offset, length)
    if (strikes.length > 0 || !this.#cache.isEmpty) return this.#zeroStruck(offset, length, strikes, options)
    return after(this.below.writeZeroes(offset, length, options), () => {
      this.#heal(offset, length)
      return undefined
    })
  }

  /** A hole whose reads fail must not pass for zeros: where reads are struck, all is data. */
  override async extents(offset: number, length: number, countMax: number): Promise<readonly AllocationExtent[]> {
    assertInside(this, offset, length)
    const isKnown = this.#cache.isEmpty && !this.book.concerns('read', offset, length)
    return isKnown ? super.extents(offset, length, countMax) : [{ length, allocation: 'data' }]
  }

  /** As when the power of a machine is not cut: what is held gets to the disk. */
  override async close(): Promise<void> {
    await this.#cache.writeBack().catch(() => undefined)
    this.#options.onClosed?.()
    await super.close()
  }

  /** How a write that is to fail does so. */
  protected failWrite(_offset: number, _chunks: readonly Buffer[], failure: DeviceError): Promise<void> {
    return Promise.reject(failure)
  }

  // --- What is done to requests that were struck -----------------------------------------------------------------------

  /** Waits, and cuts connections, as ordered. @returns the failure that comes after that, if there is one */
  async #suffer(
    strikes: readonly Strike[],
    operation: DeviceOperation,
    offset: number,
    length: number,
  ): Promise<DeviceError | undefined> {
    for (const { action, number } of strikes) {
      if (action.kind === 'delay' || action.kind === 'hang') {
        const held = { operation, offset, length, number }
        this.#held.add(held)
        await (action.kind === 'delay' ? elapsed(action.ms) : released(action))
        this.#held.delete(held)
      } else if (action.kind === 'drop-connection') this.#options.onDrop?.(action.connection)
      else if (action.kind === 'error' || action.kind === 'gone')
        return this.#failure(action.errno, operation, offset, length, number)
    }
    return undefined
  }

  #failure(code: DeviceErrorCode, operation: DeviceOperation, offset: number, length: number, number: number) {
    const fault = number === 0 ? {} : { fault: number }
    return new DeviceError(code, this.name, operation, offset, length, fault)
  }

  async #readStruck(offset: number, into: Buffer, strikes: readonly Strike[]): Promise<void> {
    const failure = await this.#suffer(strikes, 'read', offset, into.length)
    if (failure) throw failure
    await this.#cache.read(offset, into)
    for (const { rule, action } of strikes.filter(isOf('corrupt'))) {
      const { corruption, bits, random } = action
      if (corruption === 'misdirected') await this.#readElsewhere(offset, into, random)
      else if (corruption !== 'stale')
        corruptInPlace(
          into,
          offset,
          sectorsOf(rule.area.within(offset, offset + into.length), offset, into.length),
          corruption,
          bits,
          random,
        )
    }
  }

  async #readElsewhere(offset: number, into: Buffer, random: Random): Promise<void> {
    const place = misdirect(offset, into.length, this.size, random)
    if (place !== undefined) await this.#cache.read(place, into)
  }

  async #writeStruck(
    offset: number,
    chunks: readonly Buffer[],
    strikes: readonly Strike[],
    options?: WriteOptions,
  ): Promise<void> {
    const length = chunksLength(chunks)
    const failure = await this.#suffer(strikes, 'write', offset, length)
    if (failure) {
      await this.failWrite(offset, chunks, failure)
      return
    }
    const [corrupt, tear, lie] = [
      strikes.filter(isOf('corrupt')),
      strikes.find(isOf('tear')),
      strikes.find(isOf('lie')),
    ]
    const corrupted = corrupt.length === 0 ? { offset, chunks } : this.#corrupted(offset, chunks, corrupt)
    if (corrupted === undefined) return
    if (tear) await this.#tear(corrupted.offset, corrupted.chunks, tear)
    else if (lie) await this.#hold(corrupted.offset, corrupted.chunks, lie)
    else await this.#writePast(corrupted.offset, corrupted.chunks, options)
    if (lie && options?.fua) await this.flush()
  }

  /** What is written instead, and where; `undefined`: nothing. */
  #corrupted(
    offset: number,
    chunks: readonly Buffer[],
    strikes: readonly StrikeOf<'corrupt'>[],
  ): { offset: number; chunks: readonly Buffer[] } | undefined {
    const length = chunksLength(chunks)
    const content = Buffer.allocUnsafe(length)
    copyChunks(chunks, content)
    let place = offset
    for (const { rule, action } of strikes) {
      const { corruption, bits, random } = action
      if (corruption === 'stale') return undefined
      if (corruption === 'misdirected') place = misdirect(offset, length, this.size, random) ?? offset
      else
        corruptInPlace(
          content,
          offset,
          sectorsOf(rule.area.within(offset, offset + length), offset, length),
          corruption,
          bits,
          random,
        )
    }
    return { offset: place, chunks: [content] }
  }

  async #tear(offset: number, chunks: readonly Buffer[], { action, number }: StrikeOf<'tear'>): Promise<void> {
    const length = chunksLength(chunks)
    for (const { start, end } of tornSectors(offset, length, action)) {
      await this.#writePast(start, sliceChunks(chunks, start - offset, end - offset))
    }
    if (!action.acknowledge) throw this.#failure('EIO', 'write', offset, length, number)
  }

  async #hold(offset: number, chunks: readonly Buffer[], { action }: StrikeOf<'lie'>): Promise<void> {
    await this.#cache.write(offset, chunks, () => action.random.next() * 100 >= action.keptPercent)
    this.#heal(offset, chunksLength(chunks))
  }

  /** What is held of these sectors is older. */
  async #writePast(offset: number, chunks: readonly Buffer[], options?: WriteOptions): Promise<void> {
    const length = chunksLength(chunks)
    if (this.#cache.overlaps(offset, length)) await this.#cache.writeBack(offset, length)
    await this.below.write(offset, chunks, options)
    await this.#written(offset, length, options)
  }

  /** FUA is a write and a flush. */
  #written(offset: number, length: number, options?: WriteOptions): Completion {
    this.#heal(offset, length)
    if (!options?.fua || !this.book.concerns('flush', 0, this.size)) return undefined
    return this.#flushStruck(this.book.strikes('flush', 0, this.size))
  }

  async #flushStruck(strikes: readonly Strike[]): Promise<void> {
    const failure = await this.#suffer(strikes, 'flush', 0, this.size)
    if (failure) throw failure
    if (!strikes.some(isOf('lie'))) await this.#flushHonestly()
  }

  async #flushHonestly(): Promise<void> {
    await this.#cache.writeBack()
    await this.below.flush()
  }

  async #trimStruck(offset: number, length: number, strikes: readonly Strike[], options?: WriteOptions): Promise<void> {
    const failure = await this.#suffer(strikes, 'trim', offset, length)
    if (failure) throw failure
    await this.#cache.writeBack(offset, length)
    await this.below.trim(offset, length, options)
  }

  async #zeroStruck(offset: number, length: number, strikes: readonly Strike[], options?: ZeroOptions): Promise<void> {
    const failure = await this.#suffer(strikes, 'write-zeroes', offset, length)
    if (failure) throw failure
    const lie = strikes.find(isOf('lie'))
    if (lie && length <= VOLATILE_BYTES_MAX && !options?.fast) {
      await this.#hold(offset, zeroChunks(length), lie)
      if (options?.fua) await this.flush()
      return
    }
    await this.#cache.writeBack(offset, length)
    await this.below.writeZeroes(offset, length, options)
    this.#heal(offset, length)
  }

  /** The sectors that lie whole in what was written are good again, if their rule says so. */
  #heal(offset: number, length: number): void {
    const start = alignUp(offset, SECTOR_SIZE)
    const end = offset + length === this.size ? this.size : alignDown(offset + length, SECTOR_SIZE)
    if (start < end) this.book.heal(start, end - start)
  }
}

const elapsed = (ms: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, ms)
  })

/** Until the rule is cleared, or its time is over. */
async function released({ ms, released: cleared }: Of<'hang'>): Promise<void> {
  if (ms === undefined) return cleared
  let timer: NodeJS.Timeout | undefined
  const timeOver = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms)
  })
  await Promise.race([cleared, timeOver])
  clearTimeout(timer)
}

/** Ranges widened to sectors, but not beyond the request. */
function sectorsOf(ranges: readonly { start: number; end: number }[], offset: number, length: number) {
  return ranges.map(({ start, end }) => ({
    start: Math.max(offset, alignDown(start, SECTOR_SIZE)),
    end: Math.min(offset + length, alignUp(end, SECTOR_SIZE)),
  }))
}

/** Those parts of a write that reach the disk: never all of them, if it has more than one. */
function tornSectors(
  offset: number,
  length: number,
  { tearing, random }: Of<'tear'>,
): { start: number; end: number }[] {
  const sectors: { start: number; end: number }[] = []
  for (let start = offset; start < offset + length;) {
    const end = Math.min(alignDown(start, SECTOR_SIZE) + SECTOR_SIZE, offset + length)
    sectors.push({ start, end })
    start = end
  }
  if (tearing === 'prefix') return sectors.slice(0, random.below(sectors.length))
  const lost = random.below(sectors.length)
  return sectors.filter((_, n) => random.below(2) === 0 && n !== lost)
}
