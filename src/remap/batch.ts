/**
 * `RemapBatch`: ranges that an operator wants to have remapped or moved back, checked one by one as they come, and carried
 * out all or none. They come in the order of the main disk, so that each need be compared with the one before it only.
 *
 * Ranges are sectors of 512 bytes and are widened to whole blocks. Where a block is named twice, once by its place and once
 * for its lost sectors, both count.
 */
import { RangeSet } from '../util/range-set.js'
import { lastAtMost } from '../util/search.js'
import { SECTOR_SIZE } from '../util/units.js'
import { sectorsTouched } from './sector-mask.js'

/** A request of the operator that cannot be carried out. Nothing was changed, unless the message says how much. */
export class RemapRequestError extends Error {
  override name = 'RemapRequestError'
}

export interface BatchRange {
  readonly mainSector: number
  readonly sectors: number
  /** Where on the spare, from the start of its data area; `undefined`: wherever there is room. */
  readonly spareSector?: number | undefined
  /** Name, location or uuid of the spare that `spareSector` counts on; not needed when there is only one. */
  readonly spare?: string | undefined
  /** The content of these sectors is lost: nobody tries to read them, and they answer EIO until they are written. */
  readonly lost?: boolean | undefined
  /** Where it stands in a file, for messages. */
  readonly line?: number | undefined
}

/** What a batch is checked against. */
export interface BatchLimits {
  readonly blockSize: number
  /** Bytes of the main disk. */
  readonly mainSize: number
  /** The spare of this name, or the only one: its number of data blocks, and the number of the first one in the pool. */
  readonly spareOf: (name: string | undefined) => { readonly base: number; readonly slots: number } | undefined
}

/** At 44 bytes each. */
export const BATCH_RANGES_MAX = 4_000_000

interface Last {
  readonly range: BatchRange
  readonly end: number
}

export class RemapBatch {
  readonly blocks = new RangeSet()
  readonly #limits: BatchLimits
  readonly #perBlock: number
  /** The first block of each range, to find its line by a block. */
  readonly #firstBlocks: number[] = []
  readonly #lines: number[] = []
  /** The ranges that name their place, and the first block of each. */
  readonly #runs: { readonly first: number; readonly end: number; readonly slot: number }[] = []
  readonly #runStarts: number[] = []
  readonly #lost = new RangeSet()
  #lastPlaced: Last | undefined
  #lastLost: Last | undefined

  constructor(limits: BatchLimits) {
    this.#limits = limits
    this.#perBlock = limits.blockSize / SECTOR_SIZE
  }

  /** Number of ranges. */
  get count(): number {
    return this.#lines.length
  }

  get hasLost(): boolean {
    return this.#lost.size > 0
  }

