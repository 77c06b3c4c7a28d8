/**
 * An opened spare: headers, slot table, allocator and data blocks of one disk. Opening order, which keeps a later loss
 * of one copy from going back in time: read and choose; the caller checks that the main is the right one; `takeOver`
 * then repairs every slot page and rewrites every header copy, flushed, before anything is served.
 */
import { randomBytes } from 'node:crypto'
import { DeadlineError } from '../device/deadline.js'
import { DeviceError, type Device } from '../device/device.js'
import { assert } from '../util/assert.js'
import { RefusedError } from '../util/errors.js'
import type { Log } from '../util/log.js'
import { Pacer } from '../util/pacer.js'
import { slotNumber, type SlotNumber } from '../util/units.js'
import { Allocator } from './allocator.js'
import { findContent } from './blank.js'
import { ageProblem, geometryProblem, unlike, type BadCopy } from './choose.js'
import {
  encodeHeader,
  FORMAT_VERSION,
  HEADER_AREA_SIZE,
  HEADER_OFFSETS,
  HEADER_SIZE,
  layOut,
  looksLikePage,
  PAGE_SIZE,
  pageOf,
  poolOfOne,
  SLOTS_PER_PAGE,
  spareSizeMin,
  type CountedNotes,
  type Geometry,
  type Header,
  type HeaderNotes,
  type MainIdentity,
  type MainMoves,
  type PoolRecord,
} from './format.js'
import {
  encodeCopies,
  hasHeader,
  readCopies,
  readHeader,
  wipeHeaders,
  writeHeader,
  type HeaderSource,
} from './header.js'
import { judgeOwner, newOwner, OwnershipLostError, type OwnerVerdict } from './ownership.js'
import type { SlotRecords } from './slot-records.js'
import { addSlot, SlotTable, type PageFinding, type SlotCounts, type SlotKind, type SlotUpdate } from './slots.js'

/** Slot pages are initialised in strides, so that the header is rewritten once for many remaps. */
const PAGES_PER_STRIDE = 64

export interface FormatOptions {
  readonly blockSize: number
  readonly main: MainIdentity & { readonly size: number }
  /** Overwrite whatever is there. Without it a disk that is not blank is refused. */
  readonly force: boolean
  /** Random if absent. */
  readonly uuid?: Buffer
  /** A pool of its own if absent. */
  readonly pool?: PoolRecord
  /** Counts on from there if it joins a pool. */
  readonly ownerEpoch?: number
}

/** What the headers say from the next update on; the rest stays. */
export interface HeaderChange {
  readonly ownerEpoch?: number
  /** With it the spare is ours, and it is looked whether it still is before anything else is written. */
  readonly owner?: Buffer
  readonly clean?: boolean
  readonly initialisedPages?: number
  readonly main?: MainIdentity
  readonly mainSize?: number
  readonly moves?: MainMoves
  readonly moving?: unknown
  readonly pool?: PoolRecord
  readonly healing?: unknown
}

/** The header that is in force, and the copies that are not like it. */
export interface BelievedHeader {
  readonly header: Header
  readonly bad: readonly BadCopy[]
}

/** Where the slots of a spare stand among those of its pool. */
export interface RecordsPlace {
  readonly records: SlotRecords
  /** Number of the first one. */
  readonly base: number
}

/** What opening found to be repaired. */
export interface OpenFindings {
  readonly headerCopies: readonly BadCopy[]
  readonly pages: readonly PageFinding[]
}

export class Spare {
  readonly device: Device
  readonly findings: OpenFindings
  readonly slots: SlotTable
  /** What every update of the header notes of what was counted; what is absent stays as it is. */
  counted: () => CountedNotes = () => ({})
  readonly #log: Log
  readonly #allocator: Allocator
  readonly #counts: SlotCounts
  #header: Header
  /** Of the last update, even if that failed: some copy may have it, and the next one must not be taken for the same. */
  #sequence: number
  /** Copies that the next update writes first. */
  #badCopies: readonly number[]
  #initialising: Promise<void> = Promise.resolve()
  #updating: Promise<void> = Promise.resolve()
  /** The header copies as they were written last; empty: the spare is not ours. */
  #written: readonly Buffer[] = []
  /** Which copy is looked at next: each in its turn. */
  #nextCopy = 0
  #lost: OwnershipLostError | undefined
  /** Told once when another server has taken the spare over. */
  onLost: (reason: string) => void = () => undefined

