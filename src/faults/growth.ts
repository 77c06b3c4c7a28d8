/**
 * `Growth`: how a rule spreads, by the requests that its disk has had or by the clock. The places are drawn from the seed,
 * so with requests as its measure it spreads in the same way again.
 */
import type { Random } from '../util/random.js'
import type { RangeSet } from '../util/range-set.js'
import { SECTOR_SIZE } from '../util/units.js'
import type { Area, ByteRange } from './area.js'
import type { FaultRule } from './vocabulary.js'

export type GrowthRule = NonNullable<FaultRule['grow']>

/** Steps made up for at once, when nobody has asked the disk for a long time. */
const STEPS_AT_ONCE_MAX = 10_000

export class Growth {
  readonly #rule: GrowthRule
  /** Where it may be, in sectors. */
  readonly #bounds: RangeSet
  readonly #bytesMax: number
  readonly #random: Random
  #steps = 0

  /** @param random its own: drawn from when it spreads, and never else */
  constructor(rule: GrowthRule, bounds: RangeSet, random: Random) {
    this.#rule = rule
    this.#bounds = bounds
    this.#bytesMax = (rule['up-to'] ?? Infinity) * SECTOR_SIZE
    this.#random = random
  }

  /**
   * @param requests how many the disk has had since the rule was made @param ms how old it is
   * @returns what is to be added now, in bytes; it may be there already
   */
  due(requests: number, ms: number, area: Area): ByteRange[] {
    const every = this.#rule['every-requests']
    const wanted = Math.floor(every === undefined ? ms / (this.#rule['every-ms'] ?? Infinity) : requests / every)
    const due = Math.min(wanted - this.#steps, STEPS_AT_ONCE_MAX)
    if (due <= 0) return []
    this.#steps = wanted
    return Array.from({ length: due }, () => this.#step(area)).filter(({ start, end }) => start < end)
  }

  #step(area: Area): ByteRange {
    const sectors = Math.min(this.#rule.sectors, Math.floor((this.#bytesMax - area.size) / SECTOR_SIZE))
    if (sectors <= 0) return { start: 0, end: 0 }
    const start =
      this.#rule.where === 'anywhere' || area.isEmpty
        ? this.#bounds.at(this.#random.below(this.#bounds.size))
        : this.#edge(area, sectors)
    return this.#inside(start, start + sectors)
  }

  /** Before or behind one of the ranges. */
  #edge(area: Area, sectors: number): number {
    const range = area.at(this.#random.below(area.count))
    const isBehind = this.#random.below(2) === 0
    return isBehind ? Math.ceil(range.end / SECTOR_SIZE) : Math.floor(range.start / SECTOR_SIZE) - sectors
  }

  /** What of it lies in one piece of the bounds. */
  #inside(start: number, end: number): ByteRange {
    for (const piece of this.#bounds.pieces()) {
      const from = Math.max(start, piece.start)
      const to = Math.min(end, piece.end)
      if (from < to) return { start: from * SECTOR_SIZE, end: to * SECTOR_SIZE }
    }
    return { start: 0, end: 0 }
  }
}