  /** @throws RemapRequestError; the batch is then as it was */
  append(range: BatchRange): void {
    const { mainSector, sectors, spareSector, lost = false } = range
    this.#checkBounds(range)
    this.#checkOrder(range)
    const first = Math.floor(mainSector / this.#perBlock)
    const end = Math.ceil((mainSector + sectors) / this.#perBlock)
    const slot = spareSector === undefined ? undefined : this.#slotOf(range, spareSector, end - first)
    if (slot !== undefined) this.#place(range, first, end, slot)
    this.blocks.append(first, end)
    if (lost) this.#lost.append(mainSector, mainSector + sectors)
    if (lost) this.#lastLost = { range, end: mainSector + sectors }
    else this.#lastPlaced = { range, end: mainSector + sectors }
    this.#firstBlocks.push(first)
    this.#lines.push(range.line ?? 0)
  }

  /** The slot that the operator chose for a block. */
  slotOf(block: number): number | undefined {
    const run = this.#runs[lastAtMost(this.#runStarts, this.#runStarts.length, block)]
    return run !== undefined && block < run.end ? run.slot + block - run.first : undefined
  }

  /** The sectors of a block, as bits, whose content is lost. */
  lostIn(block: number): bigint {
    const start = block * this.#perBlock
    if (!this.#lost.overlaps(start, start + this.#perBlock)) return 0n
    let mask = 0n
    for (let n = 0; n < this.#perBlock; n++) {
      if (this.#lost.indexOf(start + n) >= 0) mask |= sectorsTouched(n * SECTOR_SIZE, SECTOR_SIZE)
    }
    return mask
  }

  /** An error about a block, with the line that names it. */
  errorAt(block: number, message: string, options?: ErrorOptions): RemapRequestError {
    return problem({ line: this.#lineOf(block) }, message, options)
  }

  #lineOf(block: number): number {
    return this.#lines[lastAtMost(this.#firstBlocks, this.#firstBlocks.length, block)] ?? 0
  }

  #checkBounds(range: BatchRange): void {
    const { mainSector, sectors } = range
    const mainSectors = Math.ceil(this.#limits.mainSize / SECTOR_SIZE)
    if (!isSector(mainSector)) throw problem(range, `main-sector ${mainSector} is not a sector number`)
    if (!isSector(sectors) || sectors < 1)
      throw problem(range, `sectors must be a whole number from 1 on, not ${sectors}`)
    if (mainSector + sectors > mainSectors) {
      throw problem(
        range,
        `main-sector ${mainSector} and sectors ${sectors} leave the main disk, which has ${mainSectors} sectors`,
      )
    }
    if (this.count >= BATCH_RANGES_MAX) throw problem(range, `a batch has at most ${BATCH_RANGES_MAX} ranges`)
    if (range.lost && range.spareSector !== undefined)
      throw problem(range, 'lost sectors take no spare-sector: name the place of their block in a range of its own')
  }

  #checkOrder(range: BatchRange): void {
    const { mainSector, lost = false } = range
    const same = lost ? this.#lastLost : this.#lastPlaced
    const other = lost ? this.#lastPlaced : this.#lastLost
    if (mainSector < Math.max(same?.range.mainSector ?? 0, other?.range.mainSector ?? 0)) {
      throw problem(range, `main-sector ${mainSector} stands behind a later one: ranges must be in ascending order`)
    }
    if (same === undefined || mainSector >= same.end) return
    const before = same.range.line ? `line ${same.range.line}` : `the range at main sector ${same.range.mainSector}`
    throw problem(range, `main-sector ${mainSector} and sectors ${range.sectors} overlap ${before}`)
  }

  #slotOf(range: BatchRange, spareSector: number, count: number): number {
    const spare = this.#limits.spareOf(range.spare)
    if (spare === undefined) {
      const why =
        range.spare === undefined ? 'there are several spares: say which one' : `there is no spare ${range.spare}`
      throw problem(range, `${why}${range.spare === undefined ? ' spare-sector counts on' : ' in the pool'}`)
    }
    if (!isSector(spareSector)) throw problem(range, `spare-sector ${spareSector} is not a sector number`)
    if (spareSector % this.#perBlock !== 0) {
      throw problem(range, `spare-sector ${spareSector} is not at the start of a block of ${this.#perBlock} sectors`)
    }
    const slot = spareSector / this.#perBlock
    if (slot + count > spare.slots) {
      throw problem(
        range,
        `spare-sector ${spareSector} leaves the spare's data area, which has ${spare.slots * this.#perBlock} sectors`,
      )
    }
    return spare.base + slot
  }

  #place(range: BatchRange, first: number, end: number, slot: number): void {
    const known = this.slotOf(first)
    if (known !== undefined && known !== slot) {
      throw problem(range, `the block of main sector ${range.mainSector} was given another place before`)
    }
    this.#runs.push({ first, end, slot })
    this.#runStarts.push(first)
  }
}

const isSector = (value: number): boolean => Number.isSafeInteger(value) && value >= 0

const problem = ({ line }: { line?: number | undefined }, message: string, options?: ErrorOptions): RemapRequestError =>
  new RemapRequestError(line ? `line ${line}: ${message}` : message, options)
