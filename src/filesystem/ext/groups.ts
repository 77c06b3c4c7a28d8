/**
 * The block groups: where the bitmaps and the inodes of each are. A descriptor that cannot be read is taken from a copy; what a copy
 * says of how much is in use is out of date, since only the first one is kept so, and is not believed.
 */
import type { Source } from '../source.js'
import { COMPAT, INCOMPAT, RO_COMPAT, type Superblock } from './superblock.js'

/** No block has this number where a group keeps something. */
export const NOWHERE = 0

export interface Group {
  readonly blockBitmap: number
  readonly inodeBitmap: number
  readonly inodeTable: number
  /** Inodes from this one on (in the group) were never used. */
  readonly inodesUsed: number
  /** The bitmap was never written: nothing but metadata is in use. */
  readonly isBlockBitmapUnset: boolean
}

export class Groups {
  /** Groups of which no descriptor can be read. */
  missing = 0
  readonly #superblock: Superblock
  readonly #all: readonly (Group | undefined)[]

  private constructor(superblock: Superblock, all: readonly (Group | undefined)[]) {
    this.#superblock = superblock
    this.#all = all
    this.missing = all.filter((group) => group === undefined).length
  }

  static async read(source: Source, superblock: Superblock): Promise<Groups> {
    const perBlock = Math.floor(superblock.blockSize / superblock.descriptorSize)
    const all: (Group | undefined)[] = []
    for (let first = 0; first < superblock.groupCount; first += perBlock) {
      const count = Math.min(perBlock, superblock.groupCount - first)
      all.push(...(await readDescriptors(source, superblock, first, count)))
    }
    return new Groups(superblock, all)
  }

  get count(): number {
    return this.#all.length
  }

  at(number: number): Group | undefined {
    return this.#all[number]
  }

  /** The group that a block is in; -1: in none, before the first. */
  groupOf(block: number): number {
    const { firstDataBlock, blocksPerGroup } = this.#superblock
    return block < firstDataBlock ? -1 : Math.floor((block - firstDataBlock) / blocksPerGroup)
  }
}

async function readDescriptors(
  source: Source,
  superblock: Superblock,
  first: number,
  count: number,
): Promise<(Group | undefined)[]> {
  const { blockSize, descriptorSize: size } = superblock
  const groups = Array.from({ length: count }, (): Group | undefined => undefined)
  for (const [copy, block] of descriptorBlocks(superblock, first).entries()) {
    const isFirst = copy === 0
    for (let n = 0; n < count; n++) {
      if (groups[n]) continue
      const { data, isWhole } = await source.read(block * blockSize + n * size, size)
      if (isWhole) groups[n] = decode(data, superblock, isFirst)
    }
    if (groups.every((group) => group !== undefined)) break
  }
  return groups
}

function decode(data: Buffer, superblock: Superblock, isFirst: boolean): Group | undefined {
  const high = (at: number): number => (data.length >= 64 ? data.readUInt32LE(at) * 2 ** 32 : 0)
  const unused = data.readUInt16LE(0x1c) + (data.length >= 64 ? data.readUInt16LE(0x32) * 2 ** 16 : 0)
  const knowsUse = isFirst && (superblock.roCompat & (RO_COMPAT.gdtChecksum | RO_COMPAT.metadataChecksum)) !== 0
  const flags = knowsUse ? data.readUInt16LE(0x12) : 0
  const used = superblock.inodesPerGroup - (knowsUse ? Math.min(unused, superblock.inodesPerGroup) : 0)
  const group = {
    blockBitmap: data.readUInt32LE(0) + high(0x20),
    inodeBitmap: data.readUInt32LE(4) + high(0x24),
    inodeTable: data.readUInt32LE(8) + high(0x28),
    inodesUsed: (flags & 1) === 0 ? used : 0,
    isBlockBitmapUnset: (flags & 2) !== 0,
  }
  const places = [group.blockBitmap, group.inodeBitmap, group.inodeTable]
  return places.every((block) => block !== NOWHERE && block < superblock.blocksCount) ? group : undefined
}

/** Where the descriptors from that of group `first` on stand, which fill a block, and where their copies are. */
function descriptorBlocks(superblock: Superblock, first: number): number[] {
  const perBlock = Math.floor(superblock.blockSize / superblock.descriptorSize)
  const index = first / perBlock
  const { firstDataBlock, blocksPerGroup, groupCount } = superblock
  const start = (group: number): number => firstDataBlock + group * blocksPerGroup
  if (isMeta(superblock, index)) {
    const groups = [first, first + 1, first + perBlock - 1].filter((group) => group < groupCount)
    return groups.map((group) => start(group) + (hasSuperblock(superblock, group) ? 1 : 0))
  }
  const groups = [0, 1, 3, 5, 7, 9, ...superblock.backupGroups]
  return groups
    .filter((group) => group < groupCount && hasSuperblock(superblock, group))
    .map((group) => start(group) + 1 + index)
}

/** With meta_bg, descriptors of later groups stand in the groups themselves. */
const isMeta = ({ incompat, firstMetaGroup }: Superblock, index: number): boolean =>
  (incompat & INCOMPAT.metaBg) !== 0 && index >= firstMetaGroup

/** Whether the group begins with a superblock, the first one or a copy. */
export function hasSuperblock({ compat, roCompat, backupGroups }: Superblock, group: number): boolean {
  if (group === 0) return true
  if ((compat & COMPAT.sparseSuper2) !== 0) return backupGroups.includes(group)
  if (group === 1 || (roCompat & RO_COMPAT.sparseSuper) === 0) return true
  return [3, 5, 7].some((base) => isPowerOf(base, group))
}

function isPowerOf(base: number, value: number): boolean {
  let power = base
  while (power < value) power *= base
  return power === value
}

/** How many blocks of descriptors follow the superblock of a group, and where else there are some. */
export function descriptorsIn(
  superblock: Superblock,
  group: number,
): { readonly from: number; readonly count: number } {
  const perBlock = Math.floor(superblock.blockSize / superblock.descriptorSize)
  const after = hasSuperblock(superblock, group) ? 1 : 0
  const metaIndex = Math.floor(group / perBlock)
  if (isMeta(superblock, metaIndex)) {
    const place = group % perBlock
    return { from: after, count: place === 0 || place === 1 || place === perBlock - 1 ? 1 : 0 }
  }
  const all = Math.ceil(superblock.groupCount / perBlock)
  const count = (superblock.incompat & INCOMPAT.metaBg) === 0 ? all : Math.min(all, superblock.firstMetaGroup)
  return { from: 1, count: after === 0 ? 0 : count }
}
