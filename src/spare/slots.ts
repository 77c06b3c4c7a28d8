/**
 * The slot table: which main block every spare data block stands for. It lives in memory as records, of which the pages are
 * made that go to the disk, and is changed by commits only. Durability order of a commit (promise P4):
 *
 *   1. flush                     the data blocks that the new slots point to are durable
 *   2. confirm                   no other server has taken the spare over
 *   3. write pages, copy 0; flush
 *   4. write pages, copy 1; flush
 *   5. resolve                   the caller inserts into the remap table and answers the guest
 *
 * Commits that arrive while one is under way share the next one's pages and flushes. The second copy is never begun
 * while the first is in flight, so a crash leaves one whole.
 *
 * A commit succeeds while each page can be written in one of its copies. The other copy has then missed an update, and the
 * header says so, durably, before the commit resolves: it would be taken for the newest if the good one decayed. Such a
 * copy is tried first when its page changes again, and believed again in the header before the good one is touched.
 *
 * A write that was given up may still reach the disk. While one copy of a page is on its way like that, the other one is not
 * touched: it is tried first when the page changes again, and when that is late, too, the commit fails.
 */
import { DeadlineError } from '../device/deadline.js'
import { DeviceError, type Completion, type Device } from '../device/device.js'
import { assert } from '../util/assert.js'
import type { Log } from '../util/log.js'
import { mainBlock, slotNumber, type SlotNumber } from '../util/units.js'
import { choosePage, MISSED, type BadCopy, type PageChoice, type TableAge } from './choose.js'
import {
  emptyPage,
  haveEqualSlots,
  PAGE_SIZE,
  pageDamage,
  pageHeaderSequence,
  pageOf,
  pageSequence,
  readSlot,
  sealPage,
  SLOT_TABLE_COPIES,
  SLOTS_PER_PAGE,
  slotState,
  writeSlot,
  type Geometry,
  type Slot,
  type SlotState,
  type SlotTableRecord,
  type StaleRun,
} from './format.js'
import { MAIN_BLOCK_MAX, SlotRecords } from './slot-records.js'
import { StaleCopies } from './stale-copies.js'

export interface SlotUpdate {
  readonly number: SlotNumber
  readonly slot: Slot
}

export interface SlotCounts {
  remapped: number
  retired: number
  /** Of the remapped ones those with lost sectors. */
  lost: number
}

/** The counts among all slots of a spare. */
export interface SlotSummary extends Readonly<SlotCounts> {
  readonly total: number
}

export interface SlotKind {
  readonly state: SlotState
  readonly hasLost: boolean
}

export function addSlot(counts: SlotCounts, { state, hasLost }: SlotKind, change: 1 | -1): void {
  if (state === 'free') return
  counts[state] += change
  if (hasLost) counts.lost += change
}

/** A slot page whose copies were not all intact and equal. */
export interface PageFinding {
  readonly page: number
  readonly bad: readonly BadCopy[]
  /** No copy is intact: what its slots said is not known. */
  readonly lost: boolean
}

