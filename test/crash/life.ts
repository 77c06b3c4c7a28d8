/**
 * The life of one pair of disks through the steps of a history, on simulated disks, with the model beside it. Every power
 * cut ends a chapter: what survived it is where the next one starts. What the disks could have held at any other moment
 * of a chapter is for explorer.ts to look at.
 */
import { DeviceError, type Completion } from '../../src/device/device.js'
import type { FaultRule } from '../support/faulty-device.js'
import { addRemaps, batchOf, removeRemaps } from '../../src/remap/admin.js'
import { RemapRequestError } from '../../src/remap/batch.js'
import { DrainError } from '../../src/remap/drain.js'
import { MetadataCheck, MetadataCheckError } from '../../src/remap/metadata-check.js'
import type { Pair } from '../../src/remap/pair.js'
import { Scrub } from '../../src/remap/scrub.js'
import { HEADER_OFFSETS, PAGE_SIZE } from '../../src/spare/format.js'
import type { Member } from '../../src/spare/pool.js'
import { RefusedError } from '../../src/util/errors.js'
import { silentLog } from '../../src/util/log.js'
import type { Random } from '../../src/util/random.js'
import { mainBlock, SECTOR_SIZE, slotNumber, type SlotNumber } from '../../src/util/units.js'
import { POLICY } from '../support/rig.js'
import { aftermath, BrokenPromise, lastPoint, type Chapter } from './aftermath.js'
import { INITIAL, Machine, NO_RULES, type Rules } from './machine.js'
import { ANYTHING, contentOf, LOST, Model, type Content, type Death, type Version } from './model.js'
import { copyImages, DISKS, SPARES, type Images, type SpareName } from './simulated-disk.js'
import { blocksOf, type Operation, type Request, type Shape, type Step } from './steps.js'

const SOUND_HEADER = 3

export class Life {
  readonly chapters: Chapter[] = []
  readonly #random: Random
  readonly #shape: Shape
  #machine: Machine
  #model: Model
  #pair!: Pair
  #lastId = INITIAL
  /** Of each slot page, by spare and number, the copy that may fail: both at once would be the end. */
  readonly #failingCopies = new Map<string, number>()
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
    const first = { time: 0, rules, remapped: new Set<number>(), metadataFaulted: this.#machine.failsMetadata() }
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
    const metadataFaulted = this.#machine.failsMetadata()
    this.#chapter.moments.push({ time: this.#now, rules, remapped, metadataFaulted })
    this.#markUnreadable()
  }

  /** Sectors whose place, on main or spare, cannot be read now. */
  #markUnreadable(): void {
    const { blockSize, sectors } = this.#shape
    for (let sector = 0; sector < sectors; sector++) {
      const offset = sector * SECTOR_SIZE
      const slot = (this.#pair as Pair | undefined)?.target.table.lookup(mainBlock(Math.floor(offset / blockSize)))
      const place = slot === undefined ? undefined : this.#placeOf(slot)
      const fails = place
        ? this.#machine.disk(place.disk).fails('read', place.offset + (offset % blockSize), SECTOR_SIZE)
        : this.#machine.main.fails('read', offset, SECTOR_SIZE)
      if (fails) this.#model.mayBeLost(sector, this.#now)
    }
  }

