/**
 * The slot table: which main block every spare data block stands for. It lives in memory as records, of which the pages are
 * made that go to the disk, and is changed by commits only. Durability order of a commit (promise P4):
 *
 *   1. flush                     the data blocks that the new slots point to are durable
 *   2. write pages, copy 0; flush
 *   3. write pages, copy 1; flush
 *   4. resolve                   the caller inserts into the remap table and answers the guest
 *
 * Commits that arrive while one is under way share the next one's pages and flushes. A table copy that cannot be
 * written is given up and reported; a commit succeeds while at least one copy was written. The second copy is never
 * begun while the first is in flight, so a crash leaves one whole.
 */
import { DeviceError, type Device } from '../device/device.js'
import { assert } from '../util/assert.js'
import type { Log } from '../util/log.js'
import { mainBlock, slotNumber, type SlotNumber } from '../util/units.js'
import { badFirst, choosePage, type BadCopy } from './choose.js'
import {
  emptyPage,
  PAGE_SIZE,
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
} from './format.js'
import { MAIN_BLOCK_MAX, SlotRecords } from './slot-records.js'

export interface SlotUpdate {
  readonly number: SlotNumber
  readonly slot: Slot
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

/** Pages are read and initialised this many at a time. */
const PAGES_PER_STEP = 256

export class SlotTable {
  readonly #device: Device
  readonly #geometry: Geometry
  readonly #uuid: Buffer
  readonly #log: Log
  #records = new SlotRecords()
  /** Number of the first slot among the records, which several spares may share. */
  #base = 0
  /** Sequence numbers of the pages that are initialised, which are the first ones of the table. */
  readonly #sequences: number[] = []
  #queue: Commit[] = []
  #committing = false

  constructor(device: Device, geometry: Geometry, uuid: Buffer, log: Log) {
    this.#device = device
    this.#geometry = geometry
    this.#uuid = uuid
    this.#log = log
  }

  get records(): SlotRecords {
    return this.#records
  }

