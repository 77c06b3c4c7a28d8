/** Which blocks are in use. Bitmaps are read sector by sector, so that of one that is damaged the rest still counts. */
import { alignDown, SECTOR_SIZE } from '../../util/units.js'
import type { Content, Source } from '../source.js'
import type { Groups } from './groups.js'
import { isSet } from './inode.js'
import type { Superblock } from './superblock.js'

export class BlockBitmaps {
  readonly #source: Source
  readonly #superblock: Superblock
  readonly #groups: Groups
  #last: (Content & { readonly offset: number }) | undefined

  constructor(source: Source, superblock: Superblock, groups: Groups) {
    this.#source = source
    this.#superblock = superblock
    this.#groups = groups
  }

  /** @returns undefined when that cannot be read */
  async isUsed(block: number): Promise<boolean | undefined> {
    const number = this.#groups.groupOf(block)
    const group = this.#groups.at(number)
    if (!group) return undefined
    if (group.isBlockBitmapUnset) return false
    const { firstDataBlock, blocksPerGroup, clusterBlocks, blockSize } = this.#superblock
    // A bit stands for a cluster.
    const bit = Math.floor((block - firstDataBlock - number * blocksPerGroup) / clusterBlocks)
    const { data, isWhole } = await this.#sectorAt(group.blockBitmap * blockSize + alignDown(bit >>> 3, SECTOR_SIZE))
    return isWhole ? isSet(data, bit % (8 * SECTOR_SIZE)) : undefined
  }

  async #sectorAt(offset: number): Promise<Content> {
    if (this.#last?.offset !== offset) this.#last = { offset, ...(await this.#source.read(offset, SECTOR_SIZE)) }
    return this.#last
  }
}
