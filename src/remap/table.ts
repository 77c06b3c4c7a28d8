/**
 * The remap table: main block -> slot, a chained hash table in typed arrays. Vocabulary is dm-remap's: `load` is
 * remaps * 100 / buckets; above 150 the buckets double, below 50 they halve, never under 64.
 *
 * Beside it stands a count of remaps for each region of the disk, so that a request which touches no remapped block
 * costs one or two array reads instead of a lookup for every block.
 */
import type { MainBlock, SlotNumber } from '../util/units.js'

const BUCKETS_MIN = 64
const LOAD_MAX = 150
const LOAD_MIN = 50
/** Blocks in a region: 1,024 of 4 KiB make 4 MiB. */
const REGION_BLOCKS = 1024
/** End of a chain. Entry numbers are stored plus one, so that zeroed arrays are empty ones. */
const NONE = 0

export interface Resize {
  readonly from: number
  readonly to: number
  readonly count: number
}

export class RemapTable {
  readonly #onResize: (resize: Resize) => void
  readonly #regions: Uint32Array
  #buckets = new Uint32Array(BUCKETS_MIN)
  #next = new Uint32Array(BUCKETS_MIN)
  #blocks = new Float64Array(BUCKETS_MIN)
  #slots = new Uint32Array(BUCKETS_MIN)
  #free = NONE
  #entries = 0
  #count = 0
  #resizes = 0

  /** @param blocks number of blocks on the main disk */
  constructor(blocks: number, onResize: (resize: Resize) => void = () => undefined) {
    this.#regions = new Uint32Array(Math.ceil(blocks / REGION_BLOCKS))
    this.#onResize = onResize
  }

  get count(): number {
    return this.#count
  }

  get buckets(): number {
    return this.#buckets.length
  }

  get load(): number {
    return Math.floor((this.#count * 100) / this.#buckets.length)
  }

  get resizes(): number {
    return this.#resizes
  }

  /** Whether any of the `count` blocks from `first` may be remapped. Never wrong when it says no. */
  mayTouch(first: MainBlock, count: number): boolean {
    if (this.#count === 0) return false
    const last = Math.floor((first + count - 1) / REGION_BLOCKS)
    for (let region = Math.floor(first / REGION_BLOCKS); region <= last; region++) {
      if (this.#regions[region] !== 0) return true
    }
    return false
  }

  /** The first block, from `block` on, that lies in a region with remaps; beyond the disk when there is none. */
  skipUnmapped(block: MainBlock): number {
    let region = Math.floor(block / REGION_BLOCKS)
    if (this.#regions[region] !== 0) return block
    while (this.#regions[region] === 0) region++
    return region * REGION_BLOCKS
  }

  lookup(block: MainBlock): SlotNumber | undefined {
    const entry = this.#find(block)
    return entry === NONE ? undefined : (this.#slots[entry - 1] as SlotNumber)
  }

  /** Sets the slot of `block`, whether or not it had one. */
  set(block: MainBlock, slot: SlotNumber): void {
    const existing = this.#find(block)
    if (existing !== NONE) {
      this.#slots[existing - 1] = slot
      return
    }
    const entry = this.#takeEntry()
    this.#blocks[entry - 1] = block
    this.#slots[entry - 1] = slot
    this.#link(entry, block)
    this.#count++
    this.#countRegion(block, 1)
    this.#adapt()
  }

  /** @returns whether there was a remap to remove */
  delete(block: MainBlock): boolean {
    const bucket = this.#bucketOf(block)
    let previous = NONE
    let entry = this.#buckets[bucket] ?? NONE
    while (entry !== NONE && this.#blocks[entry - 1] !== block) {
      previous = entry
      entry = this.#next[entry - 1] ?? NONE
    }
    if (entry === NONE) return false
    const rest = this.#next[entry - 1] ?? NONE
    if (previous === NONE) this.#buckets[bucket] = rest
    else this.#next[previous - 1] = rest
    this.#next[entry - 1] = this.#free
    this.#free = entry
    this.#count--
    this.#countRegion(block, -1)
    this.#adapt()
    return true
  }

  /** All remaps in no particular order. */
  *entries(): Generator<[MainBlock, SlotNumber]> {
    for (const head of this.#buckets) {
      for (let entry = head; entry !== NONE; entry = this.#next[entry - 1] ?? NONE) {
        yield [this.#blocks[entry - 1] as MainBlock, this.#slots[entry - 1] as SlotNumber]
      }
    }
  }

  #find(block: MainBlock): number {
    let entry = this.#buckets[this.#bucketOf(block)] ?? NONE
    while (entry !== NONE && this.#blocks[entry - 1] !== block) entry = this.#next[entry - 1] ?? NONE
    return entry
  }

  /** Fibonacci hashing: neighbouring blocks, the common case, spread over all buckets. */
  #bucketOf(block: MainBlock): number {
    const folded = (block % 0x100000000) ^ Math.floor(block / 0x100000000)
    return (Math.imul(folded, 0x9e3779b1) >>> 0) >>> (32 - Math.log2(this.#buckets.length))
  }

  #link(entry: number, block: MainBlock): void {
    const bucket = this.#bucketOf(block)
    this.#next[entry - 1] = this.#buckets[bucket] ?? NONE
    this.#buckets[bucket] = entry
  }

  #takeEntry(): number {
    if (this.#free !== NONE) {
      const entry = this.#free
      this.#free = this.#next[entry - 1] ?? NONE
      return entry
    }
    if (this.#entries === this.#next.length) this.#growEntries()
    return ++this.#entries
  }

  #growEntries(): void {
    const capacity = this.#next.length * 2
    const grow = <T extends Uint32Array | Float64Array>(from: T, to: T): T => {
      to.set(from)
      return to
    }
    this.#next = grow(this.#next, new Uint32Array(capacity))
    this.#blocks = grow(this.#blocks, new Float64Array(capacity))
    this.#slots = grow(this.#slots, new Uint32Array(capacity))
  }

  #countRegion(block: MainBlock, change: 1 | -1): void {
    const region = Math.floor(block / REGION_BLOCKS)
    this.#regions[region] = (this.#regions[region] ?? 0) + change
  }

  #adapt(): void {
    let buckets = this.#buckets.length
    while ((this.#count * 100) / buckets > LOAD_MAX) buckets *= 2
    while (buckets > BUCKETS_MIN && (this.#count * 100) / buckets < LOAD_MIN) buckets /= 2
    if (buckets !== this.#buckets.length) this.#resize(buckets)
  }

  #resize(buckets: number): void {
    const from = this.#buckets.length
    const chains = this.#buckets
    this.#buckets = new Uint32Array(buckets)
    for (const head of chains) {
      for (let entry = head; entry !== NONE;) {
        const next = this.#next[entry - 1] ?? NONE
        this.#link(entry, this.#blocks[entry - 1] as MainBlock)
        entry = next
      }
    }
    this.#resizes++
    this.#onResize({ from, to: buckets, count: this.#count })
  }
}