  /** Goes on in `records`, in which slot 0 has the number `base`. */
  share(records: SlotRecords, base: number): void {
    records.adopt(this.#records, base, this.initialisedSlots)
    this.#records = records
    this.#base = base
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
    return this.#records.get(this.#record(number))
  }

  state(number: SlotNumber): SlotState {
    return this.#records.state(this.#record(number))
  }

  hasLost(number: SlotNumber): boolean {
    return this.#records.hasLost(this.#record(number))
  }

  /** Number of slots that are not free. */
  countUsed(): number {
    let used = 0
    for (let n = this.initialisedSlots - 1; n >= 0; n--) if (!this.#records.isFree(this.#record(n))) used++
    return used
  }

  /** All slots that are not free, in order. */
  *used(): Generator<SlotUpdate> {
    const end = this.initialisedSlots
    for (let n = 0; n < end; n++) {
      const number = slotNumber(n)
      if (!this.#records.isFree(this.#record(number))) yield { number, slot: this.#records.get(this.#record(number)) }
    }
  }

  /**
   * Reads the first `pages` pages, from each the newest intact copy.
   * @returns the pages whose copies need a rewrite or are lost; nothing is written
   */
  async load(pages: number): Promise<PageFinding[]> {
    const findings: PageFinding[] = []
    for (let first = 0; first < pages; first += PAGES_PER_STEP) {
      const count = Math.min(PAGES_PER_STEP, pages - first)
      const copies = [await this.#readPages(0, first, count), await this.#readPages(1, first, count)]
      for (let n = 0; n < count; n++) {
        const choice = choosePage(
          copies.map((copy) => copy[n]),
          this.#uuid,
          first + n,
        )
        this.#take(choice.kind === 'chosen' ? choice.page : emptyPage())
        if (choice.bad.length > 0) findings.push({ page: first + n, bad: choice.bad, lost: choice.kind === 'lost' })
      }
    }
    return findings
  }

  /**
   * Rewrites both copies of the pages found bad from the intact one. The bad copy goes first: a crash in the middle
   * must not find the intact one half written. @throws DeviceError
   */
  async repair(findings: readonly PageFinding[]): Promise<void> {
    for (let first = 0; first < SLOT_TABLE_COPIES; first++) {
      const pages = findings.filter(({ lost, bad }) => !lost && bad[0]?.copy === first).map(({ page }) => page)
      await this.#writePages(pages, badFirst(SLOT_TABLE_COPIES, [first]))
    }
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

  async #runCommits(): Promise<void> {
    this.#committing = true
    while (this.#queue.length > 0) {
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
    const first = this.#sequences.length * SLOTS_PER_PAGE
    this.#sequences.push(pageSequence(page))
    for (let n = 0; n < SLOTS_PER_PAGE; n++) {
      if (slotState(page, n) === 'free') continue
      const slot = readSlot(page, n)
      // What no disk has stays what no disk has: a page with a good checksum may still say anything.
      this.#records.put(this.#record(first + n), {
        ...slot,
        mainBlock: mainBlock(Math.min(slot.mainBlock, MAIN_BLOCK_MAX)),
      })
    }
  }

  /** Changes the records. @returns the pages touched, each once */
  #apply(updates: readonly SlotUpdate[]): number[] {
    const touched = new Set<number>()
    for (const { number, slot } of updates) {
      this.#assertInitialised(number)
      this.#records.put(this.#record(number), slot)
      touched.add(pageOf(number))
    }
    return [...touched].sort((a, b) => a - b)
  }

  /** Writes one copy of all these pages, flushes, then the other, and flushes again. */
  async #writePages(numbers: readonly number[], copies = badFirst(SLOT_TABLE_COPIES, [])): Promise<void> {
    if (numbers.length === 0) return
    for (const number of numbers) this.#sequences[number] = (this.#sequences[number] ?? 0) + 1
    let failure: unknown
    let written = 0
    for (const copy of copies) {
      try {
        await this.#writeCopy(copy, numbers)
        written++
      } catch (error) {
        if (!(error instanceof DeviceError)) throw error
        failure = error
        this.#log.error(`spare ${this.#device.name}: slot table copy ${copy} cannot be written: ${error.message}`)
        await this.#device.flush()
      }
    }
    if (written === 0) throw failure
  }

  async #writeCopy(copy: number, numbers: readonly number[]): Promise<void> {
    for (const run of runsOf(numbers)) {
      const chunks = run.map((number) => this.#sealedPage(number, copy))
      await this.#device.write(this.#pageOffset(copy, run[0] ?? 0), chunks)
    }
    await this.#device.flush()
  }

  #sealedPage(number: number, copy: number): Buffer {
    const page = emptyPage()
    const first = number * SLOTS_PER_PAGE
    for (let n = 0; n < SLOTS_PER_PAGE; n++) {
      const record = this.#record(first + n)
      if (!this.#records.isFree(record)) writeSlot(page, n, this.#records.get(record))
    }
    return sealPage(page, { uuid: this.#uuid, page: number, copy }, this.#sequences[number] ?? 0)
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

  #pageOffset(copy: number, page: number): number {
    return (this.#geometry.slotTableOffsets[copy] ?? 0) + page * PAGE_SIZE
  }

  #record(number: number): SlotNumber {
    return slotNumber(this.#base + number)
  }

  #assertInitialised(number: SlotNumber): void {
    assert(this.has(number), `slot ${number} is not initialised`)
  }
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, n) => from + n)

/** Neighbouring page numbers as runs, so that they leave in one write. */
function runsOf(numbers: readonly number[]): number[][] {
  const runs: number[][] = []
  for (const number of numbers) {
    const last = runs.at(-1)
    if (last?.at(-1) === number - 1) last.push(number)
    else runs.push([number])
  }
  return runs
}