interface Commit {
  readonly updates: readonly SlotUpdate[]
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/** What the table needs of the header of its spare. */
export interface TableHeader {
  /** Of the newest header that is durable. */
  readonly sequence: number
  /** Whether the spare is still ours. @throws OwnershipLostError */
  confirm(): Completion
  /** Writes the header anew, with what `record` says now. @throws DeviceError */
  save(): Promise<void>
}

interface PageWrite {
  readonly number: number
  readonly sequence: number
}

/** Pages are read and initialised this many at a time. */
const PAGES_PER_STEP = 256
/** So many pages beyond the initialised ones are looked at, in case a newer header had initialised them. */
const PAGES_BEYOND = 64
const COPIES = range(0, SLOT_TABLE_COPIES)

export class SlotTable {
  readonly #device: Device
  readonly #geometry: Geometry
  readonly #uuid: Buffer
  readonly #log: Log
  readonly records: SlotRecords
  /** Number of the first slot among the records, which several spares may share. */
  readonly #base: number
  /** Sequence numbers of the pages that are initialised, which are the first ones of the table. */
  readonly #sequences: number[] = []
  /** Sequence numbers of pages whose sequence number in memory may be ahead of the disk. */
  readonly #durable = new Map<number, number>()
  /** Set by the owner of the header; until then there is none that could know of anything. */
  header: TableHeader = { sequence: 0, confirm: () => undefined, save: () => Promise.resolve() }
  /** Pages, by copy, that were given up while they were written, and may still be on their way. */
  readonly #late: readonly Set<number>[] = COPIES.map(() => new Set<number>())
  #stale = new StaleCopies()
  #staleSaved = 0
  #headerSequenceSeen = 0
  #queue: Commit[] = []
  /** What is done between two commits, when the disk is what memory says. */
  readonly #between: (() => Promise<void>)[] = []
  #committing = false

  constructor(device: Device, geometry: Geometry, uuid: Buffer, log: Log, records = new SlotRecords(), base = 0) {
    this.records = records
    this.#base = base
    this.#device = device
    this.#geometry = geometry
    this.#uuid = uuid
    this.#log = log
  }

  /** Slots in pages beyond were never used and are free. */
  get initialisedPages(): number {
    return this.#sequences.length
  }

