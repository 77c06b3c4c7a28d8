/**
 * The remap table: main block -> slot, a hash table of chains. Vocabulary is dm-remap's: `load` is remaps * 100 / buckets;
 * above the grow load (150) the buckets double, below the shrink load (50) they halve, never under the minimum (64).
 *
 * An entry is the record of its slot, so the table itself has nothing but the heads of its chains. It is resized bucket by
 * bucket (linear hashing): doubling from n, bucket b is split into b and b + n, halving to n, bucket b + n is put back into
 * b. `#split` says how far that has come, and every change of the table does a little of it, so no request waits for it.
 *
 * Beside it stands a count of remaps for each region of the disk, so that a request which touches no remapped block
 * costs one or two array reads instead of a lookup for every block.
 */
import type { SlotRecords } from '../spare/slot-records.js'
import { quietUint32Array } from '../util/quiet-array.js'
import { mainBlock, type MainBlock, type SlotNumber } from '../util/units.js'
import { TABLE_SETTINGS_DEFAULT, type TableSettings } from './table-settings.js'

/** Bucket heads lie in chunks that never move, like the records of the slots. */
const CHUNK_BITS = 16
export const CHUNK_BUCKETS = 1 << CHUNK_BITS
const BUCKET_MASK = CHUNK_BUCKETS - 1
/** A bucket number has 32 bits while the table is resized. 2^31 buckets with 4,294,967,295 remaps make a load of 200. */
const BUCKETS_MAX = 2 ** 31
/**
 * Buckets moved with each change of the table. Doubling begins when the load passes 150, and as many buckets as there are must
 * be split before it passes 300: two thirds of a bucket for each remap added would do.
 */
const BUCKETS_PER_CHANGE = 4

/** A resize of no more buckets than this is done at once: it takes less time than a request. */
const SMALL_BUCKETS = 1024

/** Blocks in a region at least: 1,024 of 4 KiB make 4 MiB. On long disks regions are longer, so that there are not too many. */
const REGION_BLOCKS_MIN = 1024
const REGIONS_MAX = 2 ** 20

/** Blocks of the main disk that one count is kept for. */
export const regionBlocksOf = (blocks: number): number =>
  Math.max(REGION_BLOCKS_MIN, 2 ** Math.ceil(Math.log2(blocks / REGIONS_MAX)))

const NONE = 0
const WORD_RANGE = 0x1_0000_0000

export interface Resize {
  readonly from: number
  readonly to: number
  readonly count: number
}

export interface ResizeListener {
  began(resize: Resize): void
  /** When the last bucket has been moved. */
  completed(resize: Resize): void
}

export interface RemapTableOptions {
  readonly settings?: TableSettings
  readonly listener?: ResizeListener
  /** Remaps that it is about to be filled with: so many do not resize it. */
  readonly expected?: number
}

const IGNORED: ResizeListener = { began: () => undefined, completed: () => undefined }

export class RemapTable {
  readonly #records: SlotRecords
  readonly #listener: ResizeListener
  readonly #regionBlocks: number
  readonly #regions: Uint32Array
  readonly #chunks: Uint32Array[] = [quietUint32Array(CHUNK_BUCKETS)]
  #settings: TableSettings
  /** Buckets below it come in pairs, b and b + #base; 0 while the table is not being resized. */
  #split = 0
  /** Number of buckets but for those that are there twice. A power of two. */
  #base: number
  #direction: 'none' | 'grow' | 'shrink' = 'none'
  #resize: Resize | undefined
  #count = 0
  #resizes = 0

