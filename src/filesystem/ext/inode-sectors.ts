/** Which inodes stand in which sectors of the inode table of a group. */
import { alignDown, SECTOR_SIZE } from '../../util/units.js'
import type { ExtFileSystem } from './file-system.js'
import { isSet, ROOT_INODE } from './inode.js'

export interface InodeSector {
  readonly start: number
  readonly end: number
  /** Those of files that are in use, as far as that is known. */
  readonly inodes: readonly number[]
  /** Which are in use cannot be read: these are all that there is room for. */
  readonly isDoubtful: boolean
}

/** @param start bytes, as `end`: a part of the table */
export async function inodeSectors(
  { superblock, groups, inodes }: ExtFileSystem,
  number: number,
  start: number,
  end: number,
): Promise<InodeSector[]> {
  const { inodeSize, inodesPerGroup, blockSize, firstInode } = superblock
  const group = groups.at(number)
  if (!group) return []
  const used = await inodes.usedIn(number)
  const table = group.inodeTable * blockSize
  const isWanted = (n: number): boolean => {
    const inode = number * inodesPerGroup + n + 1
    return (inode === ROOT_INODE || inode >= firstInode) && (!used || isSet(used, n))
  }
  const sectors: InodeSector[] = []
  for (let from = start; from < end;) {
    const to = Math.min(end, alignDown(from, SECTOR_SIZE) + SECTOR_SIZE)
    const first = Math.floor((from - table) / inodeSize)
    const last = Math.min(Math.ceil((to - table) / inodeSize), group.inodesUsed)
    const there = Array.from({ length: Math.max(0, last - first) }, (_, n) => first + n).filter(isWanted)
    const numbers = there.map((n) => number * inodesPerGroup + n + 1)
    sectors.push({ start: from, end: to, inodes: numbers, isDoubtful: !used })
    from = to
  }
  return sectors
}
