/**
 * The slot table: which main block every spare data block stands for. It lives in memory as the very pages that are on
 * the disk, and is changed by commits only. Durability order of a commit (promise P4):
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
import { slotNumber, type SlotNumber } from '../util/units.js'
import { badFirst, choosePage, type BadCopy } from './choose.js'
import {
  emptyPage,
  indexInPage,
  PAGE_SIZE,
  pageOf,
  pageSequence,
  readSlot,
  sealPage,
  SLOT_TABLE_COPIES,
  slotHasLost,
  SLOTS_PER_PAGE,
  slotState,
  writeSlot,
  type Geometry,
  type Slot,
  type SlotState,
} from './format.js'

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

/** Pages are read and initialised this many at a time. */
const PAGES_PER_STEP = 256

export class SlotTable {
  readonly #device: Device
  readonly #geometry: Geometry
  readonly #uuid: Buffer
  readonly #log: Log
  readonly #pages: Buffer[] = []
  #queue: Commit[] = []
  #committing = false

  constructor(device: Device, geometry: Geometry, uuid: Buffer, log: Log) {
    this.#device = device
    this.#geometry = geometry
    this.#uuid = uuid
    this.#log = log
  }

  /** Pages in memory, which are the first ones of the table; slots beyond were never used and are free. */
  get initialisedPages(): number {
    return this.#pages.length
  }

  get initialisedSlots(): number {
    return Math.min(this.#pages.length * SLOTS_PER_PAGE, this.#geometry.slots)
  }

  /** Whether the page of this slot is initialised. */
  has(number: SlotNumber): boolean {
    return number < this.initialisedSlots
  }

  get(number: SlotNumber): Slot {
    return readSlot(this.#page(number), indexInPage(number))
  }

  state(number: SlotNumber): SlotState {
    if (number >= this.initialisedSlots) return 'free'
    return slotState(this.#page(number), indexInPage(number))
  }

  hasLost(number: SlotNumber): boolean {
    return slotHasLost(this.#page(number), indexInPage(number))
  }

  /** All slots, by what became of them. */
  count(): SlotCounts {
    const counts = { remapped: 0, retired: 0, lost: 0 }
    for (let n = this.initialisedSlots - 1; n >= 0; n--) addSlot(counts, this.kindOf(slotNumber(n)), 1)
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
      if (this.state(number) !== 'free') yield { number, slot: this.get(number) }
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
        this.#pages.push(choice.kind === 'chosen' ? choice.page : emptyPage())
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
    const first = this.#pages.length
    assert(pages <= this.#geometry.slotPages, `slot page ${pages - 1} lies outside the table`)
    for (let page = first; page < pages; page++) this.#pages.push(emptyPage())
    try {
      for (let from = first; from < pages; from += PAGES_PER_STEP) {
        await this.#writePages(range(from, Math.min(from + PAGES_PER_STEP, pages)))
      }
    } catch (error) {
      this.#pages.length = first
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

  /** Changes the pages in memory. @returns the pages touched, each once */
  #apply(updates: readonly SlotUpdate[]): number[] {
    const touched = new Set<number>()
    for (const { number, slot } of updates) {
      writeSlot(this.#page(number), indexInPage(number), slot)
      touched.add(pageOf(number))
    }
    return [...touched].sort((a, b) => a - b)
  }

  /** Writes one copy of all these pages, flushes, then the other, and flushes again. */
  async #writePages(numbers: readonly number[], copies = badFirst(SLOT_TABLE_COPIES, [])): Promise<void> {
    if (numbers.length === 0) return
    const sequences = numbers.map((number) => pageSequence(this.#pageAt(number)) + 1)
    let failure: unknown
    let written = 0
    for (const copy of copies) {
      try {
        await this.#writeCopy(copy, numbers, sequences)
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

  async #writeCopy(copy: number, numbers: readonly number[], sequences: readonly number[]): Promise<void> {
    for (const run of runsOf(numbers)) {
      const chunks = run.map(({ number, index }) =>
        sealPage(this.#pageAt(number), { uuid: this.#uuid, page: number, copy }, sequences[index] ?? 0),
      )
      await this.#device.write(this.#pageOffset(copy, run[0]?.number ?? 0), chunks)
    }
    await this.#device.flush()
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

  #page(number: SlotNumber): Buffer {
    return this.#pageAt(pageOf(number))
  }

  #pageAt(page: number): Buffer {
    const buffer = this.#pages[page]
    assert(buffer !== undefined, `slot page ${page} is not initialised`)
    return buffer
  }
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, n) => from + n)

/** Neighbouring page numbers as runs, so that they leave in one write. `index` is the place in `numbers`. */
function runsOf(numbers: readonly number[]): { number: number; index: number }[][] {
  const runs: { number: number; index: number }[][] = []
  for (const [index, number] of numbers.entries()) {
    const last = runs.at(-1)
    if (last?.at(-1)?.number === number - 1) last.push({ number, index })
    else runs.push([{ number, index }])
  }
  return runs
}
