/**
 * Where on the main disk errors were: counts for each of some hundred equal parts of it, and in all, in memory that other
 * threads can read while the thread that counts hangs in a disk. Only one thread writes.
 */

/** What is counted of a block, of a region, and in all. Headers hold them in this order: new ones come last. */
export const ERROR_KINDS = [
  'readErrors',
  'writeErrors',
  /** Of the spare block that stood for it. */
  'spareErrors',
  /** Of all these errors the ones that cost nothing: all content was read when tried again, or was on the replica. */
  'recovered',
  /** Reads that took longer than allowed. */
  'slowReads',
  /** Requests that were given up. */
  'timeouts',
  'lostSectors',
] as const
export type ErrorKind = (typeof ERROR_KINDS)[number]

export const ERROR_REGIONS = 256

const HEAD = ['blockSize', 'regionBlocks', 'blocks', 'dropped'] as const
const KINDS = ERROR_KINDS.length
const LENGTH = HEAD.length + KINDS * (1 + ERROR_REGIONS)

export interface ErrorRegion {
  /** Counted from the start of the disk. */
  readonly number: number
  /** In the order of `ERROR_KINDS`. */
  readonly counts: readonly number[]
}

export class ErrorCounts {
  /** What another thread needs for `openErrorCounts`. */
  readonly memory: SharedArrayBuffer
  readonly #values: Float64Array

  constructor(memory: SharedArrayBuffer) {
    this.memory = memory
    this.#values = new Float64Array(memory)
  }

  /** Bytes. */
  get regionSize(): number {
    return this.#head('blockSize') * this.#head('regionBlocks')
  }

  /** Blocks of which more is known than their region. */
  get blocks(): number {
    return this.#head('blocks')
  }

  /** Blocks of which no more than that is known any more. */
  get dropped(): number {
    return this.#head('dropped')
  }

  /** In the order of `ERROR_KINDS`. */
  get totals(): readonly number[] {
    return [...this.#row(-1)]
  }

  /** Those in which anything ever happened. */
  get regions(): ErrorRegion[] {
    const all = Array.from({ length: ERROR_REGIONS }, (_, number) => ({ number, counts: [...this.#row(number)] }))
    return all.filter(({ counts }) => counts.some((count) => count > 0))
  }

  /** @param block of the main disk */
  count(block: number, kind: ErrorKind, times = 1): void {
    this.addToTotals(kind, times)
    this.addToRegion(block, kind, times)
  }

  addToTotals(kind: ErrorKind, times: number): void {
    this.#add(-1, kind, times)
  }

  addToRegion(block: number, kind: ErrorKind, times: number): void {
    this.#add(Math.min(ERROR_REGIONS - 1, Math.floor(block / this.#head('regionBlocks'))), kind, times)
  }

  known(blocks: number, dropped: number): void {
    this.#values[HEAD.indexOf('blocks')] = blocks
    this.#values[HEAD.indexOf('dropped')] = dropped
  }

  clear(): void {
    this.#values.fill(0, HEAD.indexOf('blocks'))
  }

  #head(name: (typeof HEAD)[number]): number {
    return this.#values[HEAD.indexOf(name)] ?? 0
  }

  #add(region: number, kind: ErrorKind, times: number): void {
    const row = this.#row(region)
    const at = ERROR_KINDS.indexOf(kind)
    row[at] = (row[at] ?? 0) + times
  }

  /** -1: in all. */
  #row(region: number): Float64Array {
    const start = HEAD.length + KINDS * (1 + region)
    return this.#values.subarray(start, start + KINDS)
  }
}

/** @param size of the main disk, in bytes */
export function newErrorCounts(size: number, blockSize: number): ErrorCounts {
  const memory = new SharedArrayBuffer(LENGTH * Float64Array.BYTES_PER_ELEMENT)
  const regionBlocks = Math.max(1, Math.ceil(size / blockSize / ERROR_REGIONS))
  new Float64Array(memory).set([blockSize, regionBlocks])
  return new ErrorCounts(memory)
}

/** What another thread counts in `memory`. */
export const openErrorCounts = (memory: SharedArrayBuffer): ErrorCounts => new ErrorCounts(memory)
