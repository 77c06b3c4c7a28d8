/**
 * What each block of the main disk has done wrong: added up from what the remapper tells the world, so that a request in
 * which nothing goes wrong costs nothing. Bounded: of more than `BLOCKS_MAX` blocks the least interesting ones are dropped,
 * and stay counted in their region. The headers of the spares have the worst few, and the totals, for the next start.
 */
import { SECTOR_SIZE } from '../util/units.js'
import { ERROR_KINDS, newErrorCounts, type ErrorCounts, type ErrorKind } from './error-counts.js'
import { errorsFrom, errorsNote, type BlockErrors, type ErrorOutcome } from './error-notes.js'
import type { RemapEventName, RemapEvents } from './events.js'

/** About 2 MiB. */
export const BLOCKS_MAX = 8192
/** Choosing takes some milliseconds, so it is not done for each block anew. */
const DROPPED_AT_ONCE = BLOCKS_MAX / 8
/** A late request for more of them says nothing of a single block: it counts for the region where it begins. */
const BLAMED_MAX = 16

export interface ErrorPage {
  /** Leave out the blocks before. */
  readonly fromBlock: number
  readonly limit: number
  /** `worst`: the one with the most errors first. */
  readonly order: 'sector' | 'worst'
}

export class ErrorHistory {
  readonly counts: ErrorCounts
  readonly #blockSize: number
  readonly #blocksOnDisk: number
  readonly #blocks = new Map<number, BlockErrors>()
  readonly #now: () => number

  /** @param size of the main disk, in bytes */
  constructor(size: number, blockSize: number, now: () => number = Date.now) {
    this.#blockSize = blockSize
    this.#blocksOnDisk = Math.ceil(size / blockSize)
    this.counts = newErrorCounts(size, blockSize)
    this.#now = now
  }

