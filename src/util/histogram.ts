/**
 * `LatencyHistogram`: how many requests took how long, in memory that another thread may read meanwhile. Each power of two
 * of time is cut into eight buckets, so a percentile is off by 6 % at most. `record` makes no object and calls nothing.
 *
 * Only one thread records. Who reads sees each number whole, but not all of them at one moment.
 */

/** The finest difference: an eighth of a microsecond. Times are counted in these units. */
const UNITS_PER_MS = 8000
/** log2 of the buckets in which a power of two is cut. */
const CUT_BITS = 3
const CUTS = 1 << CUT_BITS
/** What is longer, some minutes, is counted as this long. */
const UNITS_MAX = 2 ** 31 - 1
const BUCKETS = ((31 - CUT_BITS) << CUT_BITS) + CUTS

// Before the buckets there are two numbers.
const SUM = 0
const LONGEST = 1
const HEAD = 2

/** Of the array below a histogram. */
export const HISTOGRAM_LENGTH = HEAD + BUCKETS

export interface HistogramBucket {
  /** Requests took at least this. */
  readonly fromMs: number
  /** And less than this. */
  readonly belowMs: number
  readonly count: number
}

export class LatencyHistogram {
  readonly #values: Float64Array

  /** @param values `HISTOGRAM_LENGTH` numbers, zero at first */
  constructor(values: Float64Array) {
    this.#values = values
  }

  record(ms: number): void {
    const values = this.#values
    const index = HEAD + bucketOf(ms)
    values[index] = (values[index] ?? 0) + 1
    values[SUM] = (values[SUM] ?? 0) + ms
    if (ms > (values[LONGEST] ?? 0)) values[LONGEST] = ms
  }

  /** All requests together. */
  get sumMs(): number {
    return this.#values[SUM] ?? 0
  }

  get longestMs(): number {
    return this.#values[LONGEST] ?? 0
  }

  /** The buckets that are not empty, shortest times first. */
  buckets(): HistogramBucket[] {
    const found: HistogramBucket[] = []
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      const count = this.#values[HEAD + bucket] ?? 0
      if (count > 0) found.push({ fromMs: lowerMs(bucket), belowMs: lowerMs(bucket + 1), count })
    }
    return found
  }

  /** Forgets everything. In the thread that records. */
  clear(): void {
    this.#values.fill(0)
  }
}

function bucketOf(ms: number): number {
  const units = Math.min(ms * UNITS_PER_MS, UNITS_MAX) | 0
  // The highest bit, and the three below it. Below one cut per unit nothing is to be cut.
  const shift = 31 - CUT_BITS - Math.clz32(units | CUTS)
  return (shift << CUT_BITS) + (units >>> shift)
}

/** Where a bucket begins. */
function lowerMs(bucket: number): number {
  if (bucket < CUTS) return bucket / UNITS_PER_MS
  return (((bucket & (CUTS - 1)) + CUTS) * 2 ** ((bucket >> CUT_BITS) - 1)) / UNITS_PER_MS
}

export const countOf = (buckets: readonly HistogramBucket[]): number =>
  buckets.reduce((sum, { count }) => sum + count, 0)

/** What was recorded between two looks at one histogram. */
export function bucketsBetween(before: readonly HistogramBucket[], now: readonly HistogramBucket[]): HistogramBucket[] {
  const counts = new Map(before.map(({ fromMs, count }) => [fromMs, count]))
  return now
    .map((bucket) => ({ ...bucket, count: bucket.count - (counts.get(bucket.fromMs) ?? 0) }))
    .filter(({ count }) => count > 0)
}

/** How many requests took less than `ms`, which should be a power of two of microseconds: between the cuts nothing is known. */
export const countBelow = (buckets: readonly HistogramBucket[], ms: number): number =>
  countOf(buckets.filter(({ belowMs }) => belowMs <= ms))

/**
 * The time that so large a share of the requests did not exceed, 0 without any. They are taken to be spread evenly over
 * their bucket.
 * @param share from 0 to 1
 */
export function percentile(buckets: readonly HistogramBucket[], share: number): number {
  let left = countOf(buckets) * share
  for (const { fromMs, belowMs, count } of buckets) {
    if (left <= count) return fromMs + (belowMs - fromMs) * (left / count)
    left -= count
  }
  return buckets.at(-1)?.belowMs ?? 0
}
