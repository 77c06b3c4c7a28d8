/**
 * The remapper: a `Device` over a failing main disk and its spares. Every request holds the range lock of its blocks,
 * shared for reads and exclusive for everything that changes data, so that repair, remapping and client I/O never see
 * a block half moved. A fast path asks two questions, "may this touch a remap?" and "does anybody hold these blocks?", and
 * passes straight to main. When main is done at once, that was all: nothing else ran meanwhile, so no lock was needed. Only
 * for a request that main is still working on is the lock taken, in the same turn.
 */
import {
  DeviceError,
  type AllocationExtent,
  type BlockSizes,
  type Completion,
  type Device,
  type DeviceErrorCode,
  type DeviceOperation,
  type WriteOptions,
  type ZeroOptions,
} from '../device/device.js'
import { assertInside } from '../device/bounds.js'
import { lap } from '../device/lap.js'
import type { SparePool } from '../spare/pool.js'
import { chunksLength, sliceChunks, zeroChunks } from '../util/chunks.js'
import type { Log } from '../util/log.js'
import { RangeLock, type Release } from '../util/range-lock.js'
import { KiB, mainBlock, MiB, SECTOR_SIZE, type MainBlock, type SlotNumber } from '../util/units.js'
import { DataBlocks } from './data-blocks.js'
import { ErrorHistory } from './error-history.js'
import type { RemapEvents, RemapEventSink } from './events.js'
import { allocationExtents, stateExtents, type StateExtent, type StatePlacements } from './extents.js'
import { everyPart, type VisitPart } from './parts.js'
import { splitByPlace, type Piece } from './pieces.js'
import { Lifetime } from './lifetime.js'
import { Placement } from './placement.js'
import { judge, type ReadPolicy, type SparePolicy } from './policy.js'
import { Relocations } from './relocations.js'
import { Repair } from './repair.js'
import type { Replica } from './replica.js'
import { newStatistics, type Statistics, type TimedOperation } from './statistics.js'
import { Suspension } from './suspension.js'
import type { TableSettings } from './table-settings.js'
import { RemapTable } from './table.js'
import type { Pipe } from '../util/pipe.js'

export interface RemapTargetOptions {
  readonly main: Device
  readonly pool: SparePool
  readonly policy: ReadPolicy
  readonly replica?: Replica | undefined
  readonly spares: SparePolicy
  /** dm-remap's if absent. */
  readonly tableSettings?: TableSettings | undefined
  readonly emit: RemapEventSink
  readonly log: Log
}

const MAIN = 'main'
/** Buckets of the table that are moved in one turn of the event loop: some tens of microseconds. */
const BUCKETS_PER_TURN = 128
/** Zeros are written in steps of this length where the disk cannot write them by itself. */
const ZERO_STEP = 4 * MiB

export class RemapTarget implements Device {
  readonly main: Device
  readonly pool: SparePool
  readonly table: RemapTable
  readonly placement: Placement
  readonly statistics: Statistics = newStatistics()
  readonly #latencies = this.statistics.latencies
  readonly lifetime: Lifetime
  readonly errors: ErrorHistory
  readonly lock = new RangeLock()
  readonly suspension = new Suspension(this)
  readonly replica: Replica | undefined
  readonly blocks: DataBlocks
  readonly emit: RemapEventSink
  readonly relocations = new Relocations()
  readonly #repair: Repair
  readonly #placements: StatePlacements
  readonly #log: Log
  readonly #superseded: SlotNumber[] = []
  #isFenced = false

