/**
 * `RangeSet`: integers as sorted, disjoint ranges [start, end) that do not touch, 16 bytes each. Members are also known by
 * their index, the number of members before them, so that other things can be kept for each in arrays.
 */
import { assert } from './assert.js'
import { lastAtMost } from './search.js'

const CAPACITY_FIRST = 16

export class RangeSet {
  #starts: Float64Array
  #ends: Float64Array
  /** Members before each range. */
  #before: Float64Array
  #count = 0
  #size = 0

  constructor(capacity = CAPACITY_FIRST) {
    this.#starts = new Float64Array(capacity)
    this.#ends = new Float64Array(capacity)
    this.#before = new Float64Array(capacity)
  }

  static of(...ranges: readonly (readonly [start: number, end: number])[]): RangeSet {
    const set = new RangeSet()
    for (const [start, end] of ranges) set.append(start, end)
    return set
  }

  /** Number of ranges. */
  get count(): number {
    return this.#count
  }

  /** Number of members. */
  get size(): number {
    return this.#size
  }

  /** The first member; 0 when there is none. */
  get start(): number {
    return this.#starts[0] ?? 0
  }

  /** One more than the last member; 0 when there is none. */
  get end(): number {
    return this.#ends[this.#count - 1] ?? 0
  }

  /** Adds a range that begins nowhere before the last one; what it shares with that one is there once. */
  append(start: number, end: number): void {
    assert(start >= (this.#starts[this.#count - 1] ?? 0) && start < end, `range ${start} to ${end} is out of order`)
    const last = this.#count - 1
    if (last >= 0 && start <= this.end) {
      const grown = Math.max(end, this.end)
      this.#size += grown - this.end
      this.#ends[last] = grown
      return
    }
    if (this.#count === this.#starts.length) this.#grow()
    this.#starts[this.#count] = start
    this.#ends[this.#count] = end
    this.#before[this.#count] = this.#size
    this.#size += end - start
    this.#count++
  }

  overlaps(start: number, end: number): boolean {
    const n = this.#rangeAt(end - 1)
    return n >= 0 && (this.#ends[n] ?? 0) > start
  }

  /** What of [start, end) are members, in order. */
  *within(start: number, end: number): Generator<{ readonly start: number; readonly end: number }> {
    for (let n = Math.max(0, this.#rangeAt(start)); n < this.#count; n++) {
      const [first = 0, last = 0] = [this.#starts[n], this.#ends[n]]
      if (Math.max(first, start) >= end) return
      if (last > start) yield { start: Math.max(first, start), end: Math.min(last, end) }
    }
  }

  /** What of [start, end) are no members, in order. */
  *gapsWithin(start: number, end: number): Generator<{ readonly start: number; readonly end: number }> {
    let at = start
    for (const piece of this.within(start, end)) {
      if (piece.start > at) yield { start: at, end: piece.start }
      at = piece.end
    }
    if (at < end) yield { start: at, end }
  }

  /** The index of a member; -1: it is none. */
  indexOf(member: number): number {
    const n = this.#rangeAt(member)
    return n >= 0 && member < (this.#ends[n] ?? 0) ? (this.#before[n] ?? 0) + member - (this.#starts[n] ?? 0) : -1
  }

  /** The member with this index. */
  at(index: number): number {
    const n = lastAtMost(this.#before, this.#count, index)
    return (this.#starts[n] ?? 0) + index - (this.#before[n] ?? 0)
  }

  /** The ranges in order, of at most `longest` members each; `index` is that of the first member. */
  *pieces(longest = Infinity): Generator<{ readonly start: number; readonly end: number; readonly index: number }> {
    for (let n = 0; n < this.#count; n++) {
      const [first = 0, last = 0, before = 0] = [this.#starts[n], this.#ends[n], this.#before[n]]
      for (let start = first; start < last; start += longest) {
        yield { start, end: Math.min(start + longest, last), index: before + start - first }
      }
    }
  }

  /** The members with the indices from `from` to `to`, `to` not among them, but no more than the first `rangesMax` ranges. */
  part(from: number, to: number, rangesMax = Infinity): RangeSet {
    const part = new RangeSet()
    for (let index = from; index < to && part.count < rangesMax;) {
      const n = lastAtMost(this.#before, this.#count, index)
      const start = (this.#starts[n] ?? 0) + index - (this.#before[n] ?? 0)
      const end = Math.min(this.#ends[n] ?? 0, start + to - index)
      part.append(start, end)
      index += end - start
    }
    return part
  }

  /** The last range that begins at or before `member`; -1: none does. */
  #rangeAt(member: number): number {
    return lastAtMost(this.#starts, this.#count, member)
  }

  #grow(): void {
    const capacity = this.#starts.length * 2
    const grow = (from: Float64Array): Float64Array => {
      const to = new Float64Array(capacity)
      to.set(from)
      return to
    }
    this.#starts = grow(this.#starts)
    this.#ends = grow(this.#ends)
    this.#before = grow(this.#before)
  }
}
