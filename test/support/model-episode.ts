/**
 * `Episode`: the remapper against a trivial model, at random: requests of every size and alignment, operators who remap and
 * move back, faults that come and go on both disks, kills, power cuts at any write, damaged metadata copies. It checks P1
 * (what was flushed is there), P2 (no write fails while a healthy spare block is free, but for a part of a lost sector) and
 * P3 (no made-up data, EIO only for what is lost).
 *
 * Every step draws from a generator of its own, so that a run that fails can be repeated with some of its steps left out:
 * that is how `shrink` makes short cases of long ones.
 */
import { DeviceError, type Completion, type DeviceOperation } from '../../src/device/device.js'
import { FaultyDevice, type FaultRule } from './faulty-device.js'
import { formatPair, Pair } from '../../src/remap/pair.js'
import type { RemapTarget } from '../../src/remap/target.js'
import { HEADER_OFFSETS, HEADER_SIZE, PAGE_SIZE } from '../../src/spare/format.js'
import { verifySpare } from '../../src/spare/verify.js'
import { silentLog } from '../../src/util/log.js'
import { addRemaps, batchOf, clearRemaps, removeRemaps } from '../../src/remap/admin.js'
import { RemapRequestError } from '../../src/remap/batch.js'
import { Random } from '../../src/util/random.js'
import { MiB, SECTOR_SIZE } from '../../src/util/units.js'
import { CrashingDevice } from './crashing-device.js'
import { DiskModel } from './disk-model.js'
import { asDisk, onlySpare, POLICY, spareOffsetOf } from './rig.js'

type Request =
  | { readonly kind: 'read'; readonly offset: number; readonly length: number }
  | { readonly kind: 'write'; readonly offset: number; readonly length: number; readonly fua: boolean }
  | { readonly kind: 'zero'; readonly offset: number; readonly length: number; readonly fua: boolean }
  | { readonly kind: 'trim'; readonly offset: number; readonly length: number }

/** What is right for a request, decided before it is made. */
interface Expectation {
  /** Blocks that will look for a new spare block. */
  readonly moves: number
  readonly mayFailToRead: boolean
  readonly mayFailToWrite: boolean
}

/** The life of one pair of disks, from the format to the day the spare is full. */
export interface EpisodeOptions {
  readonly seed: string
  /** Random bytes, which writes take their data from. */
  readonly pool: Buffer
  /** The spare is so small that it will be full one day. */
  readonly fillsUp: boolean
  /** Plants a bug in the target, whenever it was opened. */
  readonly sabotage?: ((target: RemapTarget) => void) | undefined
}

/** What went wrong, and in which step. */
export class StepError extends Error {
  override name = 'StepError'
  constructor(
    readonly step: number,
    cause: unknown,
  ) {
    super(cause instanceof Error ? cause.message : String(cause), { cause })
  }
}

export class Episode {
  readonly #seed: string
  readonly #sabotage: (target: RemapTarget) => void
  readonly #tear: Random
  /** Of the step. */
  #random: Random
  readonly #pool: Buffer
  readonly #model: DiskModel
  readonly #blockSize: number
  readonly count = {
    requests: 0,
    faults: 0,
    administered: 0,
    remaps: 0,
    lost: 0,
    reopens: 0,
    cuts: 0,
    refusedWrites: 0,
    full: 0,
  }
  #mainDisk: CrashingDevice
  #spareDisk: CrashingDevice
  #main: FaultyDevice
  #spare: FaultyDevice
  #pair: Pair | undefined
  /** A spare flush was told to fail: a write that had to move a block may fail with it. */
  #flushFault = false

