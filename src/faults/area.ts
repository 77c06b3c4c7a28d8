/**
 * `Area`: the bytes of a disk that a rule is about, as sorted, disjoint ranges [start, end) that do not touch. It grows and
 * heals while requests ask for it: a look costs a binary search, a change moves what stands behind it.
 */
import { lastAtMost } from '../util/search.js'

export interface ByteRange {
  readonly start: number
  /** One more than the last. */
  readonly end: number
}

const CAPACITY_FIRST = 4

export class Area {
  #starts = new Float64Array(CAPACITY_FIRST)
  #ends = new Float64Array(CAPACITY_FIRST)
  #count = 0
  #size = 0

  /** In any order; what overlaps is there once. */
  static of(ranges: Iterable<ByteRange>): Area {
    const area = new Area()
    for (const { start, end } of [...ranges].sort((a, b) => a.start - b.start)) area.#append(start, end)
    return area
  }

  /** Number of ranges. */
  get count(): number {
    return this.#count
  }

  /** Bytes in all. */
  get size(): number {
    return this.#size
  }

  get isEmpty(): boolean {
    return this.#count === 0
  }

  overlaps(start: number, end: number): boolean {
    const n = lastAtMost(this.#starts, this.#count, end - 1)
    return n >= 0 && (this.#ends[n] ?? 0) > start
  }

  /** What lies in [start, end). */
  within(start: number, end: number): ByteRange[] {
    const found: ByteRange[] = []
    for (let n = this.#firstEndingAtOrAfter(start + 1); n < this.#count && this.at(n).start < end; n++) {
      found.push({ start: Math.max(start, this.at(n).start), end: Math.min(end, this.at(n).end) })
    }
    return found
  }

  /** The range with this number, counted from the first. */
  at(n: number): ByteRange {
    return { start: this.#starts[n] ?? 0, end: this.#ends[n] ?? 0 }
  }

  *ranges(): Generator<ByteRange> {
    for (let n = 0; n < this.#count; n++) yield this.at(n)
  }

  add(start: number, end: number): void {
    if (start >= end) return
    // All that touch it become one with it.
    const first = this.#firstEndingAtOrAfter(start)
    const next = lastAtMost(this.#starts, this.#count, end) + 1
    if (first >= next) this.#replace(first, first, [{ start, end }])
    else {
      const from = Math.min(start, this.at(first).start)
      this.#replace(first, next, [{ start: from, end: Math.max(end, this.at(next - 1).end) }])
    }
  }

  remove(start: number, end: number): void {
    if (start >= end || !this.overlaps(start, end)) return
    const first = this.#firstEndingAtOrAfter(start + 1)
    const next = lastAtMost(this.#starts, this.#count, end - 1) + 1
    const left = { start: this.at(first).start, end: start }
    const right = { start: end, end: this.at(next - 1).end }
    this.#replace(
      first,
      next,
      [left, right].filter((part) => part.start < part.end),
    )
  }

  #firstEndingAtOrAfter(position: number): number {
    return lastAtMost(this.#ends, this.#count, position - 1) + 1
  }

  #append(start: number, end: number): void {
    if (start >= end) return
    const last = this.#count - 1
    if (last < 0 || start > (this.#ends[last] ?? 0)) {
      this.#replace(this.#count, this.#count, [{ start, end }])
      return
    }
    const grown = Math.max(end, this.#ends[last] ?? 0)
    this.#size += grown - (this.#ends[last] ?? 0)
    this.#ends[last] = grown
  }

  /** Ranges `from` to `to`, `to` not among them, become `others`. */
  #replace(from: number, to: number, others: readonly ByteRange[]): void {
    const count = this.#count + others.length - (to - from)
    if (count > this.#starts.length) this.#grow(count)
    for (let n = from; n < to; n++) this.#size -= (this.#ends[n] ?? 0) - (this.#starts[n] ?? 0)
    for (const array of [this.#starts, this.#ends]) array.copyWithin(from + others.length, to, this.#count)
    for (const [n, { start, end }] of others.entries()) {
      this.#starts[from + n] = start
      this.#ends[from + n] = end
      this.#size += end - start
    }
    this.#count = count
  }

  #grow(count: number): void {
    const grown = (from: Float64Array): Float64Array<ArrayBuffer> => {
      const to = new Float64Array(Math.max(count, from.length * 2))
      to.set(from)
      return to
    }
    this.#starts = grown(this.#starts)
    this.#ends = grown(this.#ends)
  }
}