  /** What a header knows. @param moves how often the pair has moved: the errors of another disk are none of this one */
  restore(note: unknown, moves: number): void {
    const { totals, dropped, worst } = errorsFrom(note, moves)
    for (const [n, kind] of ERROR_KINDS.entries()) this.counts.addToTotals(kind, totals[n] ?? 0)
    for (const block of worst.filter((it) => it.block < this.#blocksOnDisk)) {
      this.#blocks.set(block.block, block)
      for (const [n, kind] of ERROR_KINDS.entries()) this.counts.addToRegion(block.block, kind, block.counts[n] ?? 0)
    }
    this.counts.known(this.#blocks.size, dropped)
  }

  /** For the header. */
  note(moves: number): unknown {
    const { totals, dropped } = this.counts
    return errorsNote({ totals, dropped, worst: this.#inOrder('worst') }, moves)
  }

  /** Of all events those that tell of errors are added up. */
  readonly observe = <Name extends RemapEventName>(event: Name, data: RemapEvents[Name]): void => {
    if (event === 'IO_ERROR') this.#failed(data as RemapEvents['IO_ERROR'])
    else if (event === 'REMAP_ADDED') this.#moved(data as RemapEvents['REMAP_ADDED'])
    else if (event === 'IO_TIMEOUT') this.#timedOut(data as RemapEvents['IO_TIMEOUT'])
  }

  /** A read took longer than allowed. Offset and length in bytes. */
  late(offset: number, length: number): void {
    this.#blame('slowReads', offset, length)
  }

  /** @returns also how many blocks there are, on this page or not */
  list({ fromBlock, limit, order }: ErrorPage): { readonly blocks: readonly BlockErrors[]; readonly total: number } {
    const blocks = this.#inOrder(order).filter(({ block }) => block >= fromBlock)
    return { blocks: blocks.slice(0, limit), total: this.#blocks.size }
  }

  clear(): void {
    this.#blocks.clear()
    this.counts.clear()
  }

  #failed({ disk, operation, sector, action }: RemapEvents['IO_ERROR']): void {
    const block = this.#blockOf(sector)
    const errors = this.#touch(block)
    const ofMain = operation === 'read' ? 'readErrors' : 'writeErrors'
    this.#count(errors, disk === 'spare' ? 'spareErrors' : ofMain)
    if (action === 'recovered') this.#count(errors, 'recovered')
    // Of a write the remap was told before, and with it whether something else in the block was lost.
    if (action !== 'remapped' || errors.outcome !== 'lost') errors.outcome = action === 'report' ? 'reported' : action
  }

  /** Where an operator moves blocks to says nothing of them. */
  #moved({ reason, sectors, 'main-sector': sector, 'lost-sectors': lost }: RemapEvents['REMAP_ADDED']): void {
    if (reason === 'operator' || reason === 'spare-removed') return
    const outcome: ErrorOutcome = lost > 0 ? 'lost' : 'remapped'
    const [first, end] = [this.#blockOf(sector), this.#blockOf(sector + sectors)]
    for (let block = first; block < end; block++) this.#touch(block).outcome = outcome
    if (lost > 0) this.#count(this.#touch(first), 'lostSectors', lost)
  }

  /** The sectors of a spare are not those of main. A flush has no place. */
  #timedOut({ disk, operation, sector, sectors }: RemapEvents['IO_TIMEOUT']): void {
    if (disk !== 'main') return
    if (operation === 'flush') this.counts.addToTotals('timeouts', 1)
    else this.#blame('timeouts', sector * SECTOR_SIZE, sectors * SECTOR_SIZE)
  }

  #blame(kind: ErrorKind, offset: number, length: number): void {
    const first = Math.floor(offset / this.#blockSize)
    const end = Math.ceil((offset + length) / this.#blockSize)
    this.counts.count(first, kind)
    if (end - first > BLAMED_MAX) return
    for (let block = first; block < end; block++) add(this.#touch(block), kind, 1)
  }

  #count(errors: BlockErrors, kind: ErrorKind, times = 1): void {
    add(errors, kind, times)
    this.counts.count(errors.block, kind, times)
  }

  /** The block, of which something is heard now. */
  #touch(block: number): BlockErrors {
    const nowMs = this.#now()
    let errors = this.#blocks.get(block)
    if (errors === undefined) {
      if (this.#blocks.size >= BLOCKS_MAX) this.#dropSome()
      errors = { block, counts: ERROR_KINDS.map(() => 0), firstMs: nowMs, lastMs: nowMs, outcome: 'late' }
      this.#blocks.set(block, errors)
      this.counts.known(this.#blocks.size, this.counts.dropped)
    }
    errors.lastMs = nowMs
    return errors
  }

  #dropSome(): void {
    for (const { block } of this.#inOrder('worst').slice(-DROPPED_AT_ONCE)) this.#blocks.delete(block)
    this.counts.known(this.#blocks.size, this.counts.dropped + DROPPED_AT_ONCE)
  }

  #inOrder(order: ErrorPage['order']): BlockErrors[] {
    const blocks = [...this.#blocks.values()]
    if (order === 'sector') return blocks.sort((a, b) => a.block - b.block)
    return blocks.sort((a, b) => interestOf(b) - interestOf(a) || b.lastMs - a.lastMs || a.block - b.block)
  }

  #blockOf(sector: number): number {
    return Math.floor((sector * SECTOR_SIZE) / this.#blockSize)
  }
}

function add(errors: BlockErrors, kind: ErrorKind, times: number): void {
  const n = ERROR_KINDS.indexOf(kind)
  errors.counts[n] = (errors.counts[n] ?? 0) + times
}

/** What failed matters more than what was late. */
const INTEREST: Readonly<Record<ErrorKind, number>> = {
  readErrors: 100,
  writeErrors: 100,
  spareErrors: 100,
  recovered: 0,
  lostSectors: 100,
  timeouts: 10,
  slowReads: 1,
}

const interestOf = ({ counts }: BlockErrors): number =>
  ERROR_KINDS.reduce((sum, kind, n) => sum + INTEREST[kind] * (counts[n] ?? 0), 0)