  constructor(options: RemapTargetOptions) {
    const { main, pool, spares, log } = options
    this.main = main
    this.pool = pool
    this.blocks = new DataBlocks(pool)
    this.replica = options.replica
    this.#log = log
    // Whatever changes a level is told to the world, so this is where the levels are kept up.
    const emit: RemapEventSink = (event, data) => {
      this.#updateLevels()
      this.errors.observe(event, data)
      if (event === 'REMAP_ADDED') this.#countMoved(data as RemapEvents['REMAP_ADDED'])
      options.emit(event, data)
    }
    this.emit = emit
    this.lifetime = new Lifetime(pool, this.statistics)
    this.errors = new ErrorHistory(main.size, pool.blockSize)
    this.errors.restore(pool.errors, pool.moves.count)
    pool.counted = () => ({ lifetime: this.lifetime.total, errors: this.errors.note(pool.moves.count) })
    this.table = newTable(options, emit)
    const generation = this.#fillTable()
    this.placement = new Placement({ pool, table: this.table, generation, lowShare: spares.lowShare, emit, log })
    const { onExhausted } = spares
    const { placement, statistics } = this
    this.#repair = new Repair({ ...options, onExhausted, emit, placement, statistics })
    this.#placements = {
      blockSize: pool.blockSize,
      lookup: (block) => this.table.lookup(block),
      skipUnmapped: (block) => this.table.skipUnmapped(block),
      hasLost: (slot) => pool.hasLost(slot),
      lostMask: (slot) => pool.get(slot).lostMask,
    }
    this.#updateLevels()
  }

  get name(): string {
    return this.main.name
  }

  get size(): number {
    return this.main.size
  }

  get readOnly(): boolean {
    return this.main.readOnly
  }

  get blockSizes(): BlockSizes {
    return { minimum: 1, preferred: Math.max(4 * KiB, this.main.blockSizes.preferred), maximum: 64 * MiB }
  }

  read(offset: number, into: Buffer): Completion {
    const { length } = into
    assertInside(this, offset, length)
    if (length === 0) return undefined
    if (this.#isFenced) return this.#refuse('ESHUTDOWN', 'read', offset, length)
    this.#beginRead(length)
    const place = this.#plainPlace(offset, length, 'shared')
    if (place === undefined) return this.#timed('read', this.#readUnderLock(offset, into))
    const pending = place === MAIN ? this.main.read(offset, into) : this.#readSpare(place, offset, into)
    return this.#timed('read', pending && this.#readUnderLock(offset, into, pending))
  }

  write(offset: number, chunks: readonly Buffer[], options?: WriteOptions): Completion {
    const length = chunksLength(chunks)
    assertInside(this, offset, length)
    if (length === 0) return undefined
    if (this.#mayNotWrite) return this.#refuseWrite('write', offset, length)
    this.#beginWrite(length)
    const place = this.placement.inDoubt.size > 0 ? undefined : this.#plainPlace(offset, length, 'exclusive')
    if (place === undefined) return this.#timed('write', this.#writeUnderLock(offset, length, chunks, options))
    if (place !== MAIN) return this.#timed('write', this.#writeSpare(place, offset, length, chunks, options))
    const pending = this.main.write(offset, chunks, options)
    return this.#timed('write', pending && this.#writeUnderLock(offset, length, chunks, options, pending))
  }

  /** What goes wrong is left to `read` and `write`. */
  readNow(offset: number, into: Buffer, start: number, length: number): boolean {
    assertInside(this, offset, length)
    if (this.#isFenced) return false
    this.#beginRead(length)
    return this.#endRead(length, this.#readPlacesNow(offset, into, start, length))
  }

  writeNow(offset: number, from: Buffer, start: number, length: number): boolean {
    assertInside(this, offset, length)
    if (this.#mayNotWrite || this.placement.inDoubt.size > 0) return false
    this.#beginWrite(length)
    return this.#endWrite(length, this.#writePlacesNow(offset, from, start, length) ? length : 0)
  }

  /**
   * From main alone: a block there never holds what belongs to another one. A spare block may, as soon as it is free again, and
   * what a pipe has given to a socket is the page itself, which the client may not have taken yet.
   */
  readToPipe(offset: number, length: number, pipe: Pipe): boolean {
    assertInside(this, offset, length)
    if (this.#isFenced || !this.#isOnMain(offset, length, 'shared')) return false
    this.#beginRead(length)
    return this.#endRead(length, this.main.readToPipe?.(offset, length, pipe) ?? false)
  }

  writeFromPipe(offset: number, length: number, pipe: Pipe): number {
    assertInside(this, offset, length)
    if (this.#mayNotWrite || this.placement.inDoubt.size > 0) return 0
    const place = this.#isOnMain(offset, length, 'exclusive') ? MAIN : this.#plainPlace(offset, length, 'exclusive')
    if (place === undefined) return 0
    this.#beginWrite(length)
    const written = this.#placeWriteFromPipe(place, offset, length, pipe)
    this.#countedNow(place, this.#endWrite(length, written))
    return written
  }

  /** Counted first: the disk may hang. */
  #beginRead(length: number): void {
    this.statistics.reads++
    this.statistics.bytesRead += length
    lap.ms = 0
  }

  #beginWrite(length: number): void {
    this.statistics.writes++
    this.statistics.bytesWritten += length
    lap.ms = 0
  }

  /** What was not done at once does not count yet. @returns whether it was */
  #endRead(length: number, isDone: boolean): boolean {
    if (isDone) this.#latencies.read.record(lap.ms)
    else {
      this.statistics.reads--
      this.statistics.bytesRead -= length
    }
    return isDone
  }

  /** @param written bytes of it. @returns whether that was all */
  #endWrite(length: number, written: number): boolean {
    const isDone = written === length
    if (isDone) this.#latencies.write.record(lap.ms)
    else this.statistics.writes--
    this.statistics.bytesWritten -= length - written
    return isDone
  }

  /** From now on nothing is read and nothing is written: the disks belong to another server. */
  fence(): void {
    this.#isFenced = true
  }

  get #mayNotWrite(): boolean {
    return this.#isFenced || this.readOnly
  }

  flush(): Completion {
    if (this.#isFenced) return this.#refuse('ESHUTDOWN', 'flush', 0, 0)
    this.statistics.flushes++
    lap.ms = 0
    return this.#timed('flush', this.#counted(this.#flush()))
  }

  async #flush(): Promise<void> {
    const { resumed } = this.suspension
    if (resumed !== undefined) await resumed
    await all([this.main.flush(), this.pool.flush()])
  }

  trim(offset: number, length: number, options?: WriteOptions): Completion {
    assertInside(this, offset, length)
    if (length === 0) return undefined
    if (this.#mayNotWrite) return this.#refuseWrite('trim', offset, length)
    this.statistics.trims++
    lap.ms = 0
    const trim = (): Promise<void> =>
      all(this.#split(offset, length).map((piece) => this.#trimPiece(piece, options?.fua ?? false)))
    return this.#timed('trim', this.#underLock('exclusive', offset, length, trim))
  }

  writeZeroes(offset: number, length: number, options?: ZeroOptions): Completion {
    assertInside(this, offset, length)
    if (length === 0) return undefined
    if (this.#mayNotWrite) return this.#refuseWrite('write-zeroes', offset, length)
    this.statistics.writeZeroes++
    lap.ms = 0
    const write = (): Promise<void> => this.#writeZeroes(offset, length, options ?? {})
    return this.#timed('write-zeroes', this.#underLock('exclusive', offset, length, write))
  }

  /**
   * Without the range lock, which a long range would hold against all writes: what happens meanwhile to a block may be
   * in the answer or not, as with any two requests in flight at once.
   */
  async extents(offset: number, length: number, countMax: number): Promise<readonly AllocationExtent[]> {
    assertInside(this, offset, length)
    const below = await this.main.extents?.(offset, length, countMax)
    if (below === undefined) return [{ length, allocation: 'data' }]
    return allocationExtents(offset, countMax, below, this.#placements)
  }

  /** What the metadata context `nbd-remap:state` says of the range. */
  stateExtents(offset: number, length: number, countMax: number): readonly StateExtent[] {
    assertInside(this, offset, length)
    return stateExtents(offset, length, countMax, this.#placements)
  }

  /**
   * Reads what clients would read, from where it is.
   * @returns whether all of it is there; nothing was repaired
   * @throws DeviceError when that says nothing of the blocks
   */
  examine(offset: number, into: Buffer): Promise<boolean> {
    return this.#holding('shared', offset, into.length, async () => {
      try {
        return await this.#readPieces(offset, into)
      } catch (error) {
        if (error instanceof DeviceError && judge(error) === 'bad-block') return false
        throw error
      }
    })
  }

  /** Reads what a plain read could not, and repairs it on the way. @throws DeviceError, EIO for what is lost */
  heal(offset: number, into: Buffer): Promise<void> {
    return this.#holding('exclusive', offset, into.length, () => this.#repairRead(offset, into))
  }

  /** Moves a block to the spare while it can be read. @throws DeviceError, SpareExhaustedError, InDoubtError */
  moveWeak(block: MainBlock): Promise<void> {
    const { blockSize } = this.pool
    const offset = block * blockSize
    const content = Buffer.alloc(Math.min(blockSize, this.size - offset))
    return this.#holding('exclusive', offset, content.length, async () => {
      if (this.table.lookup(block) !== undefined) return
      await this.main.read(offset, content)
      await this.placement.place([{ block, content: [content], lostMask: 0n, reason: 'weak' }])
    })
  }

  /** Retires the slots that lost to a newer one, so that they never come back. Before anything is served. */
  async settle(): Promise<void> {
    await this.placement.retire(this.#superseded)
    this.#updateLevels()
  }

  /** From now on. */
  setSparePolicy({ onExhausted, lowShare }: SparePolicy): void {
    this.placement.lowShare = lowShare
    this.#repair.onExhausted = onExhausted
  }

  /** Changes how eagerly the table grows and shrinks. */
  configureTable(settings: TableSettings): void {
    this.table.configure(settings)
    this.#updateLevels()
  }

  /** A spare came or left, or is about to leave. */
  poolChanged(): void {
    this.#updateLevels()
    this.placement.reportLevel()
  }

  #updateLevels(): void {
    this.statistics.remaps = this.table.count
    this.statistics.buckets = this.table.buckets
    this.statistics.resizes = this.table.resizes
    this.statistics.freeBlocks = this.pool.free
    this.statistics.spareBlocks = this.pool.total
    Object.assign(this.statistics, this.table.settings)
  }

  /** What an operator moves says nothing of the disks. */
  #countMoved({ reason, sectors, 'lost-sectors': lost }: RemapEvents['REMAP_ADDED']): void {
    if (reason === 'operator' || reason === 'spare-removed') return
    const blocks = (sectors * SECTOR_SIZE) / this.pool.blockSize
    this.statistics.failedBlocks += blocks
    if (reason === 'weak') this.statistics.weakBlocks += blocks
    this.statistics.lostSectors += lost
  }

  /** Closes all disks, and the replica. To say that the stop was a clean one is the business of `Pair`. */
  async close(): Promise<void> {
    const spares = this.pool.members.map(({ spare }) => spare.device.close())
    await all([this.main.close(), ...spares, this.replica?.device.close()])
  }

  /**
   * Where the whole request lies, if that is one place, nothing of it is lost, and nobody holds its blocks: `MAIN`, or the
   * slot of its first block, which the slots of the others follow.
   */
  #plainPlace(offset: number, length: number, mode: 'shared' | 'exclusive'): SlotNumber | typeof MAIN | undefined {
    const { blockSize } = this.pool
    const first = Math.floor(offset / blockSize)
    const end = Math.ceil((offset + length) / blockSize)
    if (!this.lock.isFree(first, end, mode)) return undefined
    if (!this.table.mayTouch(mainBlock(first), end - first)) return MAIN
    return this.table.plainRun(mainBlock(first), end - first)
  }

  /** Whether all of it lies on main, and nobody holds its blocks. */
  #isOnMain(offset: number, length: number, mode: 'shared' | 'exclusive'): boolean {
    const { blockSize } = this.pool
    const first = Math.floor(offset / blockSize)
    const end = Math.ceil((offset + length) / blockSize)
    if (!this.lock.isFree(first, end, mode)) return false
    const [block, count] = [mainBlock(first), end - first]
    return !this.table.mayTouch(block, count) || this.table.unmappedLength(block, count) === count
  }

  #readPlacesNow(offset: number, into: Buffer, start: number, length: number): boolean {
    const place = this.#plainPlace(offset, length, 'shared')
    if (place !== undefined) return this.#countedNow(place, this.#placeReadNow(place, offset, into, start, length))
    return this.#everyPart('shared', offset, length, (slot, at, partLength) =>
      this.#placeReadNow(slot ?? MAIN, at, into, start + at - offset, partLength),
    )
  }

  #writePlacesNow(offset: number, from: Buffer, start: number, length: number): boolean {
    const place = this.#plainPlace(offset, length, 'exclusive')
    if (place !== undefined) return this.#countedNow(place, this.#placeWriteNow(place, offset, from, start, length))
    return this.#everyPart('exclusive', offset, length, (slot, at, partLength) =>
      this.#placeWriteNow(slot ?? MAIN, at, from, start + at - offset, partLength),
    )
  }

  #countedNow(place: SlotNumber | typeof MAIN, isDone: boolean): boolean {
    if (isDone && place !== MAIN) this.statistics.remappedRequests++
    return isDone
  }

  #everyPart(mode: 'shared' | 'exclusive', offset: number, length: number, visit: VisitPart): boolean {
    const { blockSize } = this.pool
    const isFree = this.lock.isFree(Math.floor(offset / blockSize), Math.ceil((offset + length) / blockSize), mode)
    if (!isFree || !everyPart(this.table, blockSize, offset, length, visit)) return false
    this.statistics.remappedRequests++
    return true
  }

  #placeReadNow(place: SlotNumber | typeof MAIN, offset: number, into: Buffer, start: number, length: number): boolean {
    if (place === MAIN) return this.main.readNow?.(offset, into, start, length) ?? false
    const member = this.pool.memberOf(place)
    return member.readNow(member.dataOffset(place) + (offset % this.pool.blockSize), into, start, length)
  }

  #placeWriteNow(
    place: SlotNumber | typeof MAIN,
    offset: number,
    from: Buffer,
    start: number,
    length: number,
  ): boolean {
    if (place === MAIN) return this.main.writeNow?.(offset, from, start, length) ?? false
    const member = this.pool.memberOf(place)
    return member.writeNow(member.dataOffset(place) + (offset % this.pool.blockSize), from, start, length)
  }

  #placeWriteFromPipe(place: SlotNumber | typeof MAIN, offset: number, length: number, pipe: Pipe): number {
    if (place === MAIN) return this.main.writeFromPipe?.(offset, length, pipe) ?? 0
    const member = this.pool.memberOf(place)
    return member.writeFromPipe(member.dataOffset(place) + (offset % this.pool.blockSize), length, pipe)
  }

  #readSpare(slot: SlotNumber, offset: number, into: Buffer): Completion {
    this.statistics.remappedRequests++
    const member = this.pool.memberOf(slot)
    return member.read(member.dataOffset(slot) + (offset % this.pool.blockSize), into)
  }

  #writeSpare(
    slot: SlotNumber,
    offset: number,
    length: number,
    chunks: readonly Buffer[],
    options?: WriteOptions,
  ): Completion {
    this.statistics.remappedRequests++
    const member = this.pool.memberOf(slot)
    const pending = member.write(member.dataOffset(slot) + (offset % this.pool.blockSize), chunks, options)
    if (pending === undefined) return undefined
    return this.#underLock('exclusive', offset, length, async () => {
      try {
        await pending
      } catch (error) {
        if (!(error instanceof DeviceError) || error.operation === 'flush') throw error
        await this.#write(offset, length, chunks, options?.fua ?? false)
      }
    })
  }

  /** Runs `action` while [offset, offset + length) widened to whole blocks is held. */
  async #underLock<T>(
    mode: 'shared' | 'exclusive',
    offset: number,
    length: number,
    action: () => Promise<T>,
  ): Promise<T> {
    try {
      return await this.#holding(mode, offset, length, action)
    } catch (error) {
      this.statistics.failedRequests++
      throw error
    }
  }

  /** The same for nobody's request. */
  async #holding<T>(
    mode: 'shared' | 'exclusive',
    offset: number,
    length: number,
    action: () => Promise<T>,
  ): Promise<T> {
    const { blockSize } = this.pool
    const first = Math.floor(offset / blockSize)
    const end = Math.ceil((offset + length) / blockSize)
    const claim: Release | Promise<Release> = this.lock[mode](first, end)
    const release = typeof claim === 'function' ? claim : await claim
    try {
      return await action()
    } finally {
      release()
    }
  }

  /** Records how long the request takes, or took if it is done already: then the disk has looked at the clock. */
  #timed(operation: TimedOperation, request: Completion): Completion {
    const latencies = this.#latencies[operation]
    if (request === undefined) {
      latencies.record(lap.ms)
      return undefined
    }
    const startMs = performance.now() - lap.ms
    const record = (): void => {
      latencies.record(performance.now() - startMs)
    }
    request.then(record, record)
    return request
  }

  async #counted(request: Promise<void>): Promise<void> {
    await request.catch((error: unknown) => {
      this.statistics.failedRequests++
      throw error
    })
  }

  // --- Reads -------------------------------------------------------------------------------------------------------

  /** `pending`: main is reading it already. */
  async #readUnderLock(offset: number, into: Buffer, pending?: Completion): Promise<void> {
    const { length } = into
    const failure = await this.#underLock('shared', offset, length, () => this.#tryRead(offset, into, pending))
    if (failure === undefined) return
    await this.#underLock('exclusive', offset, length, () => this.#repairRead(offset, into))
  }

  /** @returns the error that calls for repair; every other error is thrown */
  async #tryRead(offset: number, into: Buffer, pending: Completion): Promise<DeviceError | 'lost' | undefined> {
    try {
      if (pending !== undefined) await pending
      else if (!this.#mayTouch(offset, into.length)) await this.main.read(offset, into)
      else if (!(await this.#readPieces(offset, into))) return 'lost'
      return undefined
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error
      const verdict = judge(error)
      if (verdict === 'bad-block') return error
      // A disk that is gone or hangs is not remapped, but read in its place.
      if (verdict === 'gone' && (await this.replica?.read(offset, into))) return undefined
      throw error
    }
  }

  /** @returns false when a lost sector may be among them, and nothing was read */
  async #readPieces(offset: number, into: Buffer): Promise<boolean> {
    const pieces = this.#split(offset, into.length)
    if (pieces.some((piece) => piece.place === 'spare' && piece.hasLost)) return false
    await all(
      pieces.map((piece) => this.#readPlain(piece, into.subarray(piece.offset - offset).subarray(0, piece.length))),
    )
    return true
  }

  #readPlain(piece: Piece, into: Buffer): Completion {
    if (piece.place === 'main') return this.main.read(piece.offset, into)
    const member = this.pool.memberOf(piece.slot)
    return member.spare.device.read(member.dataOffset(piece.slot) + piece.offsetInBlock, into)
  }

  async #repairRead(offset: number, into: Buffer): Promise<void> {
    for (const piece of this.#split(offset, into.length)) {
      const from = piece.offset - offset
      const target = into.subarray(from, from + piece.length)
      if (piece.place === 'main') await this.#repair.readMain(piece.offset, target)
      else await this.#repair.readSpare(piece, target)
    }
  }

  // --- Writes ------------------------------------------------------------------------------------------------------

  /** `pending`: main is writing it already. */
  #writeUnderLock(
    offset: number,
    length: number,
    chunks: readonly Buffer[],
    { fua = false }: WriteOptions = {},
    pending?: Completion,
  ): Promise<void> {
    return this.#underLock('exclusive', offset, length, () =>
      pending === undefined
        ? this.#write(offset, length, chunks, fua)
        : this.#finishWriteMain(pending, offset, chunks, fua),
    )
  }

  async #write(offset: number, length: number, chunks: readonly Buffer[], fua: boolean): Promise<void> {
    await this.#settleDoubt(offset, length)
    if (!this.#mayTouch(offset, length)) {
      await this.#writeMain(offset, chunks, fua)
      return
    }
    await all(
      this.#split(offset, length).map((piece) => {
        const from = piece.offset - offset
        return this.#writePiece(piece, sliceChunks(chunks, from, from + piece.length), fua)
      }),
    )
  }

  async #writePiece(piece: Piece, chunks: readonly Buffer[], fua: boolean): Promise<void> {
    if (piece.place === 'main') return this.#writeMain(piece.offset, chunks, fua)
    if (piece.hasLost) await this.#repair.writeLost(piece, chunks, fua)
    else await this.#repair.writeSpare(piece, chunks, fua)
  }

  #writeMain(offset: number, chunks: readonly Buffer[], fua: boolean): Promise<void> {
    return this.#finishWriteMain(this.main.write(offset, chunks, { fua }), offset, chunks, fua)
  }

  async #finishWriteMain(pending: Completion, offset: number, chunks: readonly Buffer[], fua: boolean): Promise<void> {
    try {
      await pending
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error
      await this.#repair.writeMain(offset, chunks, error)
      // The repair wrote the good parts of the request without FUA.
      if (fua) await this.main.flush()
    }
  }

  /** Trimming is a hint: a remapped block keeps its place, and a bad block that cannot be trimmed loses nothing. */
  async #trimPiece(piece: Piece, fua: boolean): Promise<void> {
    if (piece.place === 'spare') return
    try {
      await this.main.trim(piece.offset, piece.length, { fua })
    } catch (error) {
      if (!(error instanceof DeviceError) || judge(error) === 'gone' || error.operation === 'flush') throw error
      this.#log.debug(`trim ignored: ${error.message}`)
    }
  }

  async #writeZeroes(offset: number, length: number, { fast = false, ...options }: ZeroOptions): Promise<void> {
    await this.#settleDoubt(offset, length)
    let pieces: readonly Piece[] = this.#split(offset, length)
    if (fast) pieces = await this.#zeroFast(pieces, offset, length, options)
    await all(pieces.map((piece) => this.#zeroPiece(piece, options)))
  }

  /**
   * Zeros the longest piece if main does that fast. Nothing has changed when it does not. A request most of which is
   * that piece takes less time than a write, whatever the rest costs.
   * @returns the other pieces
   */
  async #zeroFast(pieces: readonly Piece[], offset: number, length: number, options: ZeroOptions): Promise<Piece[]> {
    const longest = pieces.reduce((a, b) => (b.length > a.length ? b : a))
    if (longest.place === 'spare' || longest.length < length / 2) {
      throw new DeviceError('ENOTSUP', this.name, 'write-zeroes', offset, length)
    }
    await this.#zeroPiece(longest, { ...options, fast: true })
    return pieces.filter((piece) => piece !== longest)
  }

  async #zeroPiece(piece: Piece, options: ZeroOptions): Promise<void> {
    const fua = options.fua ?? false
    if (piece.place === 'spare') return this.#writePiece(piece, zeroChunks(piece.length), fua)
    try {
      await this.main.writeZeroes(piece.offset, piece.length, options)
    } catch (error) {
      if (!(error instanceof DeviceError) || judge(error) === 'gone') throw error
      if (options.fast && error.code === 'ENOTSUP') throw error
      for (let done = 0; done < piece.length; done += ZERO_STEP) {
        const step = Math.min(ZERO_STEP, piece.length - done)
        await this.#writeMain(piece.offset + done, zeroChunks(step), fua)
      }
    }
  }

  /** A read-only disk fails writes with an error that would otherwise pass for that of a bad block. */
  #refuseWrite(operation: DeviceOperation, offset: number, length: number): Promise<never> {
    return this.#refuse(this.#isFenced ? 'ESHUTDOWN' : 'EPERM', operation, offset, length)
  }

  #refuse(code: DeviceErrorCode, operation: DeviceOperation, offset: number, length: number): Promise<never> {
    return Promise.reject(new DeviceError(code, this.name, operation, offset, length))
  }

  /** Writes into blocks whose metadata is in doubt would be hidden, or not, after the next start. @throws DeviceError */
  async #settleDoubt(offset: number, length: number): Promise<void> {
    const { inDoubt } = this.placement
    if (inDoubt.size === 0) return
    const { first, count } = this.#blocks(offset, length)
    for (const block of [...inDoubt]) {
      if (block < first || block >= first + count) continue
      await this.#repair.settleDoubt(block, this.table.lookup(block))
    }
  }

  // --- Both --------------------------------------------------------------------------------------------------------

  #mayTouch(offset: number, length: number): boolean {
    const { first, count } = this.#blocks(offset, length)
    if (!this.table.mayTouch(first, count)) return false
    this.statistics.remappedRequests++
    return true
  }

  #split(offset: number, length: number): Piece[] {
    const { first, count } = this.#blocks(offset, length)
    if (!this.table.mayTouch(first, count)) return [{ place: 'main', offset, length }]
    return splitByPlace(offset, length, this.#placements)
  }

  #blocks(offset: number, length: number): { first: MainBlock; count: number } {
    const first = Math.floor(offset / this.pool.blockSize)
    return { first: mainBlock(first), count: Math.ceil((offset + length) / this.pool.blockSize) - first }
  }

  /**
   * Fills the table from the slots. Two slots for one block are what a crash in the middle of moving it leaves behind:
   * the higher generation is the newer one, and `settle` retires the other.
   * @returns the next generation to use
   */
  #fillTable(): number {
    let highest = 0
    for (const { number, slot } of this.pool.usedSlots()) {
      highest = Math.max(highest, slot.generation)
      if (slot.state !== 'remapped') continue
      const other = this.table.lookup(slot.mainBlock)
      const isNewest = other === undefined || this.pool.get(other).generation < slot.generation
      if (isNewest) this.table.set(slot.mainBlock, number)
      const loser = isNewest ? other : number
      if (loser !== undefined) this.#superseded.push(loser)
    }
    return highest + 1
  }
}