  get initialisedSlots(): number {
    return Math.min(this.#sequences.length * SLOTS_PER_PAGE, this.#geometry.slots)
  }

  /** Whether the page of this slot is initialised. */
  has(number: SlotNumber): boolean {
    return number < this.initialisedSlots
  }

  get(number: SlotNumber): Slot {
    this.#assertInitialised(number)
    return this.records.get(this.#record(number))
  }

  state(number: SlotNumber): SlotState {
    return this.records.state(this.#record(number))
  }

  hasLost(number: SlotNumber): boolean {
    return this.records.hasLost(this.#record(number))
  }

  /** All slots, by what became of them. */
  count(): SlotCounts {
    const counts = { remapped: 0, retired: 0, lost: 0 }
    for (let n = this.initialisedSlots - 1; n >= 0; n--) {
      if (!this.records.isFree(this.#record(n))) addSlot(counts, this.kindOf(slotNumber(n)), 1)
    }
    return counts
  }

  kindOf(number: SlotNumber): SlotKind {
    const state = this.state(number)
    return { state, hasLost: state === 'remapped' && this.hasLost(number) }
  }

  /** All slots that are not free, in order. */
  *used(): Generator<SlotUpdate> {
    const end = this.initialisedSlots
    for (let n = 0; n < end; n++) {
      const number = slotNumber(n)
      if (!this.records.isFree(this.#record(number))) yield { number, slot: this.records.get(this.#record(number)) }
    }
  }

  /**
   * Reads the first `pages` pages, from each the newest intact copy that is not among the `stale` ones.
   * @returns the pages whose copies need a rewrite or are lost; nothing is written
   */
  async load(pages: number, stale: readonly StaleRun[] = []): Promise<PageFinding[]> {
    this.#stale = new StaleCopies(stale)
    const findings: PageFinding[] = []
    for (let first = 0; first < pages; first += PAGES_PER_STEP) {
      const choices = await this.#choose(first, Math.min(PAGES_PER_STEP, pages - first))
      for (const [n, choice] of choices.entries()) {
        this.#take(choice.kind === 'chosen' ? choice.page : emptyPage())
        if (choice.bad.length > 0) findings.push({ page: first + n, bad: choice.bad, lost: choice.kind === 'lost' })
      }
    }
    const beyond = await this.#choose(pages, Math.min(PAGES_BEYOND, this.#geometry.slotPages - pages))
    for (const choice of beyond) if (choice.kind === 'chosen') this.#noteAge(choice.page)
    return findings
  }

  /** Pages [first, first + count) as copy 0 of the table holds them, or should. */
  encoded(first: number, count: number): Buffer {
    return Buffer.concat(
      range(first, first + count).map((number) => this.#sealedPage(0, { number, sequence: this.#sequence(number) })),
    )
  }

  /** What the pages that were read say of their age. */
  get age(): TableAge {
    return { sequenceSum: this.#sequenceSum(this.#sequences.length), headerSequence: this.#headerSequenceSeen }
  }

  /** For the header: what it is to know of the first `pages` pages. @throws DeviceError when it has not enough room */
  record(pages: number): SlotTableRecord {
    const staleCopies = this.#stale.runs()
    if (!staleCopies) throw new DeviceError('ENOSPC', this.#device.name, 'write', 0, PAGE_SIZE)
    return { sequenceSum: this.#sequenceSum(pages), staleCopies }
  }

  #sequenceSum(pages: number): number {
    let sum = 0
    for (let n = 0; n < pages; n++) sum += this.#durable.get(n) ?? this.#sequence(n)
    return sum
  }

  /**
   * Rewrites bad copies from the intact one, which is not touched, so that a crash in the middle leaves it whole. One that
   * cannot be written has missed an update from now on. The caller writes the header next. @throws DeviceError
   */
  async repair(findings: readonly PageFinding[]): Promise<void> {
    const repairable = findings.filter(({ lost }) => !lost)
    await this.header.confirm()
    for (const copy of COPIES) {
      const isBad = ({ bad }: PageFinding): boolean => bad.some((entry) => entry.copy === copy)
      const pages = repairable.filter(isBad).map(({ page }) => ({
        number: page,
        sequence: this.#sequence(page),
      }))
      const { failed } = await this.#writeCopy(copy, pages)
      for (const { number } of pages) {
        if (failed.has(number)) this.#stale.add(copy, number)
        else {
          this.#stale.delete(copy, number)
          this.#durable.delete(number)
        }
      }
    }
    this.#staleSaved = this.#stale.changes
  }

  /**
   * Takes pages without an intact copy for empty ones, in memory. Their sequence numbers are above all that their copies have, so
   * that none of those is chosen while they are being rewritten, and keep the sum that the header knows.
   */
  async abandon(pages: readonly number[], sequenceSum: number): Promise<void> {
    for (const page of pages) {
      const copies = [await this.#readPages(0, page, 1), await this.#readPages(1, page, 1)].flat()
      const sequences = copies.map((buffer, copy) =>
        buffer && pageDamage(buffer, { uuid: this.#uuid, page, copy }) === undefined ? pageSequence(buffer) : 0,
      )
      const missing = sequenceSum - this.#sequenceSum(this.#sequences.length)
      this.#sequences[page] = Math.max(...sequences, missing - 1, 0) + 1
    }
  }

  /**
   * Writes one copy of a table that is to take the place of another one, as the records say; the other copy is not to be
   * believed. Both are in force with the next header.
   * @param sequence of all its pages: higher than any in the other table
   * @throws DeviceError
   */
  async writeAnew(copy: number, pages: number, sequence: number, onWritten: (bytes: number) => void): Promise<void> {
    for (let page = 0; page < pages; page++) {
      this.#sequences.push(sequence)
      for (const other of COPIES) if (other !== copy) this.#stale.add(other, page)
    }
    for (let from = 0; from < pages; from += PAGES_PER_STEP) {
      const numbers = range(from, Math.min(from + PAGES_PER_STEP, pages))
      const { error } = await this.#writeCopy(
        copy,
        numbers.map((number) => ({ number, sequence })),
      )
      if (error) throw error
      onWritten(numbers.length * PAGE_SIZE)
    }
  }

  /** The highest one of all pages. */
  get sequenceMax(): number {
    return this.#sequences.reduce((highest, sequence) => Math.max(highest, sequence), 0)
  }

  /**
   * Appends empty pages until there are `pages`, and makes them durable. The caller records the new number in the
   * header afterwards, and only then commits slots in them. @throws DeviceError
   */
  async initialise(pages: number): Promise<void> {
    const first = this.#sequences.length
    assert(pages <= this.#geometry.slotPages, `slot page ${pages - 1} lies outside the table`)
    for (let page = first; page < pages; page++) this.#sequences.push(0)
    try {
      for (let from = first; from < pages; from += PAGES_PER_STEP) {
        await this.#writePages(range(from, Math.min(from + PAGES_PER_STEP, pages)))
      }
    } catch (error) {
      this.#sequences.length = first
      throw error
    }
  }

  /**
   * Makes all the `updates` durable, together with the data written to the spare before this call.
   * @throws DeviceError when no copy could be written: memory then keeps the new state and the disk is in doubt
   */
  commit(updates: readonly SlotUpdate[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ updates, resolve, reject })
      if (!this.#committing) void this.#runCommits()
    })
  }

  /**
   * Compares pages [first, first + count) on the disk with memory, between two commits.
   * @returns the pages of which a copy is not what it should be
   */
  check(first: number, count: number): Promise<PageFinding[]> {
    return this.#betweenCommits(async () => {
      const copies = [await this.#readPages(0, first, count), await this.#readPages(1, first, count)]
      return range(first, first + count).flatMap((page) => {
        const bad = copies.flatMap((pages, copy): BadCopy[] => {
          const reason = this.#damageOf(pages[page - first], page, copy)
          return reason === undefined ? [] : [{ copy, reason }]
        })
        return bad.length === 0 ? [] : [{ page, bad, lost: false }]
      })
    })
  }

  /**
   * Rewrites copies that `check` found bad from memory, between two commits, and has the header know which ones cannot be
   * written. Good copies are not touched. @throws DeviceError
   */
  mend(findings: readonly PageFinding[]): Promise<void> {
    return this.#betweenCommits(async () => {
      await this.#device.flush()
      await this.repair(findings)
      this.#staleSaved = -1
      await this.#saveStale()
    })
  }

  /** Why this is not the page that memory would write; `undefined`: it is. */
  #damageOf(page: Buffer | undefined, number: number, copy: number): string | undefined {
    if (!page) return 'cannot be read'
    const damage = pageDamage(page, { uuid: this.#uuid, page: number, copy })
    if (damage !== undefined) return damage
    if (this.#stale.has(copy, number)) return MISSED
    const sequence = this.#sequence(number)
    if (pageSequence(page) !== sequence) return `has sequence ${pageSequence(page)} and not ${sequence}`
    return haveEqualSlots(page, this.#sealedPage(copy, { number, sequence })) ? undefined : 'says something else'
  }

  #betweenCommits<T>(action: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#between.push(() => action().then(resolve, reject))
      if (!this.#committing) void this.#runCommits()
    })
  }

  async #runCommits(): Promise<void> {
    this.#committing = true
    for (;;) {
      const task = this.#between.shift()
      if (task) await task()
      if (this.#queue.length === 0) {
        if (this.#between.length === 0) break
        continue
      }
      const batch = this.#queue
      this.#queue = []
      try {
        await this.#device.flush()
        await this.#writePages(this.#apply(batch.flatMap((commit) => commit.updates)))
        for (const commit of batch) commit.resolve()
      } catch (error) {
        for (const commit of batch) commit.reject(error)
      }
    }
    this.#committing = false
  }

  /** The next page as the disk has it. */
  #take(page: Buffer): void {
    const number = this.#sequences.length
    const first = number * SLOTS_PER_PAGE
    this.#sequences.push(pageSequence(page))
    this.#noteAge(page)
    for (let n = 0; n < this.#slotsIn(number); n++) {
      if (slotState(page, n) === 'free') continue
      const slot = readSlot(page, n)
      // What no disk has stays what no disk has: a page with a good checksum may still say anything.
      const block = mainBlock(Math.min(slot.mainBlock, MAIN_BLOCK_MAX))
      this.records.put(this.#record(first + n), { ...slot, mainBlock: block })
    }
  }

  #noteAge(page: Buffer): void {
    this.#headerSequenceSeen = Math.max(this.#headerSequenceSeen, pageHeaderSequence(page))
  }

  /** Changes the records. @returns the pages touched, each once */
  #apply(updates: readonly SlotUpdate[]): number[] {
    const touched = new Set<number>()
    for (const { number, slot } of updates) {
      this.#assertInitialised(number)
      this.records.put(this.#record(number), slot)
      touched.add(pageOf(number))
    }
    return [...touched].sort((a, b) => a - b)
  }

  /** Writes one copy of all these pages, flushes, then the other, and flushes again. */
  async #writePages(numbers: readonly number[]): Promise<void> {
    await this.header.confirm()
    const pages = numbers.map((number) => ({ number, sequence: this.#sequence(number) + 1 }))
    for (const { number, sequence } of pages) {
      this.#sequences[number] = sequence
      if (!this.#durable.has(number)) this.#durable.set(number, sequence - 1)
    }
    const first = COPIES.map((copy) => pages.filter(({ number }) => this.#comesFirst(copy, number)))
    const written = new Set<number>()
    const missed: { copy: number; number: number }[] = []
    let failure: unknown
    const write = async (copy: number, batch: readonly PageWrite[]): Promise<void> => {
      const { failed, error } = await this.#writeCopy(copy, batch)
      failure = error ?? failure
      for (const { number } of batch) {
        if (failed.has(number)) missed.push({ copy, number })
        else {
          written.add(number)
          this.#stale.delete(copy, number)
        }
      }
    }
    for (const copy of COPIES) await write(copy, first[copy] ?? [])
    await this.#saveStale()
    for (const copy of COPIES) await write(copy, without(pages, first[copy] ?? []))
    for (const { copy, number } of missed) if (written.has(number)) this.#stale.add(copy, number)
    await this.#saveStale()
    for (const number of written) this.#durable.delete(number)
    if (written.size < pages.length) throw failure
  }

  #comesFirst(copy: number, page: number): boolean {
    return this.#stale.has(copy, page) || (this.#late[copy]?.has(page) ?? false)
  }

  /** Has the header say which copies missed an update, if that has changed. @throws DeviceError */
  async #saveStale(): Promise<void> {
    while (this.#staleSaved !== this.#stale.changes) {
      const { changes } = this.#stale
      await this.header.save()
      this.#staleSaved = changes
    }
  }

  /**
   * @returns the numbers of the pages that could not be written, and why
   * @throws DeviceError when it cannot be flushed, or is late
   */
  async #writeCopy(
    copy: number,
    pages: readonly PageWrite[],
  ): Promise<{ failed: ReadonlySet<number>; error?: DeviceError }> {
    const failed = new Map<number, DeviceError>()
    if (pages.length === 0) return { failed: new Set() }
    for (const run of runsOf(pages)) await this.#writeRun(copy, run, failed)
    this.#refuseLate(copy, pages, failed)
    try {
      await this.#device.flush()
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error
      for (const { number } of pages) failed.set(number, error)
      // Whatever reached the disk of this copy must not be in flight together with the next one.
      await this.#device.flush()
    }
    const [error] = failed.values()
    if (!error) return { failed: new Set() }
    this.#log.error(`spare ${this.#device.name}: slot table copy ${copy} cannot be written: ${error.message}`)
    return { failed: new Set(failed.keys()), error }
  }

  /** @throws DeviceError when a page may still be on its way */
  #refuseLate(copy: number, pages: readonly PageWrite[], failed: ReadonlyMap<number, DeviceError>): void {
    let late: DeviceError | undefined
    for (const { number } of pages) {
      const error = failed.get(number)
      if (error instanceof DeadlineError) {
        this.#late[copy]?.add(number)
        late = error
      } else {
        this.#late[copy]?.delete(number)
      }
    }
    if (late !== undefined) throw late
  }

  /** In one write, and page by page when that fails, so that one bad sector costs one page. */
  async #writeRun(copy: number, run: readonly PageWrite[], failed: Map<number, DeviceError>): Promise<void> {
    const chunks = run.map((page) => this.#sealedPage(copy, page))
    try {
      await this.#device.write(this.#pageOffset(copy, run[0]?.number ?? 0), chunks)
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error
      if (run.length > 1 && error.code === 'EIO') {
        for (const page of run) await this.#writeRun(copy, [page], failed)
      } else {
        for (const { number } of run) failed.set(number, error)
      }
    }
  }

  #sealedPage(copy: number, { number, sequence }: PageWrite): Buffer {
    const page = emptyPage()
    const first = number * SLOTS_PER_PAGE
    for (let n = 0; n < this.#slotsIn(number); n++) {
      const record = this.#record(first + n)
      if (!this.records.isFree(record)) writeSlot(page, n, this.records.get(record))
    }
    return sealPage(page, { uuid: this.#uuid, page: number, copy }, sequence, this.header.sequence)
  }

  async #choose(first: number, count: number): Promise<PageChoice[]> {
    if (count <= 0) return []
    const copies = [await this.#readPages(0, first, count), await this.#readPages(1, first, count)]
    return range(first, first + count).map((page) =>
      choosePage(
        copies.map((copy) => copy[page - first]),
        this.#uuid,
        page,
        (copy) => this.#stale.has(copy, page),
      ),
    )
  }

  /** One read for all, and page by page only when that fails, so that one bad sector costs one page. */
  async #readPages(copy: number, first: number, count: number): Promise<(Buffer | undefined)[]> {
    const buffer = Buffer.alloc(count * PAGE_SIZE)
    const pages = range(0, count).map((n) => buffer.subarray(n * PAGE_SIZE, (n + 1) * PAGE_SIZE))
    if (await this.#tryRead(this.#pageOffset(copy, first), buffer)) return pages
    const readable: (Buffer | undefined)[] = []
    for (const [n, page] of pages.entries()) {
      readable.push((await this.#tryRead(this.#pageOffset(copy, first + n), page)) ? page : undefined)
    }
    return readable
  }

  async #tryRead(offset: number, into: Buffer): Promise<boolean> {
    try {
      await this.#device.read(offset, into)
      return true
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error
      return false
    }
  }

  /** The last page is not full, and the records behind it are those of another spare. */
  #slotsIn(page: number): number {
    return Math.min(SLOTS_PER_PAGE, this.#geometry.slots - page * SLOTS_PER_PAGE)
  }

  #pageOffset(copy: number, page: number): number {
    return (this.#geometry.slotTableOffsets[copy] ?? 0) + page * PAGE_SIZE
  }

  #sequence(page: number): number {
    return this.#sequences[page] ?? 0
  }

  #record(number: number): SlotNumber {
    return slotNumber(this.#base + number)
  }

  #assertInitialised(number: SlotNumber): void {
    assert(this.has(number), `slot ${number} is not initialised`)
  }
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, n) => from + n)
}

function without(pages: readonly PageWrite[], others: readonly PageWrite[]): readonly PageWrite[] {
  return others.length === 0 ? pages : pages.filter((page) => !others.includes(page))
}

/** Neighbouring pages as runs, so that they leave in one write. */
function runsOf(pages: readonly PageWrite[]): PageWrite[][] {
  const runs: PageWrite[][] = []
  for (const page of pages) {
    const last = runs.at(-1)
    if (last?.at(-1)?.number === page.number - 1) last.push(page)
    else runs.push([page])
  }
  return runs
}
