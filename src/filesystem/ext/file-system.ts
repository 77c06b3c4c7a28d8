/** An ext2, ext3 or ext4 that was opened for looking up files. Nothing is written, and its journal is not replayed. */
import type { Source } from '../source.js'
import { blockWalk, type WalkBlocks } from './block-map.js'
import { Groups } from './groups.js'
import { InodeTable } from './inode.js'
import { readSuperblock, type Superblock } from './superblock.js'

export interface ExtFileSystem {
  readonly source: Source
  readonly superblock: Superblock
  readonly groups: Groups
  readonly inodes: InodeTable
  readonly walkBlocks: WalkBlocks
}

/** @returns undefined when there is none @throws UnknownExtError */
export async function openExt(source: Source): Promise<ExtFileSystem | undefined> {
  const superblock = await readSuperblock(source)
  if (!superblock) return undefined
  const groups = await Groups.read(source, superblock)
  return {
    source,
    superblock,
    groups,
    inodes: new InodeTable(source, superblock, groups),
    walkBlocks: blockWalk(source, superblock),
  }
}
