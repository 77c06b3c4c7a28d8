/**
 * Counters and levels of one serving session, in memory that other threads can read while the thread that counts hangs in
 * a disk. Lengths are bytes.
 *
 * Only one thread writes. The others may read a number that is a moment old, but never half of one: 64-bit machines read
 * and write aligned doubles whole.
 */

const NAMES = [
  'reads',
  'writes',
  'flushes',
  'trims',
  'writeZeroes',
  'bytesRead',
  'bytesWritten',
  /** Requests that touched a region with a remapped block. */
  'remappedRequests',
  /** Blocks of the main disk that failed. */
  'mainReadErrors',
  'mainWriteErrors',
  /** Blocks of the spare that failed. */
  'spareErrors',
  /** Requests that were answered with an error. */
  'failedRequests',
  // Levels: how things are now.
  'remaps',
  'buckets',
  'resizes',
  'freeBlocks',
  'spareBlocks',
  // Settings of the table.
  'bucketsMin',
  'growLoad',
  'shrinkLoad',
] as const

export type Statistics = Record<(typeof NAMES)[number], number> & {
  /** What another thread needs for `openStatistics`. */
  readonly memory: SharedArrayBuffer
}

class Shared {
  readonly memory: SharedArrayBuffer
  readonly values: Float64Array

  constructor(memory: SharedArrayBuffer) {
    this.memory = memory
    this.values = new Float64Array(memory)
  }
}

for (const [index, name] of NAMES.entries()) {
  Object.defineProperty(Shared.prototype, name, {
    get(this: Shared) {
      return this.values[index]
    },
    set(this: Shared, value: number) {
      this.values[index] = value
    },
  })
}

export const newStatistics = (): Statistics =>
  openStatistics(new SharedArrayBuffer(NAMES.length * Float64Array.BYTES_PER_ELEMENT))

/** The statistics that another thread counts in `memory`. */
export const openStatistics = (memory: SharedArrayBuffer): Statistics => new Shared(memory) as unknown as Statistics