  /** @param blocks number of blocks on the main disk */
  constructor(blocks: number, records: SlotRecords, options: RemapTableOptions = {}) {
    const { settings = TABLE_SETTINGS_DEFAULT, listener = IGNORED, expected = 0 } = options
    this.#records = records
    this.#settings = settings
    this.#listener = listener
    this.#base = settings.bucketsMin
    while (expected * 100 > this.#base * settings.growLoad && this.#base < BUCKETS_MAX) this.#base *= 2
    this.#regionBlocks = regionBlocksOf(blocks)
    this.#regions = new Uint32Array(Math.ceil(blocks / this.#regionBlocks))
    this.#ensureBuckets(this.#base)
  }

  get count(): number {
    return this.#count
  }

  /** What the table has, or will have when the resize that is under way is complete. */
  get buckets(): number {
    return this.#resize?.to ?? this.#base
  }

  get load(): number {
    return Math.floor((this.#count * 100) / this.buckets)
  }

  /** Resizes begun. */
  get resizes(): number {
    return this.#resizes
  }

  get isResizing(): boolean {
    return this.#direction !== 'none'
  }

  get settings(): TableSettings {
    return this.#settings
  }

  /** Bytes allocated for buckets and regions; the entries are the records of the slots. */
  get bytes(): number {
    return this.#chunks.reduce((sum, chunk) => sum + chunk.byteLength, this.#regions.byteLength)
  }

  /** Takes effect bit by bit, with the changes of the table that follow, or with calls of `resizeStep`. */
  configure(settings: TableSettings): void {
    this.#settings = settings
    this.#adapt()
  }

  /** Moves up to so many buckets of a resize that is under way. @returns whether there is more to do */
  resizeStep(buckets: number): boolean {
    for (let n = 0; n < buckets && this.#direction !== 'none'; n++) this.#moveBucket()
    this.#adapt()
    return this.isResizing
  }

  /** Whether any of the `count` blocks from `first` may be remapped. Never wrong when it says no. */
  mayTouch(first: MainBlock, count: number): boolean {
    if (this.#count === 0) return false
    const last = Math.floor((first + count - 1) / this.#regionBlocks)
    for (let region = Math.floor(first / this.#regionBlocks); region <= last; region++) {
      if (this.#regions[region] !== 0) return true
    }
    return false
  }

  /**
   * The first block, from `block` on, that lies in a region with remaps; beyond the disk when there is none.
   * @param end where it need not look any more: any block from there on will do
   */
  skipUnmapped(block: MainBlock, end = Infinity): number {
    let region = Math.floor(block / this.#regionBlocks)
    if (this.#regions[region] !== 0) return block
    while (this.#regions[region] === 0 && region * this.#regionBlocks < end) region++
    return region * this.#regionBlocks
  }

  lookup(block: MainBlock): SlotNumber | undefined {
    const low = block >>> 0
    const high = highOf(block)
    const bucket = this.#bucketOf(hash(low, high))
    const head = this.#chunks[bucket >>> CHUNK_BITS]?.[bucket & BUCKET_MASK] ?? NONE
    if (head === NONE) return undefined
    const found = this.#records.find(head, low, high)
    return found === NONE ? undefined : ((found - 1) as SlotNumber)
  }

  /** The slot of `first` if the `count` blocks from there lie side by side on the spare, and nothing of them is lost. */
  plainRun(first: MainBlock, count: number): SlotNumber | undefined {
    const slot = this.lookup(first)
    return slot !== undefined && this.plainLength(first, slot, count) === count ? slot : undefined
  }

  /** How many of the `count` blocks from `first` on lie side by side on the spare, from `slot` on, before one with lost sectors. */
  plainLength(first: MainBlock, slot: SlotNumber, count: number): number {
    let n = 0
    while (n < count && this.#records.isPlain(slot + n, first + n)) n++
    return n
  }

  /** How many of the `count` blocks from `first` on come before one that is remapped. */
  unmappedLength(first: MainBlock, count: number): number {
    let n = 0
    while (n < count && this.lookup(mainBlock(first + n)) === undefined) n++
    return n
  }

  /** Sets the slot of `block`, whether or not it had one. The record of the slot must name `block` already. */
  set(block: MainBlock, slot: SlotNumber): void {
    const bucket = this.#bucketOfBlock(block)
    if (this.#unlink(bucket, block)) this.#countRegion(block, -1)
    else this.#count++
    this.#records.setLink(slot, this.#head(bucket))
    this.#records.setLinked(slot, true)
    this.#setHead(bucket, slot + 1)
    this.#countRegion(block, 1)
    if (this.isResizing) this.#moveBuckets()
    else this.#growIfFull()
  }

  /** Before the record of its slot changes. @returns whether there was a remap to remove */
  delete(block: MainBlock): boolean {
    if (!this.#unlink(this.#bucketOfBlock(block), block)) return false
    this.#count--
    this.#countRegion(block, -1)
    if (this.isResizing) this.#moveBuckets()
    else this.#shrinkIfEmpty()
    return true
  }

  /** All remaps in no particular order. The table must not change meanwhile. */
  *entries(): Generator<[MainBlock, SlotNumber]> {
    for (let bucket = 0; bucket < this.#base + this.#split; bucket++) {
      for (let link = this.#head(bucket); link !== NONE; link = this.#records.link(link - 1)) {
        yield [this.#records.mainBlock(link - 1), (link - 1) as SlotNumber]
      }
    }
  }

  // --- Buckets -----------------------------------------------------------------------------------------------------

  #bucketOf(hashed: number): number {
    const bucket = (hashed & (this.#base - 1)) >>> 0
    return bucket < this.#split && (hashed & this.#base) !== 0 ? bucket + this.#base : bucket
  }

  #bucketOfBlock(block: MainBlock): number {
    return this.#bucketOf(hashOf(block))
  }

  #head(bucket: number): number {
    return this.#chunks[bucket >>> CHUNK_BITS]?.[bucket & BUCKET_MASK] ?? NONE
  }

  #setHead(bucket: number, link: number): void {
    const chunk = this.#chunks[bucket >>> CHUNK_BITS]
    if (chunk) chunk[bucket & BUCKET_MASK] = link
  }

  #unlink(bucket: number, block: MainBlock): boolean {
    let previous = NONE
    for (let link = this.#head(bucket); link !== NONE; link = this.#records.link(link - 1)) {
      if (this.#records.mainBlock(link - 1) === block) {
        const rest = this.#records.link(link - 1)
        this.#records.setLinked(link - 1, false)
        if (previous === NONE) this.#setHead(bucket, rest)
        else this.#records.setLink(previous - 1, rest)
        return true
      }
      previous = link
    }
    return false
  }

  #ensureBuckets(count: number): void {
    while (this.#chunks.length * CHUNK_BUCKETS < count) this.#chunks.push(quietUint32Array(CHUNK_BUCKETS))
  }

  // --- Regions -----------------------------------------------------------------------------------------------------

  #countRegion(block: MainBlock, change: 1 | -1): void {
    const region = Math.floor(block / this.#regionBlocks)
    this.#regions[region] = (this.#regions[region] ?? 0) + change
  }

  // --- Resizing ----------------------------------------------------------------------------------------------------

  #moveBuckets(): void {
    for (let n = 0; n < BUCKETS_PER_CHANGE && this.isResizing; n++) this.#moveBucket()
  }

  #adapt(): void {
    if (!this.isResizing) this.#growIfFull()
    if (!this.isResizing) this.#shrinkIfEmpty()
  }

  #growIfFull(): void {
    const { bucketsMin, growLoad } = this.#settings
    const from = this.#base
    if ((this.#count * 100 > from * growLoad || from < bucketsMin) && from < BUCKETS_MAX) {
      this.#begin('grow', from, from * 2)
    }
  }

  #shrinkIfEmpty(): void {
    const { bucketsMin, shrinkLoad } = this.#settings
    const from = this.#base
    if (this.#count * 100 < from * shrinkLoad && from > bucketsMin) this.#begin('shrink', from, from / 2)
  }

  #begin(direction: 'grow' | 'shrink', from: number, to: number): void {
    this.#direction = direction
    this.#resize = { from, to, count: this.#count }
    this.#resizes++
    if (direction === 'shrink') {
      this.#base = to
      this.#split = to
    }
    this.#listener.began(this.#resize)
    while (this.isResizing && this.#base <= SMALL_BUCKETS) this.#moveBucket()
  }

  #moveBucket(): void {
    if (this.#direction === 'grow') {
      this.#splitBucket(this.#split++)
      if (this.#split === this.#base) {
        this.#base *= 2
        this.#complete()
      }
    } else {
      this.#mergeBucket(--this.#split)
      if (this.#split === 0) this.#complete()
    }
  }

  /** Sends the entries of a bucket to it or to its new partner. */
  #splitBucket(bucket: number): void {
    const partner = bucket + this.#base
    this.#ensureBuckets(partner + 1)
    let stay = NONE
    let go = NONE
    for (let link = this.#head(bucket); link !== NONE;) {
      const next = this.#records.link(link - 1)
      const goes = (hashOf(this.#records.mainBlock(link - 1)) & this.#base) !== 0
      this.#records.setLink(link - 1, goes ? go : stay)
      if (goes) go = link
      else stay = link
      link = next
    }
    this.#setHead(bucket, stay)
    this.#setHead(partner, go)
  }

  /** Puts the entries of its partner behind those of a bucket. */
  #mergeBucket(bucket: number): void {
    const partner = bucket + this.#base
    const moved = this.#head(partner)
    this.#setHead(partner, NONE)
    if (moved !== NONE) {
      let last = moved
      for (let next = this.#records.link(last - 1); next !== NONE; next = this.#records.link(last - 1)) last = next
      this.#records.setLink(last - 1, this.#head(bucket))
      this.#setHead(bucket, moved)
    }
    const needed = Math.max(1, Math.ceil((this.#base + this.#split) / CHUNK_BUCKETS))
    if (this.#chunks.length > needed) this.#chunks.length = needed
  }

  #complete(): void {
    const resize = this.#resize
    this.#direction = 'none'
    this.#resize = undefined
    this.#split = 0
    if (resize) this.#listener.completed(resize)
    this.#adapt()
  }
}

/** Of the low 32 bits of a block number and the rest. Every bit counts: buckets are taken from the lowest ones. */
function hash(low: number, high: number): number {
  let mixed = low ^ Math.imul(high, 0x9e3779b1)
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return mixed ^ (mixed >>> 16)
}

/** Without the division on all disks but the longest. */
const highOf = (block: MainBlock): number => (block < WORD_RANGE ? 0 : (block / WORD_RANGE) >>> 0)

const hashOf = (block: MainBlock): number => hash(block >>> 0, highOf(block))