  /** Where the data block of a slot of the pool stands. */
  #placeOf(slot: SlotNumber): { disk: SpareName; offset: number } {
    const member = this.#pair.target.pool.memberOf(slot)
    return { disk: nameOf(member), offset: member.dataOffset(slot) }
  }

  async #step(step: Step): Promise<void> {
    switch (step.do) {
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
        this.#machine.disk(step.disk).add({ operations: ['flush'], start: 0, end: 1e12, code: 'EIO', times: 1 })
        break
      case 'heal':
        this.#machine.heal(...DISKS)
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
      case 'take-over':
        await this.#takeOver(step.block)
        break
      case 'cut':
        await this.#dieWithin(step.within, step.after)
        await this.#cut(step.seed)
        break
      default:
        await this.#request(step)
    }
  }

  /** The server that was there before must notice, and write nothing to the spare. */
  async #takeOver(block: number): Promise<void> {
    const { target: old } = this.#pair
    this.#machine.addServer()
    await this.#open()
    const { blockSize } = this.#shape
    const before = new Map(this.#machine.images.spare)
    const failed = await fails(old.write(block * blockSize, [Buffer.alloc(blockSize, 0xee)]))
    if (!failed) throw new BrokenPromise('a server that has lost its pair acknowledged a write')
    const after = this.#machine.images.spare
    const isSame = before.size === after.size && [...before].every(([sector, content]) => after.get(sector) === content)
    if (!isSame) throw new BrokenPromise('a server that has lost its pair wrote to the spare')
  }

  #blockWrite(block: number): Request {
    const perBlock = this.#shape.blockSize / SECTOR_SIZE
    return { do: 'write', sector: block * perBlock, sectors: perBlock, fua: false, inset: 0 }
  }

  /** Free spare blocks fail writes only: when it is in use, a block knows by the model what it may have lost. */
  #addSpareFault(operations: readonly Operation[], nth: number | undefined): void {
    const { table } = this.#pair.target
    const slots = [...table.entries()].map(([, slot]) => slot).sort((a, b) => a - b)
    const used = nth === undefined ? undefined : slots[nth % slots.length]
    const slot = used ?? this.#firstFree()
    if (slot === undefined) return
    const { disk, offset } = this.#placeOf(slot)
    this.#machine.disk(disk).add(rule(used === undefined ? ['write'] : operations, offset, this.#shape.blockSize))
  }

  /** The slot that is handed out next. */
  #firstFree(): SlotNumber | undefined {
    for (const member of this.#pair.target.pool.members) {
      const { geometry, slots } = member.spare
      for (let n = nameOf(member) === 'spare' ? this.#shape.firstSlot : 0; n < geometry.slots; n++) {
        if (slots.state(slotNumber(n)) === 'free') return member.global(slotNumber(n))
      }
    }
    return undefined
  }

  /** One copy of everything stays sound. */
  #addMetadataFault(step: Step & { do: 'metadata-fault' }): void {
    const geometry = this.#machine.geometry(step.spare)
    const page = Math.min(step.page, geometry.slotPages - 1)
    if (step.structure === 'header' && step.copy === SOUND_HEADER) return
    if (step.structure === 'page') {
      const key = `${step.spare}/${page}`
      if ((this.#failingCopies.get(key) ?? step.copy) !== step.copy) return
      this.#failingCopies.set(key, step.copy)
    }
    this.#hasFaultyMetadata = true
    this.#chapter.hasDecay = true
    const table = geometry.slotTableOffsets[step.copy] ?? 0
    const offset = step.structure === 'header' ? (HEADER_OFFSETS[step.copy] ?? 0) : table + page * PAGE_SIZE
    this.#machine.disk(step.spare).add(rule(step.operations, offset, PAGE_SIZE))
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
      case 'scrub':
        await this.#scrub()
        break
      case 'check':
        await orRefused(async () => {
          await new MetadataCheck(this.#pair.target, () => undefined, silentLog).run({ repair: true })
        })
        break
      case 'drain':
        await this.#drain(request.spare)
        break
      case 'join':
        await this.#join(request.spare)
        break
      case 'stop':
        await this.#stop()
        break
      case 'burst':
        await this.#burst(request)
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
    const place =
      slot === undefined ? {} : { spareSector: Math.min(slot, this.#machine.geometry('spare').slots - 1) * perBlock }
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
    this.#machine.heal(...SPARES)
  }

  /** With a server that is killed, it does not come to an end. */
  #scrub(): Promise<void> {
    const { target } = this.#pair
    return new Promise((resolve) => {
      const scrub = new Scrub(
        target,
        (event) => {
          if (event === 'SCRUB_COMPLETED' || event === 'SCRUB_STOPPED') resolve()
        },
        silentLog,
      )
      scrub.start({ speed: 0, restart: true })
    })
  }

  /** What is free afterwards is sound: it may join again. */
  async #drain(spare: SpareName): Promise<void> {
    const { pool } = this.#pair.target
    const member = pool.find(spare)
    if (!member) return
    await orRefused(() => this.#pair.removeSpare(member).done)
    if (!pool.members.includes(member)) this.#machine.heal(spare)
  }

  async #join(spare: SpareName): Promise<void> {
    if (!this.#shape.second || this.#pair.target.pool.find(spare)) return
    await orRefused(async () => {
      await this.#pair.addOpened(this.#machine.opened(spare), true)
    })
  }

  async #burst({ blocks, beside }: Request & { do: 'burst' }): Promise<void> {
    const writes = blocks.map((block) => this.#request(this.#blockWrite(block)))
    await Promise.all([...writes, ...(beside ? [this.#request(beside)] : [])])
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
    await this.#reserve()
    for (const block of before) {
      if (this.#pair.target.table.lookup(mainBlock(block)) === undefined) {
        throw new BrokenPromise(`after a restart, the remap of block ${block} is gone`)
      }
    }
    this.#note()
  }

  /** The slots before the first one that is handed out. */
  async #reserve(): Promise<void> {
    const member = this.#pair.target.pool.find('spare')
    for (let slot = 0; member && slot < this.#shape.firstSlot; slot++) await member.spare.reserve(slotNumber(slot))
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
    await this.#reserve()
    this.#model = new Model(contents)
    this.#begin(start)
  }
}

const nameOf = ({ name }: Member): SpareName => name as SpareName

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
    const isRefusal = [RemapRequestError, RefusedError, DrainError, MetadataCheckError, DeviceError].some(
      (kind) => error instanceof kind,
    )
    if (!isRefusal) throw error
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
