/**
 * Counters, levels and latencies of one serving session, in memory that other threads can read while the thread that counts
 * hangs in a disk. Lengths are bytes.
 *
 * Only one thread writes. The others may read a number that is a moment old, but never half of one: 64-bit machines read
 * and write aligned doubles whole.
 */
import { HISTOGRAM_LENGTH, LatencyHistogram } from '../util/histogram.js'

/** Headers hold them in this order: new ones come last. */
export const COUNTERS = [
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
  /** Reads of the main disk that took longer than allowed, and blocks that were read only when tried again. */
  'slowReads',
  'retriedReads',
  /** Blocks that moved to the spare, or on to another block of it, because a disk failed them; of these the weak ones. */
  'failedBlocks',
  'weakBlocks',
  /** Sectors whose content was lost on the way. */
  'lostSectors',
  /** Requests that were answered with an error. */
  'failedRequests',
] as const

/** How things are now. */
const LEVELS = [
  'remaps',
  'buckets',
  'resizes',
  'freeBlocks',
  'spareBlocks',
  /** 1 while requests are held. */
  'suspended',
  /** Scrubs that came to the end of the disk. */
  'scrubs',
  // Settings of the table.
  'bucketsMin',
  'growLoad',
  'shrinkLoad',
  /** When the counters began anew, since 1970; 0: with the start. */
  'resetAtMs',
] as const

const NAMES = [...COUNTERS, ...LEVELS]

/** Requests whose latency is measured, from the request's arrival at the remapper to its end, successful or not. */
export const TIMED_OPERATIONS = ['read', 'write', 'flush', 'trim', 'write-zeroes'] as const
export type TimedOperation = (typeof TIMED_OPERATIONS)[number]

export type Counter = (typeof COUNTERS)[number]
export type Statistics = Record<Counter | (typeof LEVELS)[number], number> & {
  readonly latencies: Readonly<Record<TimedOperation, LatencyHistogram>>
  /** Before the start: seconds served, and then each counter. See `Lifetime`. */
  readonly before: Float64Array
  /** What another thread needs for `openStatistics`. */
  readonly memory: SharedArrayBuffer
}

class Shared {
  readonly memory: SharedArrayBuffer
  readonly values: Float64Array
  readonly latencies: Statistics['latencies']
  readonly before: Float64Array

  constructor(memory: SharedArrayBuffer) {
    this.memory = memory
    this.values = new Float64Array(memory, 0, NAMES.length)
    this.before = new Float64Array(memory, BEFORE_OFFSET)
    const latencies = TIMED_OPERATIONS.map((operation, n) => [operation, new LatencyHistogram(histogram(memory, n))])
    this.latencies = Object.fromEntries(latencies) as Statistics['latencies']
  }
}

const BYTES = Float64Array.BYTES_PER_ELEMENT

/** Behind all histograms. */
const BEFORE_OFFSET = (NAMES.length + TIMED_OPERATIONS.length * HISTOGRAM_LENGTH) * BYTES

const histogram = (memory: SharedArrayBuffer, n: number): Float64Array =>
  new Float64Array(memory, (NAMES.length + n * HISTOGRAM_LENGTH) * BYTES, HISTOGRAM_LENGTH)

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
  openStatistics(new SharedArrayBuffer(BEFORE_OFFSET + (1 + COUNTERS.length) * BYTES))

/** The statistics that another thread counts in `memory`. */
export const openStatistics = (memory: SharedArrayBuffer): Statistics => new Shared(memory) as unknown as Statistics