  constructor({ seed, pool, fillsUp, sabotage = () => undefined }: EpisodeOptions) {
    const random = new Random(`${seed}/start`)
    this.#seed = seed
    this.#sabotage = sabotage
    this.#random = random
    this.#tear = new Random(`${seed}/tear`)
    this.#pool = pool
    this.#blockSize = random.pick([512, 1024, 2048, 4096, 4096, 4096, 8192, 16384, 32768])
    const blocks = random.between(3, Math.max(4, Math.floor((512 * 1024) / this.#blockSize)))
    const size = blocks * this.#blockSize + random.pick([0, 0, SECTOR_SIZE, 100, SECTOR_SIZE + 1])
    const content = this.#bytes(size)
    this.#model = new DiskModel(content)
    this.#mainDisk = this.#newDisk(content, 'main')
    const slotsMax = Math.min(700, Math.floor((2 * MiB) / this.#blockSize))
    const slots = random.between(10, fillsUp ? 12 : slotsMax)
    this.#spareDisk = this.#newDisk(8 * MiB + 12 * PAGE_SIZE + slots * this.#blockSize, 'spare')
    this.#main = new FaultyDevice(this.#mainDisk, { tear: this.#tear })
    this.#spare = new FaultyDevice(this.#spareDisk, { tear: this.#tear })
  }

  get #target(): RemapTarget {
    return this.#pair!.target
  }

  /** Carries out these steps, in order. @throws StepError */
  async run(steps: readonly number[]): Promise<void> {
    const disks = { main: asDisk(this.#main, 'main'), spares: [asDisk(this.#spare, 'spare')] }
    await formatPair(disks, { blockSize: this.#blockSize, force: false, log: silentLog })
    await this.#open()
    for (const step of steps) {
      this.#random = new Random(`${this.#seed}/${step}`)
      await this.#step().catch((error: unknown) => {
        throw new StepError(step, error)
      })
    }
    this.#random = new Random(`${this.#seed}/finish`)
    await this.#finish().catch((error: unknown) => {
      throw new StepError(steps.length, error)
    })
  }

  async #step(): Promise<void> {
    const dice = this.#random.below(1000)
    if (dice < 40) this.#addFault()
    else if (dice < 50) this.#clearFaults()
    else if (dice < 60) await this.#failFlush()
    else if (dice < 110) await this.#flush()
    else if (dice < 120) await this.#reopenCleanly()
    else if (dice < 126) await this.#kill()
    else if (dice < 130) await this.#cutPowerBetween()
    else if (dice < 142) await this.#stopWithin()
    else if (dice < 175) await this.#administer()
    else await this.#requests()
  }

  // --- Requests ----------------------------------------------------------------------------------------------------

  /** Some requests at once, none of them in a block of another. */
  async #requests(): Promise<void> {
    const requests: Request[] = []
    const taken = new Set<number>()
    for (let n = this.#random.pick([1, 1, 1, 2, 4]); n > 0; n--) {
      const request = this.#draw()
      const blocks = this.#blocksOf(request)
      if (blocks.some((block) => taken.has(block))) continue
      for (const block of blocks) taken.add(block)
      requests.push(request)
    }
    const expected = requests.map((request) => this.#expect(request))
    const moves = expected.reduce((sum, expectation) => sum + expectation.moves, 0)
    const isRoom = moves === 0 || this.#healthyFree() >= moves
    if (!isRoom) this.count.full++
    await Promise.all(requests.map((request, n) => this.#make(request, expected[n]!, isRoom)))
  }

  #draw(): Request {
    const { offset, length } = this.#range()
    const dice = this.#random.below(100)
    const fua = this.#random.below(5) === 0
    if (dice < 45) return { kind: 'read', offset, length }
    if (dice < 90) return { kind: 'write', offset, length, fua }
    if (dice < 97) return { kind: 'zero', offset, length, fua }
    return { kind: 'trim', offset, length }
  }

  #range(): { offset: number; length: number } {
    const { size } = this.#model
    const unit = this.#random.pick([1, SECTOR_SIZE, SECTOR_SIZE, this.#blockSize])
    const longest = this.#random.pick([SECTOR_SIZE, this.#blockSize, 4 * this.#blockSize, 12 * this.#blockSize])
    const offset = Math.floor(this.#random.below(size) / unit) * unit
    const length = Math.max(1, Math.floor(this.#random.between(1, longest) / unit)) * unit
    return { offset, length: Math.min(length, size - offset) }
  }

  async #make(request: Request, expected: Expectation, isRoom: boolean): Promise<void> {
    this.count.requests++
    const { kind, offset, length } = request
    const target = this.#target
    if (kind === 'read') {
      const into = Buffer.alloc(length, 0xdb)
      const failed = await outcome(target.read(offset, into))
      if (failed) this.#checkFailure(failed, request, expected.mayFailToRead, 'P3')
      else this.#checkRead(offset, into)
      return
    }
    if (kind === 'trim') {
      this.#model.wasTrimmed(offset, length)
      await target.trim(offset, length)
      return
    }
    const data = this.#dataFor(request)
    const failed = await outcome(
      kind === 'zero'
        ? target.writeZeroes(offset, length, { fua: request.fua })
        : target.write(offset, this.#inChunks(data), { fua: request.fua }),
    )
    this.#model.wasWritten(offset, data, failed === undefined)
    if (!failed) return
    this.count.refusedWrites++
    this.#checkFailure(failed, request, expected.mayFailToWrite || !isRoom || this.#flushFault, 'P2')
  }

  #dataFor(request: Request): Buffer {
    return request.kind === 'zero' ? Buffer.alloc(request.length) : this.#bytes(request.length)
  }

  #bytes(length: number): Buffer {
    const start = this.#random.below(this.#pool.length - length + 1)
    return Buffer.from(this.#pool.subarray(start, start + length))
  }

  #inChunks(data: Buffer): Buffer[] {
    const cut = this.#random.below(data.length + 1)
    return [data.subarray(0, cut), data.subarray(cut)]
  }

  #checkFailure(error: DeviceError, request: Request, mayFail: boolean, promise: string): void {
    if (mayFail) return
    throw new Error(`${promise}: ${JSON.stringify(request)} failed: ${error.stack}`, { cause: error })
  }

  #checkRead(offset: number, data: Buffer): void {
    const wrong = this.#model.wasRead(offset, data)
    if (wrong !== undefined) throw new Error(`P1 or P3: a read of ${data.length} bytes at ${offset}: ${wrong}`)
  }

  /** What the faults of this moment mean for `request`; sectors that will be looked for in vain may be lost from now. */
  #expect(request: Request): Expectation {
    const { kind, offset, length } = request
    if (kind === 'trim') return { moves: 0, mayFailToRead: true, mayFailToWrite: true }
    const operation = kind === 'read' ? 'read' : 'write'
    let moves = 0
    for (const block of this.#blocksOf(request)) {
      const start = Math.max(offset, block * this.#blockSize)
      const end = Math.min(offset + length, (block + 1) * this.#blockSize)
      if (!this.#fails(operation, start, end - start)) continue
      moves++
      this.#markUnreadable(block)
    }
    let mayFailToRead = false
    let mayFailToWrite = false
    for (const { sector, isWhole } of this.#model.overlaps(offset, length)) {
      if (!this.#model.mayBeLost(sector)) continue
      mayFailToRead = true
      if (!isWhole) mayFailToWrite = true
    }
    return { moves, mayFailToRead, mayFailToWrite }
  }

  #markUnreadable(block: number): void {
    const start = block * this.#blockSize
    const length = Math.min(this.#blockSize, this.#model.size - start)
    for (const overlap of this.#model.overlaps(start, length)) {
      const at = overlap.sector * SECTOR_SIZE
      if (!this.#fails('read', at, overlap.end)) continue
      this.#model.markLost(overlap.sector)
      this.count.lost++
    }
  }

  /** Whether the disk on which [offset, offset + length), within one block, lies would fail this. */
  #fails(operation: DeviceOperation, offset: number, length: number): boolean {
    const block = Math.floor(offset / this.#blockSize)
    const spareOffset = spareOffsetOf(this.#target, block)
    if (spareOffset === undefined) return this.#main.fails(operation, offset, length)
    return this.#spare.fails(operation, spareOffset + offset - block * this.#blockSize, length)
  }

  #healthyFree(): number {
    const spare = onlySpare(this.#target)
    let free = 0
    for (let slot = 0; slot < spare.geometry.slots; slot++) {
      const offset = spare.dataOffset(slot as never)
      if (spare.slots.state(slot as never) !== 'free') continue
      if (!this.#spare.fails('write', offset, this.#blockSize)) free++
    }
    return free
  }

  #blocksOf({ offset, length }: Request): number[] {
    const first = Math.floor(offset / this.#blockSize)
    const last = Math.floor((offset + length - 1) / this.#blockSize)
    return Array.from({ length: last - first + 1 }, (_, n) => first + n)
  }

  async #flush(): Promise<void> {
    const failed = await outcome(this.#target.flush())
    if (!failed) this.#model.wasFlushed()
    else if (!this.#flushFault) throw failed
    this.#flushFault = false
    this.#main.add(...this.#takeRules(this.#main))
    this.#spare.add(...this.#takeRules(this.#spare))
  }

  // --- Operators ---------------------------------------------------------------------------------------------------

  /** Remaps some sectors, or moves some back, while requests go on elsewhere. It may be refused; it changes no content. */
  async #administer(): Promise<void> {
    const { offset, length } = this.#range()
    const range = { mainSector: Math.floor(offset / SECTOR_SIZE), sectors: Math.ceil(length / SECTOR_SIZE) }
    const sectors = Math.min(range.sectors, Math.ceil(this.#model.size / SECTOR_SIZE) - range.mainSector)
    const batch = batchOf(this.#target, { ...range, sectors })
    for (const { start, end } of batch.blocks.pieces(1)) if (end > start) this.#markUnreadable(start)
    const dice = this.#random.below(5)
    const options = { copy: true, skipRemapped: dice === 0, policy: POLICY }
    try {
      if (dice < 3) await addRemaps(this.#target, batch, options)
      else if (dice < 4) await removeRemaps(this.#target, batch)
      else await clearRemaps(this.#target)
      this.count.administered++
    } catch (error) {
      if (!(error instanceof RemapRequestError)) throw error
    }
  }

  // --- Faults ------------------------------------------------------------------------------------------------------

  #addFault(): void {
    this.count.faults++
    const random = this.#random
    const operations = random.pick<DeviceOperation[]>([
      ['read'],
      ['write'],
      ['write', 'write-zeroes'],
      ['read', 'write'],
      ['read', 'write', 'trim', 'write-zeroes'],
    ])
    const code = operations.includes('read') ? 'EIO' : random.pick(['EIO', 'EIO', 'EPERM', 'EINVAL'] as const)
    const common = { operations, code, healsOnWrite: random.below(2) === 0 }
    const length = random.between(1, random.pick([1, 8, 24])) * SECTOR_SIZE
    if (random.below(5) > 1) {
      const start = this.#sectorBelow(this.#model.size)
      this.#main.add({ ...common, start, end: start + length })
      return
    }
    const { dataOffset, slots } = onlySpare(this.#target).geometry
    const used = this.#usedSpareOffsets()
    const start =
      used.length > 0 && random.below(4) > 0
        ? random.pick(used) + this.#sectorBelow(this.#blockSize)
        : dataOffset + this.#sectorBelow(slots * this.#blockSize)
    this.#spare.add({ ...common, start, end: Math.min(start + length, dataOffset + slots * this.#blockSize) })
  }

  #usedSpareOffsets(): number[] {
    return [...this.#target.table.entries()].map(([, slot]) => onlySpare(this.#target).dataOffset(slot))
  }

  #sectorBelow(size: number): number {
    return Math.floor(this.#random.below(size) / SECTOR_SIZE) * SECTOR_SIZE
  }

  #clearFaults(): void {
    this.#random.pick([this.#main, this.#spare]).clear()
  }

  async #failFlush(): Promise<void> {
    const device = this.#random.pick([this.#main, this.#spare])
    device.add({ operations: ['flush'], start: 0, end: device.size, code: 'EIO', times: 1 })
    this.#flushFault = true
    for (let n = this.#random.below(3); n > 0; n--) await this.#requests()
    await this.#flush()
  }

  /** The rules but for those of flushes, taken out of the device. */
  #takeRules(device: FaultyDevice): FaultRule[] {
    const rules = device.rules.filter(({ operations }) => !operations.includes('flush'))
    device.clear()
    return rules
  }

  // --- Ends and beginnings -----------------------------------------------------------------------------------------

  async #open(): Promise<void> {
    this.#main = this.#faultyAnew(this.#main, this.#mainDisk)
    this.#spare = this.#faultyAnew(this.#spare, this.#spareDisk)
    const disks = { main: asDisk(this.#main, 'main'), spares: [asDisk(this.#spare, 'spare')] }
    this.#pair = await Pair.open(disks, { policy: POLICY, acceptMain: false, emit: () => undefined, log: silentLog })
    this.#sabotage(this.#target)
    this.count.reopens++
    const { problems } = await verifySpare(this.#spare)
    if (problems.length > 0) throw new Error(`metadata is not intact after opening: ${problems.join('; ')}`)
  }

  #faultyAnew(old: FaultyDevice, disk: CrashingDevice): FaultyDevice {
    const device = new FaultyDevice(disk, { tear: this.#tear })
    device.add(...this.#takeRules(old))
    return device
  }

  async #reopenCleanly(): Promise<void> {
    await this.#pair!.close()
    this.#model.wasFlushed()
    if (!onlySpare(this.#target).header.clean) throw new Error('a clean stop is not recorded')
    if (this.#random.below(2) === 0) this.#damageCopies()
    await this.#reopenWith(this.#mainDisk.bytes, this.#spareDisk.bytes)
  }

  async #kill(): Promise<void> {
    if (this.#random.below(2) === 0) this.#damageCopies()
    await this.#reopenWith(this.#mainDisk.bytes, this.#spareDisk.bytes)
  }

  async #cutPowerBetween(): Promise<void> {
    const main = this.#mainDisk.crash(this.#random)
    const spare = this.#spareDisk.crash(this.#random)
    this.#model.wasCut()
    this.count.cuts++
    await this.#reopenWith(main, spare)
  }

  /** Kills the server, or cuts the power, in the middle of a request or of the next start. */
  async #stopWithin(): Promise<void> {
    const disk = this.#random.pick([this.#mainDisk, this.#spareDisk])
    disk.stopAfter(this.#random.below(this.#random.pick([2, 8, 16])))
    const request = this.#draw()
    const isWrite = request.kind === 'write' || request.kind === 'zero'
    const data = this.#dataFor(request)
    this.#expect(request)
    if (isWrite) this.#model.wasWritten(request.offset, data, false)
    else if (request.kind === 'trim') this.#model.wasTrimmed(request.offset, request.length)
    const going = this.#begin(request, data)
    await Promise.race([disk.stopped, going.catch(() => undefined)])
    const isCut = this.#random.below(2) === 0
    if (isCut) this.#model.wasCut()
    this.count.cuts += Number(isCut)
    const images = [this.#mainDisk, this.#spareDisk].map((from) =>
      isCut ? from.crash(this.#random) : Buffer.from(from.bytes),
    )
    if (this.#random.below(3) === 0) await this.#stopWithinOpen(images)
    await this.#reopenWith(images[0]!, images[1]!)
  }

  async #begin(request: Request, data: Buffer): Promise<void> {
    const { kind, offset, length } = request
    if (kind === 'read') return this.#target.read(offset, Buffer.alloc(length))
    if (kind === 'trim') return this.#target.trim(offset, length)
    if (kind === 'zero') return this.#target.writeZeroes(offset, length, request)
    return this.#target.write(offset, this.#inChunks(data), request)
  }

  /** Another power cut, while the server starts. */
  async #stopWithinOpen(images: Buffer[]): Promise<void> {
    this.#spareDisk = this.#newDisk(images[1]!, 'spare')
    this.#mainDisk = this.#newDisk(images[0]!, 'main')
    this.#spareDisk.stopAfter(this.#random.below(14))
    await Promise.race([this.#spareDisk.stopped, this.#open()])
    images[1] = this.#spareDisk.crash(this.#random)
    this.count.cuts++
  }

  /** Some answers are there at once, others come later. */
  #newDisk(content: Buffer | number, name: string): CrashingDevice {
    return new CrashingDevice(content, name, () => this.#random.below(2) === 0)
  }

  async #reopenWith(main: Buffer, spare: Buffer): Promise<void> {
    this.#mainDisk = this.#newDisk(main, 'main')
    this.#spareDisk = this.#newDisk(spare, 'spare')
    this.#flushFault = false
    await this.#open()
    if (this.#random.below(4) === 0) await this.#readAll()
  }

  /** Destroys any four header copies, and one copy of every slot page. */
  #damageCopies(): void {
    const { bytes } = this.#spareDisk
    const { initialisedPages, geometry } = onlySpare(this.#target).header
    for (const copy of this.#random.sample(this.#random.below(5), HEADER_OFFSETS.length)) {
      this.#random.bytes(this.#random.between(1, HEADER_SIZE)).copy(bytes, HEADER_OFFSETS[copy])
    }
    for (let page = 0; page < initialisedPages; page++) {
      const table = this.#random.pick([...geometry.slotTableOffsets])
      const torn = this.#random.pick([0, 512, 1024, 4095])
      if (this.#random.below(2) === 0) {
        this.#random.bytes(PAGE_SIZE - torn).copy(bytes, table + page * PAGE_SIZE + torn)
      }
    }
  }

  async #readAll(): Promise<void> {
    for (let offset = 0; offset < this.#model.size;) {
      const length = Math.min(this.#random.pick([SECTOR_SIZE, 4096, 65536]), this.#model.size - offset)
      const request = { kind: 'read', offset, length } as const
      await this.#make(request, this.#expect(request), true)
      offset += length
    }
  }

  /** Without faults, sector by sector: everything that was not lost is there. */
  async #finish(): Promise<void> {
    this.#main.clear()
    this.#spare.clear()
    for (let offset = 0; offset < this.#model.size; offset += SECTOR_SIZE) {
      const request = { kind: 'read', offset, length: Math.min(SECTOR_SIZE, this.#model.size - offset) } as const
      await this.#make(request, this.#expect(request), true)
    }
    this.count.remaps = this.#target.table.count
    await this.#pair!.close()
  }
}

async function outcome(request: Completion): Promise<DeviceError | undefined> {
  try {
    await request
    return undefined
  } catch (error) {
    if (error instanceof DeviceError) return error
    throw error
  }
}

/**
 * The shortest list of steps found, by leaving out ever smaller parts, with which an episode still fails.
 * @param fails whether an episode of these steps does
 */
export async function shrink(
  steps: readonly number[],
  fails: (steps: readonly number[]) => Promise<boolean>,
  runsMax: number,
): Promise<readonly number[]> {
  let left = steps
  let runs = 0
  for (let part = Math.ceil(left.length / 2); part >= 1; part = part === 1 ? 0 : Math.ceil(part / 2)) {
    for (let from = 0; from < left.length && runs < runsMax;) {
      const shorter = [...left.slice(0, from), ...left.slice(from + part)]
      runs++
      if (await fails(shorter)) left = shorter
      else from += part
    }
  }
  return left
}