/** What a table still has to move goes on in the background, so that a resize ends even if nothing changes any more. */
function newTable({ main, pool, tableSettings, log }: RemapTargetOptions, emit: RemapEventSink): RemapTable {
  const table: RemapTable = new RemapTable(Math.ceil(main.size / pool.blockSize), pool.records, {
    ...(tableSettings && { settings: tableSettings }),
    expected: pool.used,
    listener: {
      began: ({ from, to, count }) => {
        log.info(`Adaptive hash table resize: ${from} -> ${to} buckets (count=${count})`)
        goOn()
      },
      completed: ({ from, to, count }) => {
        log.info(`Hash table resize complete: ${from} -> ${to} buckets`)
        emit('TABLE_RESIZED', { from, to, remaps: count })
      },
    },
  })
  let isGoingOn = false
  const step = (): void => {
    isGoingOn = table.resizeStep(BUCKETS_PER_TURN)
    if (isGoingOn) setImmediate(step)
  }
  const goOn = (): void => {
    if (!isGoingOn) setImmediate(step)
    isGoingOn = true
  }
  return table
}

/** Waits for all of them, then fails with the first error: nothing is in flight any more when the lock is released. */
async function all(requests: readonly Completion[]): Promise<void> {
  if (requests.length === 1) return requests[0]
  const outcomes = await Promise.allSettled(requests.filter((request) => request !== undefined))
  const failed = outcomes.find((outcome) => outcome.status === 'rejected')
  if (failed) throw failed.reason
}
