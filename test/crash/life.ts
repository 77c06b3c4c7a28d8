/**
 * The life of one pair of disks through the steps of a history, on simulated disks, with the model beside it. Every power
 * cut ends a chapter: what survived it is where the next one starts. What the disks could have held at any other moment
 * of a chapter is for explorer.ts to look at.
 */
import { DeviceError, type Completion } from '../../src/device/device.js'
import { FaultyDevice, type FaultRule } from '../../src/device/faulty.js'
import { addRemaps, batchOf, removeRemaps } from '../../src/remap/admin.js'
import { RemapRequestError } from '../../src/remap/batch.js'
import { formatPair, Pair } from '../../src/remap/pair.js'
import { HEADER_OFFSETS, layOut, PAGE_SIZE, spareSizeMin, type Geometry } from '../../src/spare/format.js'
import { silentLog } from '../../src/util/log.js'
import { RefusedError } from '../../src/util/errors.js'
import type { Random } from '../../src/util/random.js'
import { mainBlock, SECTOR_SIZE, slotNumber } from '../../src/util/units.js'
import { asDisk, onlySpare, POLICY, spareOffsetOf } from '../support/rig.js'
import { crashPoints, type Choice, type CrashPoint } from './crash-states.js'
import { ANYTHING, contentOf, LOST, Model, type Content, type Death, type Version } from './model.js'
import { copyImages, imageOf, Journal, setSector, SimulatedDisk, type Images } from './simulated-disk.js'
import { blocksOf, type Operation, type Request, type Shape, type Step } from './steps.js'

export interface Rules {
  readonly main: readonly FaultRule[]
  readonly spare: readonly FaultRule[]
}

/** What holds from a time of the journal on. */
interface Moment {
  readonly time: number
  readonly rules: Rules
  /** Blocks with a remap that was acknowledged. */
  readonly remapped: ReadonlySet<number>
  /** Some copy of the metadata cannot be written, or read: one more may be too much. */
  readonly metadataFaulted: boolean
}

export interface Chapter {
  readonly start: Images
  readonly journal: Journal
  readonly model: Model
  readonly moments: Moment[]
  /** Copies decayed, or could not be written: others may not decay until that is repaired. */
  hasDecay: boolean
  /** When its server had opened the pair: until then, what survived the last power cut was not repaired. */
  readonly opened: number
}

/** A promise is broken. The message says where, and what. */
export class BrokenPromise extends Error {
  override name = 'BrokenPromise'
}

/** Two disks with faults, and whoever serves them. */
export class Machine {
  readonly shape: Shape
  readonly geometry: Geometry
  readonly journal: Journal
  main: FaultyDevice
  spare: FaultyDevice
  #disks: { main: SimulatedDisk; spare: SimulatedDisk }

