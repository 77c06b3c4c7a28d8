/**
 * Which parts of a disk have changed: a bit for every 4 KiB. Of parts that have changed in some sectors only, it is known
 * which, as long as they are not too many. What has not changed may be said to have changed, never the other way round.
 */
import { KiB } from '../util/units.js'
import { sectorsTouched } from './sector-mask.js'

export const GRANULE = 4 * KiB
const ALL_SECTORS = Number(sectorsTouched(0, GRANULE))
/** So many take some megabytes; further ones count as changed as a whole. */
const PARTIAL_MAX = 65_536

export class ChangeMarks {
  readonly #whole: Uint8Array
  #wholeCount = 0
  /** The changed sectors of a granule, as bits. */
  readonly #partial = new Map<number, number>()

  constructor(size: number) {
    this.#whole = new Uint8Array(Math.ceil(size / GRANULE / 8))
  }

  /** Granules of which something has changed. */
  get count(): number {
    return this.#wholeCount + this.#partial.size
  }

  add(offset: number, length: number): void {
    for (const { granule, sectors } of granulesIn(offset, length)) this.#add(granule, sectors)
  }

  /** All that `other` has, too. */
  addAll(other: ChangeMarks): void {
    for (const [byte, bits] of other.#whole.entries()) {
      for (let bit = 0; bits >> bit !== 0; bit++) if ((bits >> bit) & 1) this.#add(byte * 8 + bit, ALL_SECTORS)
    }
    for (const [granule, sectors] of other.#partial) this.#add(granule, sectors)
  }

  touches(offset: number, length: number): boolean {
    for (const { granule, sectors } of granulesIn(offset, length)) {
      if (this.#isWhole(granule) || ((this.#partial.get(granule) ?? 0) & sectors) !== 0) return true
    }
    return false
  }

  #add(granule: number, sectors: number): void {
    if (this.#isWhole(granule)) return
    const known = this.#partial.get(granule)
    const all = (known ?? 0) | sectors
    if (all !== ALL_SECTORS && (known !== undefined || this.#partial.size < PARTIAL_MAX)) {
      this.#partial.set(granule, all)
      return
    }
    this.#partial.delete(granule)
    const byte = Math.floor(granule / 8)
    this.#whole[byte] = (this.#whole[byte] ?? 0) | (1 << (granule % 8))
    this.#wholeCount++
  }

  #isWhole(granule: number): boolean {
    return ((this.#whole[Math.floor(granule / 8)] ?? 0) & (1 << (granule % 8))) !== 0
  }
}

function* granulesIn(offset: number, length: number): Generator<{ granule: number; sectors: number }> {
  const end = offset + length
  for (let at = offset; at < end;) {
    const granule = Math.floor(at / GRANULE)
    const next = Math.min((granule + 1) * GRANULE, end)
    const start = at - granule * GRANULE
    const isAll = next - at === GRANULE
    yield { granule, sectors: isAll ? ALL_SECTORS : Number(sectorsTouched(start, next - at)) }
    at = next
  }
}
