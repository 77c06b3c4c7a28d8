/** What of the file system itself stands in fixed places: superblocks, descriptors, bitmaps, inodes. */
import { lastAtMost } from '../../util/search.js'
import { descriptorsIn, type Groups, hasSuperblock } from './groups.js'
import type { Superblock } from './superblock.js'

export interface Area {
  /** Blocks. */
  readonly start: number
  readonly end: number
  readonly what: string
  readonly group: number
}

export const INODES = 'inodes'
export const RESERVED = 'room for more group descriptors'

export class Layout {
  readonly #areas: readonly Area[]
  readonly #starts: Float64Array

  constructor(superblock: Superblock, groups: Groups) {
    const areas = [...areasOf(superblock, groups)].filter(({ start, end }) => start < end)
    this.#areas = areas.sort((a, b) => a.start - b.start)
    this.#starts = Float64Array.from(this.#areas, ({ start }) => start)
  }

  /** What of the blocks [start, end) is in such an area, in order. */
  *within(start: number, end: number): Generator<Area> {
    const first = Math.max(0, lastAtMost(this.#starts, this.#starts.length, start))
    for (let n = first; n < this.#areas.length; n++) {
      const area = this.#areas[n]
      if (area === undefined || area.start >= end) return
      if (area.end > start) yield { ...area, start: Math.max(area.start, start), end: Math.min(area.end, end) }
    }
  }
}

function* areasOf(superblock: Superblock, groups: Groups): Generator<Area> {
  const { firstDataBlock, blocksPerGroup, inodesPerGroup, inodeSize, blockSize, mmpBlock, reservedDescriptorBlocks } =
    superblock
  if (firstDataBlock > 0) yield { start: 0, end: firstDataBlock, what: 'boot block', group: 0 }
  if (mmpBlock > 0) yield { start: mmpBlock, end: mmpBlock + 1, what: 'protection from two mounts', group: 0 }
  const tableBlocks = Math.ceil((inodesPerGroup * inodeSize) / blockSize)
  for (let group = 0; group < groups.count; group++) {
    const first = firstDataBlock + group * blocksPerGroup
    if (hasSuperblock(superblock, group)) yield { start: first, end: first + 1, what: 'superblock', group }
    const { from, count } = descriptorsIn(superblock, group)
    yield { start: first + from, end: first + from + count, what: 'group descriptors', group }
    const reserved = hasSuperblock(superblock, group) ? reservedDescriptorBlocks : 0
    const end = first + from + count
    yield { start: end, end: end + reserved, what: RESERVED, group }
    const there = groups.at(group)
    if (!there) continue
    yield { start: there.blockBitmap, end: there.blockBitmap + 1, what: 'block bitmap', group }
    yield { start: there.inodeBitmap, end: there.inodeBitmap + 1, what: 'inode bitmap', group }
    yield { start: there.inodeTable, end: there.inodeTable + tableBlocks, what: INODES, group }
  }
}