  private constructor(device: Device, header: Header, slots: SlotTable, findings: OpenFindings, log: Log) {
    this.device = device
    this.findings = findings
    this.slots = slots
    this.#header = header
    this.#sequence = header.sequence
    this.#badCopies = findings.headerCopies.map(({ copy }) => copy)
    this.#log = log
    this.#counts = slots.count()
    const used = this.#counts.remapped + this.#counts.retired
    this.#allocator = new Allocator(header.geometry.slots, used, (number) => slots.state(number))
    slots.header = { sequence: header.sequence, confirm: () => this.confirmOwner(), save: () => this.update({}) }
  }

  /**
   * Writes an empty slot table and the five headers. Nothing is written before all checks have passed.
   * @throws RefusedError when the disk is too small, or not blank and `force` is not given
   */
  static async format(device: Device, options: FormatOptions, log: Log): Promise<void> {
    const { main, blockSize } = options
    await Spare.refuseUnfit(device, options)
    const geometry = layOut(main.size, device.size, blockSize)
    assert(geometry !== undefined, `${device.name} is too small`)
    const uuid = options.uuid ?? randomBytes(16)
    const pages = Math.min(PAGES_PER_STRIDE, geometry.slotPages)
    const header = newHeader(device, geometry, pages, { ...options, uuid })
    encodeHeader(header, 0) // throws when it does not fit, while the disk is still as it was
    await wipeHeaders(device)
    const slots = new SlotTable(device, geometry, uuid, log)
    await slots.initialise(pages)
    await writeHeader(device, { ...header, notes: { ...header.notes, slotTable: slots.record(pages) } }, log)
  }

  /** Whether the disk can be formatted; writes nothing. @throws RefusedError */
  static async refuseUnfit(device: Device, { main, blockSize, force }: FormatOptions): Promise<void> {
    if (!layOut(main.size, device.size, blockSize)) {
      throw new RefusedError(
        `spare ${device.name} is too small: ${device.size} bytes, and at least ${spareSizeMin(blockSize)} are needed`,
      )
    }
    if (!force) await refuseUnlessBlank(device)
  }

  /** Reads the header; writes nothing. @throws RefusedError when the disk is not a spare, or one that cannot be used */
  static async identify(device: Device): Promise<BelievedHeader> {
    const choice = await readHeader(device)
    if (choice.kind === 'absent') throw new RefusedError(await absentMessage(device))
    if (choice.kind === 'refused') throw new RefusedError(`spare ${device.name} is refused: ${choice.reason}`)
    const problem = geometryProblem(choice.header.geometry, device.size)
    if (problem) throw new RefusedError(`spare ${device.name} is refused: ${problem}`)
    return choice
  }

  /**
   * Reads header and slot table; writes nothing.
   * @param place among the records of a pool; absent: it has records of its own
   * @throws RefusedError when the disk is not a spare, or one that cannot be used
   */
  static async open(device: Device, log: Log, place?: RecordsPlace): Promise<Spare> {
    return Spare.load(device, await Spare.identify(device), log, place)
  }

  /** The rest of `open`, after `identify`. @throws RefusedError */
  static async load(device: Device, { header, bad }: BelievedHeader, log: Log, place?: RecordsPlace): Promise<Spare> {
    const slots = new SlotTable(device, header.geometry, header.uuid, log, place?.records, place?.base)
    const pages = await slots.load(header.initialisedPages, header.notes.slotTable?.staleCopies)
    const tooOld = pages.some(({ lost }) => lost) ? undefined : ageProblem(header, slots.age)
    if (tooOld) throw new RefusedError(`spare ${device.name} is refused: ${tooOld}`)
    return new Spare(device, header, slots, { headerCopies: bad, pages }, log)
  }

  get header(): Header {
    return this.#header
  }

  get geometry(): Geometry {
    return this.#header.geometry
  }

  get blockSize(): number {
    return this.#header.geometry.blockSize
  }

  get counts(): Readonly<SlotCounts> {
    return this.#counts
  }