  /** @param spareSize when it is not what it was when it was formatted */
  constructor(shape: Shape, images: Images, rules: Rules, random: Random, spareSize = geometryOf(shape).spareSize) {
    this.shape = shape
    this.geometry = geometryOf(shape)
    this.journal = new Journal()
    const { mainSize } = this.geometry
    this.#disks = {
      main: new SimulatedDisk('main', mainSize, images.main, this.journal, random),
      spare: new SimulatedDisk('spare', spareSize, images.spare, this.journal, random),
    }
    this.main = new FaultyDevice(this.#disks.main)
    this.spare = new FaultyDevice(this.#disks.spare)
    this.main.add(...rules.main)
    this.spare.add(...rules.spare)
  }

  get images(): Images {
    return { main: this.#disks.main.image, spare: this.#disks.spare.image }
  }

  /** The faults that stay when the server changes: a flush that is to fail is forgotten. */
  get rules(): Rules {
    const lasting = (rules: readonly FaultRule[]) => rules.filter(({ operations }) => !operations.includes('flush'))
    return { main: lasting(this.main.rules), spare: lasting(this.spare.rules) }
  }

  /** The disks as another server finds them: no request of the old one is answered any more. */
  changeServer(): void {
    const { rules } = this
    this.#disks = { main: this.#disks.main.reopened(), spare: this.#disks.spare.reopened() }
    this.journal.resume()
    this.main = new FaultyDevice(this.#disks.main)
    this.spare = new FaultyDevice(this.#disks.spare)
    this.main.add(...rules.main)
    this.spare.add(...rules.spare)
  }

  /**
   * One copy of every slot page decays at most, and four headers.
   * @returns which, in words
   */
  loseCopies(random: Random): string[] {
    const lost: string[] = []
    for (const copy of random.sample(random.below(5), 5)) {
      this.#lose(HEADER_OFFSETS[copy] ?? 0, random)
      lost.push(`then header copy ${copy} decayed`)
    }
    for (let page = 0; page < Math.min(this.geometry.slotPages, 4); page++) {
      const copy = random.below(3)
      const table = this.geometry.slotTableOffsets[copy]
      if (table === undefined) continue
      this.#lose(table + page * PAGE_SIZE, random)
      lost.push(`then copy ${copy} of slot page ${page} decayed`)
    }
    return lost
  }

  /**
   * Of slot pages, or of the header, when a copy of it has a fault, the others decay, and the faults are gone. Not of both:
   * then all that is left could be of one time in the past. @returns which, in words
   */
  loseSoundCopies(random: Random): string[] {
    const failing = (offset: number): boolean =>
      this.spare.fails('write', offset, PAGE_SIZE) || this.spare.fails('read', offset, PAGE_SIZE)
    const lost: string[] = []
    const isHeader = random.below(3) === 0
    for (let page = 0; !isHeader && page < Math.min(this.geometry.slotPages, 4); page++) {
      const offsets = this.geometry.slotTableOffsets.map((table) => table + page * PAGE_SIZE)
      if (!offsets.some(failing)) continue
      for (const offset of offsets.filter((other) => !failing(other))) this.#lose(offset, random)
      lost.push(`then the sound copy of slot page ${page} decayed`)
    }
    if (isHeader && HEADER_OFFSETS.some(failing)) {
      for (const offset of HEADER_OFFSETS) if (!failing(offset)) this.#lose(offset, random)
      lost.push('then the sound header copies decayed')
    }
    this.spare.clear()
    return lost
  }

  /** So that crash states have it, too, it is written down as a write that is durable at once. */
  #lose(offset: number, random: Random): void {
    const from = random.below(2)
    const sectors = new Map<number, Buffer>()
    for (let n = from; n < PAGE_SIZE / SECTOR_SIZE; n++)
      sectors.set(offset / SECTOR_SIZE + n, random.bytes(SECTOR_SIZE))
    for (const [sector, content] of sectors) setSector(this.images.spare, sector, content)
    const write = { disk: 'spare' as const, offset, length: PAGE_SIZE, sectors }
    this.journal.add({ kind: 'write', write })
    this.journal.add({ kind: 'durable', writes: [write] })
  }

  get #pairDisks() {
    return { main: asDisk(this.main, 'main'), spares: [asDisk(this.spare, 'spare')] }
  }

  format(): Promise<void> {
    return formatPair(this.#pairDisks, { blockSize: this.shape.blockSize, force: false, log: silentLog })
  }

  open(): Promise<Pair> {
    return Pair.open(this.#pairDisks, { policy: POLICY, acceptMain: false, emit: () => undefined, log: silentLog })
  }
}

/** The smallest spare with so many slots. */
export function geometryOf({ blockSize, sectors, slots }: Shape): Geometry {
  let size = spareSizeMin(blockSize) + (slots - 1) * blockSize
  for (;;) {
    const geometry = layOut(sectors * SECTOR_SIZE, size, blockSize)
    if (geometry && geometry.slots >= slots) return geometry
    size += PAGE_SIZE
  }
}

const INITIAL = 1
const SOUND_HEADER = 3

/** A formatted pair as it lies on the shelf. */
export async function formatted(shape: Shape, random: Random): Promise<Images> {
  const content = Array.from({ length: shape.sectors }, (_, sector) => contentOf(INITIAL, sector))
  const machine = new Machine(shape, { main: imageOf(Buffer.concat(content)), spare: new Map() }, NO_RULES, random)
  await machine.format()
  return machine.images
}

export const NO_RULES: Rules = { main: [], spare: [] }

/** Reads every sector; `undefined` where the answer is EIO. */
export async function readSectors(pair: Pair, { sectors, blockSize }: Shape): Promise<(Buffer | undefined)[]> {
  const perBlock = blockSize / SECTOR_SIZE
  const seen: (Buffer | undefined)[] = []
  for (let sector = 0; sector < sectors; sector += perBlock) {
    const block = Buffer.alloc(Math.min(perBlock, sectors - sector) * SECTOR_SIZE)
    const isWhole = await tryRead(pair, sector, block)
    for (let n = 0; n < block.length / SECTOR_SIZE; n++) {
      const part = block.subarray(n * SECTOR_SIZE, (n + 1) * SECTOR_SIZE)
      seen.push(isWhole || (await tryRead(pair, sector + n, part)) ? part : undefined)
    }
  }
  return seen
}

async function tryRead({ target }: Pair, sector: number, into: Buffer): Promise<boolean> {
  try {
    await target.read(sector * SECTOR_SIZE, into)
    return true
  } catch (error) {
    if (error instanceof DeviceError && error.code === 'EIO') return false
    throw error
  }
}

export class Life {
  readonly chapters: Chapter[] = []
  readonly #random: Random
  readonly #shape: Shape
  #machine: Machine
  #model: Model
  #pair!: Pair
  #lastId = INITIAL
  /** Of each slot page the copy that may fail: both at once would be the end. */
  readonly #failingCopies = new Map<number, number>()
  #hasFaultyMetadata = false
  /** What survived a power cut was too little, and that was no surprise. */
  #isOver = false

  constructor(shape: Shape, start: Images, random: Random) {
    this.#shape = shape
    this.#random = random
    this.#machine = this.#newMachine(copyImages(start), NO_RULES)
    this.#model = new Model(Array.from({ length: shape.sectors }, (_, sector) => [contentOf(INITIAL, sector)]))
    this.#begin(start)
  }

  /** @throws BrokenPromise */
  async live(steps: readonly Step[]): Promise<void> {
    await this.#open()
    for (const step of steps) {
      if (this.#isOver) return
      await this.#step(step)
      this.#note()
    }
  }

  /** Stops the server cleanly. */
  end(): Promise<void> {
    return this.#pair.close()
  }

  /** What a read of the disks sees. */
  get images(): Images {
    return this.#machine.images
  }

  #newMachine(images: Images, rules: Rules): Machine {
    return new Machine(this.#shape, images, rules, this.#random)
  }

  #begin(start: Images): void {
    const { journal, rules } = this.#machine
    const first = { time: 0, rules, remapped: new Set<number>(), metadataFaulted: this.#failsMetadata(rules) }
    const hasDecay = this.#hasFaultyMetadata
    this.chapters.push({ start, journal, model: this.#model, moments: [first], hasDecay, opened: journal.now })
    this.#note()
  }

  get #now(): number {
    return this.#machine.journal.now
  }

  get #chapter(): Chapter {
    return this.chapters.at(-1)!
  }

  /** What is true from now on. */
  #note(): void {
    const remapped = new Set<number>()
    const target = this.#pair as Pair | undefined
    for (const [block] of target?.target.table.entries() ?? []) remapped.add(block)
    const { rules } = this.#machine
    const metadataFaulted = this.#failsMetadata(rules)
    this.#chapter.moments.push({ time: this.#now, rules, remapped, metadataFaulted })
    this.#markUnreadable()
  }

  #failsMetadata(rules: Rules): boolean {
    return rules.spare.some(({ start }) => isMetadata(start, this.#machine.geometry))
  }

  /** Sectors whose place, on main or spare, cannot be read now. */
  #markUnreadable(): void {
    const { blockSize, sectors } = this.#shape
    const { target } = (this.#pair as Pair | undefined) ?? {}
    for (let sector = 0; sector < sectors; sector++) {
      const offset = sector * SECTOR_SIZE
      const place = target && spareOffsetOf(target, Math.floor(offset / blockSize))
      const fails =
        place === undefined
          ? this.#machine.main.fails('read', offset, SECTOR_SIZE)
          : this.#machine.spare.fails('read', place + (offset % blockSize), SECTOR_SIZE)
      if (fails) this.#model.mayBeLost(sector, this.#now)
    }
  }

  async #step(step: Step): Promise<void> {
    switch (step.do) {
      case 'burst':
        await Promise.all(step.blocks.map((block) => this.#request(this.#blockWrite(block))))
        break
      case 'main-fault':
        this.#machine.main.add(rule(step.operations, step.sector * SECTOR_SIZE, step.sectors * SECTOR_SIZE))
        break
      case 'spare-fault':
        this.#addSpareFault(step.operations, step.nth)
        break
      case 'metadata-fault':
        this.#addMetadataFault(step)
        break
      case 'flush-fault':
        this.#machine[step.disk].add({ operations: ['flush'], start: 0, end: 1e12, code: 'EIO', times: 1 })
        break
      case 'heal':
        this.#machine.main.clear()
        this.#machine.spare.clear()
        break
      case 'kill':
        await this.#dieWithin(step.within, step.after)
        this.#machine.changeServer()
        await this.#open()
        break
      case 'decay':
        if (!this.#hasFaultyMetadata) {
          this.#chapter.hasDecay = true
          this.#machine.loseCopies(this.#random)
        }
        this.#machine.changeServer()
        await this.#open()
        break
      case 'cut':
        await this.#dieWithin(step.within, step.after)
        await this.#cut(step.seed)
        break
      default:
        await this.#request(step)
    }
  }

  #blockWrite(block: number): Request {
    const perBlock = this.#shape.blockSize / SECTOR_SIZE
    return { do: 'write', sector: block * perBlock, sectors: perBlock, fua: false, inset: 0 }
  }

  /** Free spare blocks fail writes only: when it is in use, a block knows by the model what it may have lost. */
  #addSpareFault(operations: readonly Operation[], nth: number | undefined): void {
    const { table } = this.#pair.target
    const spare = onlySpare(this.#pair.target)
    const slots = [...table.entries()].map(([, slot]) => slot).sort((a, b) => a - b)
    const used = nth === undefined ? undefined : slots[nth % slots.length]
    const numbers = Array.from({ length: spare.geometry.slots }, (_, n) => slotNumber(n))
    const slot = used ?? numbers.find((number) => spare.slots.state(number) === 'free')
    if (slot === undefined) return
    const fails = used === undefined ? (['write'] as const) : operations
    this.#machine.spare.add(rule(fails, spare.dataOffset(slot), this.#shape.blockSize))
  }

  /** One copy of everything stays sound. */
  #addMetadataFault(step: Step & { do: 'metadata-fault' }): void {
    const { geometry } = this.#machine
    const page = Math.min(step.page, geometry.slotPages - 1)
    if (step.structure === 'header' && step.copy === SOUND_HEADER) return
    if (step.structure === 'page') {
      if ((this.#failingCopies.get(page) ?? step.copy) !== step.copy) return
      this.#failingCopies.set(page, step.copy)
    }
    this.#hasFaultyMetadata = true
    this.#chapter.hasDecay = true
    const table = geometry.slotTableOffsets[step.copy] ?? 0
    const offset = step.structure === 'header' ? (HEADER_OFFSETS[step.copy] ?? 0) : table + page * PAGE_SIZE
    this.#machine.spare.add(rule(step.operations, offset, PAGE_SIZE))
  }

  // --- Requests ----------------------------------------------------------------------------------------------------

  async #request(request: Request): Promise<void> {
    switch (request.do) {
      case 'write':
      case 'zero':
        await this.#write(request)
        break
      case 'trim':
        await this.#trim(request)
        break
      case 'read':
        await this.#read(request.sector, request.sectors)
        break
      case 'flush':
        await this.#flush()
        break
      case 'add':
        await this.#add(request)
        break
      case 'remove':
        await this.#remove(request)
        break
      case 'stop':
        await this.#stop()
    }
  }

  async #write(request: Request & { do: 'write' | 'zero' }): Promise<void> {
    const { sector, sectors, fua } = request
    const id = ++this.#lastId
    const fresh = (n: number): Buffer => (request.do === 'zero' ? Buffer.alloc(SECTOR_SIZE) : contentOf(id, n))
    // A part of a sector is written only where it is certain what the rest of it is.
    const edges = [this.#model.certain(sector), this.#model.certain(sector + sectors - 1)]
    const inset = edges.every(Boolean) && 2 * request.inset < sectors * SECTOR_SIZE ? request.inset : 0
    const data = Buffer.concat(Array.from({ length: sectors }, (_, n) => fresh(sector + n)))
    edges[0]?.copy(data, 0, 0, inset)
    edges[1]?.copy(data, data.length - inset, SECTOR_SIZE - inset)
    const versions = this.#issue(request, (n) => data.subarray(n * SECTOR_SIZE).subarray(0, SECTOR_SIZE))
    const offset = sector * SECTOR_SIZE + inset
    const part = data.subarray(inset, data.length - inset)
    const { target } = this.#pair
    await this.#acknowledge(versions, fua, () =>
      request.do === 'zero' ? target.writeZeroes(offset, part.length, { fua }) : target.write(offset, [part], { fua }),
    )
  }

  /** A lost sector stays lost. */
  async #trim(request: { readonly sector: number; readonly sectors: number }): Promise<void> {
    const { sector, sectors } = request
    const range = Array.from({ length: sectors }, (_, n) => sector + n)
    const lost = range.filter((n) => this.#model.allowed(n, this.#now, 'killed').includes(LOST))
    const versions = this.#issue(request, () => ANYTHING)
    for (const n of lost) this.#model.mayBeLost(n, this.#now)
    const { target } = this.#pair
    await this.#acknowledge(versions, false, () => target.trim(sector * SECTOR_SIZE, sectors * SECTOR_SIZE))
    for (const n of lost) this.#model.mayBeLost(n, this.#now)
  }

  /** @param content of the n-th sector of the request */
  #issue({ sector, sectors }: { sector: number; sectors: number }, content: (n: number) => Content): Version[] {
    return Array.from({ length: sectors }, (_, n) => this.#model.issue(sector + n, content(n), this.#now))
  }

  async #acknowledge(versions: readonly Version[], fua: boolean, request: () => Completion): Promise<void> {
    if (await fails(request())) return
    for (const version of versions) {
      version.acknowledged = this.#now
      if (fua) version.durable = this.#now
    }
    this.#markUnreadable()
  }

  async #read(sector: number, sectors: number): Promise<void> {
    const into = Buffer.alloc(sectors * SECTOR_SIZE)
    if (await fails(this.#pair.target.read(sector * SECTOR_SIZE, into))) return
    for (let n = 0; n < sectors; n++) {
      const seen = into.subarray(n * SECTOR_SIZE, (n + 1) * SECTOR_SIZE)
      const wrong = this.#model.check(sector + n, seen, this.#now, 'killed')
      if (wrong !== undefined) throw new BrokenPromise(`while it was served, ${wrong}`)
    }
  }

  async #flush(): Promise<void> {
    const flushed = this.#model.flushing()
    if (!(await fails(this.#pair.target.flush()))) flushed(this.#now)
  }

  async #add({ block, blocks, slot }: Request & { do: 'add' }): Promise<void> {
    const { sectors, blockSize } = this.#shape
    const perBlock = blockSize / SECTOR_SIZE
    const count = Math.min(blocks, blocksOf(this.#shape) - block)
    const mainSector = block * perBlock
    const place = slot === undefined ? {} : { spareSector: Math.min(slot, this.#machine.geometry.slots - 1) * perBlock }
    const length = Math.min(count * perBlock, sectors - mainSector)
    await orRefused(async () => {
      const batch = batchOf(this.#pair.target, { mainSector, sectors: length, ...place })
      await addRemaps(this.#pair.target, batch, { copy: true, skipRemapped: true, policy: POLICY })
    })
  }

  /** The spare blocks that are free afterwards are sound: others may be placed there. */
  async #remove({ block, blocks }: { readonly block: number; readonly blocks: number }): Promise<void> {
    const { sectors, blockSize } = this.#shape
    const perBlock = blockSize / SECTOR_SIZE
    const mainSector = block * perBlock
    const last = this.#chapter.moments.at(-1)
    const remapped = new Set([...(last?.remapped ?? [])].filter((other) => other < block || other >= block + blocks))
    if (last) this.#chapter.moments.push({ ...last, time: this.#now, remapped })
    await orRefused(async () => {
      const range = { mainSector, sectors: Math.min(blocks * perBlock, sectors - mainSector) }
      await removeRemaps(this.#pair.target, batchOf(this.#pair.target, range))
    })
    this.#machine.spare.clear()
  }

  async #stop(): Promise<void> {
    const flushed = this.#model.flushing()
    const isClean = await this.#pair.close().then(
      () => true,
      () => false,
    )
    if (isClean) flushed(this.#now)
    this.#machine.changeServer()
    await this.#open()
  }

  // --- Ends and beginnings -----------------------------------------------------------------------------------------

  async #open(): Promise<void> {
    const before = this.#chapter.moments.at(-1)?.remapped ?? []
    this.#pair = await this.#machine.open()
    const spare = onlySpare(this.#pair.target)
    for (let slot = 0; slot < this.#shape.firstSlot; slot++) await spare.reserve(slotNumber(slot))
    for (const block of before) {
      if (this.#pair.target.table.lookup(mainBlock(block)) === undefined) {
        throw new BrokenPromise(`after a restart, the remap of block ${block} is gone`)
      }
    }
    this.#note()
  }

  /** Returns when the server is dead: in the middle of `request`, or after it. */
  async #dieWithin(request: Request | undefined, after: number): Promise<void> {
    if (!request) return
    const stopped = this.#machine.journal.stopAfter(after + 1)
    await Promise.race([stopped, this.#request(request)])
  }

  /** The power is cut now, and another chapter begins with what survived. */
  async #cut(seed: number): Promise<void> {
    const chapter = this.#chapter
    const point = lastPoint(chapter)
    const choices = [...point.choices(12, this.#random)]
    const choice = choices[seed % choices.length] ?? []
    const start = point.images(choice)
    const death: Death = point.isAllKept(choice) ? 'killed' : 'power cut'
    const machine = this.#newMachine(copyImages(start), this.#machine.rules)
    const found = await aftermath(machine, chapter, point, choice, { time: point.time, death, before: [] })
    if (!found) {
      this.#isOver = true
      return
    }
    // Read once, it must never change again.
    const contents = found.seen.map((seen, sector) =>
      seen ? [seen] : chapter.model.allowed(sector, point.time, death),
    )
    this.#machine = machine
    this.#pair = found.pair
    for (let slot = 0; slot < this.#shape.firstSlot; slot++)
      await onlySpare(found.pair.target).reserve(slotNumber(slot))
    this.#model = new Model(contents)
    this.#begin(start)
  }
}

export interface Survivor {
  readonly pair: Pair
  readonly seen: readonly (Buffer | undefined)[]
}

export interface Deaths {
  /** Of the chapter's journal: what had happened when the power was cut for the first time. */
  readonly time: number
  readonly death: Death
  /** What is known of the power cuts before this one, in words. */
  readonly before: readonly string[]
  /** The last copy of something was taken away: wrong data is still wrong. */
  readonly mayBeRefused?: boolean
}

/**
 * Opens what survived a power cut, and holds it against the model.
 * @returns `undefined`: it was refused, and may be, for metadata had failed before
 * @throws BrokenPromise
 */
export async function aftermath(
  machine: Machine,
  chapter: Chapter,
  point: CrashPoint,
  choice: Choice,
  { time, death, before, mayBeRefused = false }: Deaths,
): Promise<Survivor | undefined> {
  const moment = chapter.moments.findLast((candidate) => candidate.time <= time)
  const broken = (what: string, cause?: unknown): BrokenPromise =>
    new BrokenPromise(
      [`${death} at event ${point.time}: ${what}`, ...before, ...point.describe(choice)].join('\n    '),
      { cause },
    )
  let pair: Pair
  try {
    pair = await machine.open()
  } catch (error) {
    const wasTooMuch = moment?.metadataFaulted === true && touchesMetadata(point, machine.geometry)
    if (error instanceof RefusedError && (mayBeRefused || wasTooMuch)) return undefined
    throw broken(`it cannot be opened: ${String(error)}`, error)
  }
  const seen = await readSectors(pair, machine.shape)
  const wrong = firstWrong(chapter.model, seen, time, death)
  if (wrong !== undefined) throw broken(wrong)
  for (const block of moment?.remapped ?? []) {
    if (pair.target.table.lookup(mainBlock(block)) === undefined) throw broken(`the remap of block ${block} is gone`)
  }
  return { pair, seen }
}

export const isMetadata = (offset: number, { dataOffset, slots, blockSize }: Geometry): boolean =>
  offset < dataOffset || offset >= dataOffset + slots * blockSize

/** Whether a write of metadata was under way. */
export const touchesMetadata = ({ volatile }: CrashPoint, geometry: Geometry): boolean =>
  volatile.some(({ disk, offset }) => disk === 'spare' && isMetadata(offset, geometry))

function lastPoint({ start, journal }: Chapter): CrashPoint {
  let last: CrashPoint | undefined
  for (const point of crashPoints(start, journal)) last = point
  return last!
}

export function firstWrong(
  model: Model,
  seen: readonly (Buffer | undefined)[],
  time: number,
  death: Death,
): string | undefined {
  for (const [sector, content] of seen.entries()) {
    const wrong = model.check(sector, content, time, death)
    if (wrong !== undefined) return wrong
  }
  return undefined
}

const rule = (operations: FaultRule['operations'], start: number, length: number): FaultRule => ({
  operations: operations.includes('write') ? [...operations, 'write-zeroes'] : operations,
  start,
  end: start + length,
  code: 'EIO',
})

/** What an operator wants may be impossible. */
async function orRefused(action: () => Promise<void>): Promise<void> {
  try {
    await action()
  } catch (error) {
    if (!(error instanceof RemapRequestError)) throw error
  }
}

async function fails(request: Completion): Promise<boolean> {
  try {
    await request
    return false
  } catch (error) {
    if (error instanceof DeviceError) return true
    throw error
  }
}
