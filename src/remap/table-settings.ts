/** How eagerly the remap table grows and shrinks. Names and defaults are dm-remap's. */
import { isPowerOfTwo } from '../util/units.js'

export interface TableSettings {
  /** The table never has fewer buckets. A power of two. */
  readonly bucketsMin: number
  /** Above this load, which is remaps * 100 / buckets, the buckets double. */
  readonly growLoad: number
  /** Below this load they halve; 0: never. */
  readonly shrinkLoad: number
}

export const TABLE_SETTINGS_DEFAULT: TableSettings = { bucketsMin: 64, growLoad: 150, shrinkLoad: 50 }

export const BUCKETS_MIN_LEAST = 1
/** 128 MiB of buckets. */
export const BUCKETS_MIN_MOST = 2 ** 25
export const GROW_LOAD_LEAST = 2
export const LOAD_MOST = 10_000

/** What is wrong with `settings`, as a sentence without its end; `undefined`: nothing. */
export function settingsProblem({ bucketsMin, growLoad, shrinkLoad }: TableSettings): string | undefined {
  if (!isPowerOfTwo(bucketsMin) || bucketsMin < BUCKETS_MIN_LEAST || bucketsMin > BUCKETS_MIN_MOST) {
    return `the minimum number of buckets must be a power of two from ${BUCKETS_MIN_LEAST} to ${BUCKETS_MIN_MOST}, not ${bucketsMin}`
  }
  if (!isWithin(growLoad, GROW_LOAD_LEAST)) {
    return `the load to grow at must be a whole number from ${GROW_LOAD_LEAST} to ${LOAD_MOST}, not ${growLoad}`
  }
  if (!isWithin(shrinkLoad, 0)) {
    return `the load to shrink at must be a whole number from 0 to ${LOAD_MOST}, not ${shrinkLoad}`
  }
  if (shrinkLoad * 2 > growLoad) {
    return `the load to shrink at (${shrinkLoad}) must be at most half of the load to grow at (${growLoad}): a table that has just doubled would be halved again`
  }
  return undefined
}

const isWithin = (value: number, least: number): boolean =>
  Number.isInteger(value) && value >= least && value <= LOAD_MOST