  /** Free slots that nobody has reserved. */
  get free(): number {
    return this.#allocator.free
  }

  /**
   * Repairs damaged copies and takes ownership: afterwards the headers say "in use by a new owner".
   * @throws RefusedError when a slot page has no intact copy; DeviceError when nothing can be written
   */
  async takeOver(main: MainIdentity, change: HeaderChange = {}): Promise<void> {
    await this.repairSlots()
    await this.update({ ownerEpoch: this.#header.ownerEpoch + 1, owner: newOwner(), clean: false, main, ...change })
  }

  /** It was taken over by us, and has been opened again. @throws OwnershipLostError */
  async adopt(owner: Buffer): Promise<void> {
    if (!this.#header.notes.owner?.equals(owner)) throw new OwnershipLostError(this.device.name, 'it was taken over')
    this.#written = encodeCopies(this.#header)
    await this.repairSlots()
    await this.update({})
  }

  /** That nobody has taken the spare over since it was opened; before it is taken over. @throws RefusedError */
  async refuseIfChanged(): Promise<void> {
    const { uuid, sequence } = this.#header
    const headers = (await readCopies(this.device)).flatMap((copy) => (copy.kind === 'valid' ? [copy.header] : []))
    if (headers.every((header) => header.uuid.equals(uuid) && header.sequence <= sequence)) return
    throw new RefusedError(
      `spare ${this.device.name} was taken over by another server while it was being opened: stop the other one first`,
    )
  }

  /**
   * Looks at one copy of the header, in the path of every change of the metadata. A server that takes the spare over
   * writes all copies before it uses anything.
   * @throws OwnershipLostError
   */
  async confirmOwner(): Promise<void> {
    // One that gives way sees it by our writing the header again.
    while ((await this.#glance()) === 'contested') await this.update({})
  }

  async #glance(): Promise<OwnerVerdict['kind']> {
    if (this.#lost) throw this.#lost
    const copy = this.#nextCopy
    const expected = this.#written[copy]
    if (expected === undefined) return 'ours'
    this.#nextCopy = (copy + 1) % HEADER_OFFSETS.length
    const page = Buffer.allocUnsafe(HEADER_SIZE)
    try {
      await this.device.read(HEADER_OFFSETS[copy] ?? 0, page)
    } catch (error) {
      // A copy that cannot be read says nothing: the others do. A disk that does not answer takes no metadata either.
      if (error instanceof DeviceError && error.code !== 'EIO') return 'ours'
    }
    return page.equals(expected) ? 'ours' : this.examineOwner()
  }

  /**
   * Looks at all copies of the header.
   * @param source another way to read the spare
   * @throws OwnershipLostError
   */
  async examineOwner(source: HeaderSource = this.device): Promise<OwnerVerdict['kind']> {
    const { owner } = this.#header.notes
    if (this.#lost) throw this.#lost
    if (this.#written.length === 0 || owner === undefined) return 'ours'
    const mine = { uuid: this.#header.uuid, epoch: this.#header.ownerEpoch, owner }
    const verdict = judgeOwner(mine, await readCopies(source))
    if (verdict.kind !== 'lost') return verdict.kind
    this.#lost ??= this.#loseTo(verdict.reason)
    throw this.#lost
  }

  #loseTo(reason: string): OwnershipLostError {
    this.onLost(reason)
    return new OwnershipLostError(this.device.name, reason)
  }

  /** Rewrites what opening found damaged in the slot table. @throws RefusedError, DeviceError */
  async repairSlots(): Promise<void> {
    this.refuseIfLost()
    await this.slots.repair(this.findings.pages)
  }

  /** @throws RefusedError when a slot page has no intact copy: what it said is never guessed at */
  refuseIfLost(): void {
    const lost = this.findings.pages.filter((finding) => finding.lost)
    const [first] = lost
    if (!first) return
    const reasons = first.bad.map(({ copy, reason }) => `copy ${copy} ${reason}`).join(', ')
    throw new RefusedError(
      `spare ${this.device.name} is refused: ${lost.length} slot page(s) have no intact copy, so some remaps are unknown (page ${first.page}: ${reasons}); restore it from a copy, or its metadata with "nbd-remap import", or see "nbd-remap repair --help"`,
    )
  }

  /**
   * Reserves a free slot and sees to it that its page is initialised; `undefined`: the spare is full.
   * @throws DeviceError when no page can be initialised, and those that are have no room
   */
  async allocate(): Promise<SlotNumber | undefined> {
    const number = this.#allocator.allocate()
    if (number === undefined) return undefined
    try {
      await this.#initialiseOrRelease(number)
      return number
    } catch (error) {
      const other = this.#allocator.allocate(this.#header.initialisedPages * SLOTS_PER_PAGE)
      if (other === undefined) throw error
      return other
    }
  }

  /** Reserves this very slot. @returns whether it was free */
  async reserve(number: SlotNumber): Promise<boolean> {
    if (!this.#allocator.reserve(number)) return false
    await this.#initialiseOrRelease(number)
    return true
  }

  async #initialiseOrRelease(number: SlotNumber): Promise<void> {
    try {
      await this.#ensureInitialised(number)
    } catch (error) {
      this.#allocator.release(number)
      throw error
    }
  }

  /** Gives reserved slots back. */
  release(numbers: readonly SlotNumber[]): void {
    for (const number of numbers) this.#allocator.release(number)
  }

  /** The page of this slot could not be written: as long as there are other ones, no slot in it is taken. */
  avoidPage(number: SlotNumber): void {
    this.#allocator.avoid(slotNumber(pageOf(number) * SLOTS_PER_PAGE), SLOTS_PER_PAGE)
  }

  /** Durable when it resolves, together with all data written before the call. @throws DeviceError */
  async commit(updates: readonly SlotUpdate[]): Promise<void> {
    const before = new Map<SlotNumber, SlotKind>()
    const pacer = new Pacer()
    for (const { number } of updates) {
      before.set(number, this.slots.kindOf(number))
      await pacer.pause()
    }
    await this.slots.commit(updates)
    for (const [number, kind] of before) {
      await pacer.pause()
      this.#allocator.committed(number, kind.state)
      addSlot(this.#counts, kind, -1)
      addSlot(this.#counts, this.slots.kindOf(number), 1)
    }
  }

  dataOffset(number: SlotNumber): number {
    const { geometry } = this
    // In the path of every request: the sentence is made only when it is needed.
    if (number >= geometry.slots) assert(false, `slot ${number} lies outside the spare`)
    return geometry.dataOffset + number * geometry.blockSize
  }

  /** Records a clean stop, with what the main looked like. @throws DeviceError */
  async markClean(main: MainIdentity): Promise<void> {
    await this.device.flush()
    await this.update({ clean: true, main })
  }

  /**
   * Puts another layout in force, all of which is on the disk but what `table` does not believe. This object is of no use
   * afterwards: the spare is to be opened anew. @throws DeviceError; RefusedError when it was opened by others meanwhile
   */
  async moveTo(geometry: Geometry, table: SlotTable, initialisedPages: number): Promise<void> {
    await this.refuseIfChanged()
    const { notes } = this.#header
    const slotTable = table.record(initialisedPages)
    const sequence = ++this.#sequence
    const header = { ...this.#header, version: FORMAT_VERSION, sequence, geometry, initialisedPages }
    await writeHeader(this.device, { ...header, notes: { ...notes, slotTable } }, this.#log, this.#badCopies)
  }

  /** Changes the notes of scrub and replica, durably. @throws DeviceError */
  noteHealing(change: (healing: unknown) => unknown): Promise<void> {
    return this.update(({ healing }) => ({ healing: change(healing) }))
  }

  /** Slots are initialised one stride at a time, whoever asks first. */
  #ensureInitialised(number: SlotNumber): Promise<void> {
    if (pageOf(number) < this.#header.initialisedPages) return Promise.resolve()
    const step = this.#initialising.then(async () => {
      if (pageOf(number) < this.#header.initialisedPages) return
      const pages = Math.min(pageOf(number) + PAGES_PER_STRIDE, this.geometry.slotPages)
      await this.slots.initialise(pages)
      await this.update({ initialisedPages: pages })
    })
    this.#initialising = step.catch(() => undefined)
    return step
  }

  /** Which header copies on the disk are not what they should be, between two updates. */
  checkHeader(): Promise<readonly BadCopy[]> {
    const step = this.#updating.then(async () => unlike(await readCopies(this.device), this.#header))
    this.#updating = step.then(
      () => undefined,
      () => undefined,
    )
    return step
  }

  /** Rewrites all header copies, the bad ones first. @throws DeviceError */
  mendHeader(bad: readonly BadCopy[]): Promise<void> {
    this.#badCopies = bad.map(({ copy }) => copy)
    return this.update({})
  }

  /** Rewrites all header copies, after the updates before this one. @throws DeviceError; RangeError when it does not fit */
  update(change: HeaderChange | ((notes: HeaderNotes) => HeaderChange)): Promise<void> {
    const step = this.#updating.then(async () => {
      await this.#glance()
      const { notes: before } = this.#header
      const asked = change instanceof Function ? change(before) : change
      const { main, mainSize, moves, moving = before.moving, pool, owner, healing = before.healing, ...fields } = asked
      const notes = {
        ...before,
        ...(main && { main }),
        ...(pool && { pool }),
        ...(owner && { owner }),
        ...(moves && { moves }),
        ...(moving !== undefined && { moving }),
        ...(healing !== undefined && { healing }),
        ...this.counted(),
      }
      const { geometry: old } = this.#header
      const geometry = mainSize === undefined ? old : { ...old, mainSize }
      const next = { ...this.#header, ...fields, geometry, version: FORMAT_VERSION, sequence: ++this.#sequence }
      const slotTable = this.slots.record(next.initialisedPages)
      const header = { ...next, notes: { ...notes, slotTable } }
      const pages = encodeCopies(header)
      await writeHeader(this.device, header, this.#log, this.#badCopies, pages).catch((error: unknown) => {
        // It is tried first until it is answered.
        if (isLateWrite(error)) this.#badCopies = [HEADER_OFFSETS.indexOf(error.offset)]
        throw error
      })
      this.#badCopies = []
      this.#header = header
      if (owner !== undefined || this.#written.length > 0) this.#written = pages
      this.slots.header = { ...this.slots.header, sequence: header.sequence }
    })
    this.#updating = step.catch(() => undefined)
    return step
  }
}

const isLateWrite = (error: unknown): error is DeadlineError =>
  error instanceof DeadlineError && error.operation === 'write'

function newHeader(
  { name }: Device,
  geometry: Geometry,
  initialisedPages: number,
  options: FormatOptions & { readonly uuid: Buffer },
): Header {
  const { main, uuid, pool = poolOfOne({ uuid, location: name }), ownerEpoch = 0 } = options
  const { id, location, fingerprint } = main
  return {
    version: FORMAT_VERSION,
    uuid,
    sequence: 1,
    ownerEpoch,
    clean: true,
    geometry,
    initialisedPages,
    notes: { main: { id, location, fingerprint }, createdAt: new Date().toISOString(), pool },
  }
}

async function refuseUnlessBlank(device: Device): Promise<void> {
  if (await hasHeader(device)) {
    throw new RefusedError(
      `spare ${device.name} is already formatted: serve it as it is, or overwrite it with "nbd-remap format --force"`,
    )
  }
  const content = await findContent(device)
  if (content === undefined) return
  throw new RefusedError(
    `spare ${device.name} is not blank (${content.what} near offset ${content.offset}): if it can go, overwrite it with "nbd-remap format --force"`,
  )
}

async function absentMessage(device: Device): Promise<string> {
  if (await hasSlotTable(device)) {
    return `spare ${device.name} is not whole: it has a slot table and no header. When an import was cut off, or the headers were overwritten, run "nbd-remap import" with an export of its metadata; when a format was cut off, "nbd-remap format --force"`
  }
  if ((await findContent(device)) === undefined) {
    return `spare ${device.name} is blank: add --create to format it, or run "nbd-remap format"`
  }
  return `spare ${device.name} is not formatted and not blank: is it the right disk? If its content can go, run "nbd-remap format --force"`
}

async function hasSlotTable(device: Device): Promise<boolean> {
  const page = Buffer.alloc(PAGE_SIZE)
  if (device.size < HEADER_AREA_SIZE + PAGE_SIZE) return false
  try {
    await device.read(HEADER_AREA_SIZE, page)
    return looksLikePage(page)
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error
    return false
  }
}
