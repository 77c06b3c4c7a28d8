/**
 * The remaps of a running target in the order of the main disk, a page at a time. Slots are looked at in their order, where
 * every range lies in one piece, and of the ranges found only those are kept that belong on the page: so the time does not
 * depend on how they are spread, and requests go on meanwhile.
 */
import { SECTOR_SIZE, slotNumber } from '../util/units.js'
import { sectorsIn } from './sector-mask.js'
import type { RemapTarget } from './target.js'

/** A run of remapped blocks that are neighbours on main and on the spare. Sectors are 512 bytes. */
export interface RemapRange {
  readonly mainSector: number
  /** Name of the disk. */
  readonly spare: string
  /** Counted from the start of the spare's data area. */
  readonly spareSector: number
  readonly sectors: number
  /** `lost`: the content of some of its sectors is lost until they are rewritten. */
  readonly state: 'remapped' | 'lost'
}

export interface LostRange {
  readonly mainSector: number
  readonly sectors: number
}

export interface Page {
  /** Leave out ranges that end before this sector. */
  readonly fromSector: number
  /** Ranges at most. */
  readonly limit: number
}

export interface Listed<T> {
  readonly ranges: readonly T[]
  /** All ranges, on this page or not. */
  readonly total: number
}

export async function listRemaps(target: RemapTarget, page: Page): Promise<Listed<RemapRange>> {
  const { blocks } = target
  const perBlock = blocks.blockSize / SECTOR_SIZE
  const found = new FirstRanges(Math.floor(page.fromSector / perBlock), page.limit)
  await blocks.forEachRemapped((slot, block, hasLost) => {
    found.visit(block, slot, hasLost)
  })
  const ranges = found.finish().map(({ start, slot, count, hasLost }): RemapRange => {
    const { spare, sector: spareSector } = blocks.placeOf(slotNumber(slot))
    const state = hasLost ? 'lost' : 'remapped'
    return { mainSector: start * perBlock, spare, spareSector, sectors: count * perBlock, state }
  })
  return { ranges, total: found.total }
}

/** The sectors whose content is lost. */
export async function listLost(target: RemapTarget, page: Page): Promise<Listed<LostRange>> {
  const { blocks } = target
  const perBlock = blocks.blockSize / SECTOR_SIZE
  const found = new FirstRanges(page.fromSector, page.limit)
  await blocks.forEachRemapped((slot, block, hasLost) => {
    if (!hasLost) return
    for (const sector of sectorsIn(blocks.lostMask(slot)))
      found.visit(block * perBlock + sector, block * perBlock + sector, true)
  })
  const ranges = found.finish().map(({ start, count }): LostRange => ({ mainSector: start, sectors: count }))
  return { ranges, total: found.total }
}

interface Found {
  readonly start: number
  readonly slot: number
  readonly hasLost: boolean
  count: number
}

/** Makes ranges of neighbours as they are visited, and keeps the first `limit` of those that reach beyond `from`. */
class FirstRanges {
  readonly #from: number
  readonly #limit: number
  #kept: Found[] = []
  #current: Found | undefined
  /** Beyond it nothing is kept any more. */
  #last = Infinity
  total = 0

  constructor(from: number, limit: number) {
    this.#from = from
    this.#limit = limit
  }

  visit(start: number, slot: number, hasLost: boolean): void {
    const current = this.#current
    if (current && isNext(current, start, slot, hasLost)) {
      current.count++
      return
    }
    this.#close()
    this.#current = { start, slot, hasLost, count: 1 }
  }

  /** In order. */
  finish(): readonly Found[] {
    this.#close()
    this.#current = undefined
    this.#select()
    return this.#kept
  }

  #close(): void {
    if (this.#current === undefined) return
    this.total++
    const { start, count } = this.#current
    if (start + count <= this.#from || start > this.#last) return
    this.#kept.push(this.#current)
    if (this.#kept.length >= 2 * this.#limit + SPARE_ROOM) this.#select()
  }

  #select(): void {
    this.#kept.sort((a, b) => a.start - b.start)
    if (this.#kept.length <= this.#limit) return
    this.#kept.length = this.#limit
    this.#last = this.#kept.at(-1)?.start ?? Infinity
  }
}

/** So that a small page is not sorted at every turn. */
const SPARE_ROOM = 100

const isNext = (current: Found, start: number, slot: number, hasLost: boolean): boolean =>
  current.start + current.count === start && current.slot + current.count === slot && current.hasLost === hasLost
