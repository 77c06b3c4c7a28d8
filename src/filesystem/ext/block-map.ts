/** Where the content of an inode stands: extents, or the blocks of blocks of ext2 and ext3. */
import type { Content, Source } from '../source.js'
import { FLAGS, type Inode } from './inode.js'
import type { Superblock } from './superblock.js'

/** Blocks of an inode that are neighbours. */
export interface Run {
  /** `map`: what says where content is. `unwritten`: reserved, and reads as zeros. */
  readonly kind: 'data' | 'unwritten' | 'map'
  /** The first block on disk. */
  readonly block: number
  readonly count: number
  /** The first block of the content; of a `map`, the first one that it tells of. */
  readonly logical: number
}

/** @returns false when some of it cannot be read or makes no sense; then runs are missing */
export type WalkBlocks = (inode: Inode, visit: (run: Run) => void) => Promise<boolean>

const EXTENT_MAGIC = 0xf30a
const EXTENT_DEPTH_MAX = 5
const UNWRITTEN = 32768
const DIRECT = 12

export const blockWalk =
  (source: Source, superblock: Superblock): WalkBlocks =>
  async (inode, visit) => {
    if (!inode.hasBlocks) return true
    const checked = (run: Run): void => {
      if (run.block > 0 && run.block + run.count <= superblock.blocksCount) visit(run)
    }
    const walk = { source, superblock, visit: checked, seen: new Set<number>() }
    if (inode.has(FLAGS.extents)) return walkExtents(walk, inode.map, EXTENT_DEPTH_MAX)
    return walkIndirect(walk, inode.map)
  }

interface Walk {
  readonly source: Source
  readonly superblock: Superblock
  readonly visit: (run: Run) => void
  /** Blocks of the map, so that one that leads into itself ends. */
  readonly seen: Set<number>
}

/** @param depthMax what the node's own depth may be */
async function walkExtents(walk: Walk, node: Buffer, depthMax: number): Promise<boolean> {
  const [magic, count, depth] = [node.readUInt16LE(0), node.readUInt16LE(2), node.readUInt16LE(6)]
  if (magic !== EXTENT_MAGIC || depth > depthMax || 12 * (count + 1) > node.length) return false
  let isComplete = true
  for (let n = 0; n < count; n++) {
    const entry = node.subarray(12 * (n + 1))
    if (depth === 0) visitExtent(walk, entry)
    else isComplete = (await walkChild(walk, entry, depth - 1)) && isComplete
  }
  return isComplete
}

function visitExtent({ visit }: Walk, extent: Buffer): void {
  const length = extent.readUInt16LE(4)
  const isUnwritten = length > UNWRITTEN
  visit({
    kind: isUnwritten ? 'unwritten' : 'data',
    block: extent.readUInt32LE(8) + extent.readUInt16LE(6) * 2 ** 32,
    count: isUnwritten ? length - UNWRITTEN : length,
    logical: extent.readUInt32LE(0),
  })
}

async function walkChild(walk: Walk, index: Buffer, depthMax: number): Promise<boolean> {
  const block = index.readUInt32LE(4) + index.readUInt16LE(8) * 2 ** 32
  const node = await readMap(walk, block, index.readUInt32LE(0))
  return node?.isWhole === true && walkExtents(walk, node.data, depthMax)
}

/** @returns undefined when it was read for this inode before, or is no block */
async function readMap(walk: Walk, block: number, logical: number): Promise<Content | undefined> {
  const { blockSize, blocksCount } = walk.superblock
  if (walk.seen.has(block) || block >= blocksCount) return undefined
  walk.seen.add(block)
  walk.visit({ kind: 'map', block, count: 1, logical })
  return walk.source.read(block * blockSize, blockSize)
}

async function walkIndirect(walk: Walk, map: Buffer): Promise<boolean> {
  visitPointers(walk, map.subarray(0, 4 * DIRECT), 0)
  const perBlock = walk.superblock.blockSize / 4
  let logical = DIRECT
  let isComplete = true
  for (let level = 1; level <= 3; level++) {
    const block = map.readUInt32LE(4 * (DIRECT + level - 1))
    if (block !== 0) isComplete = (await walkLevel(walk, block, level, logical)) && isComplete
    logical += perBlock ** level
  }
  return isComplete
}

/** @param level 1: its pointers lead to content */
async function walkLevel(walk: Walk, block: number, level: number, logical: number): Promise<boolean> {
  const content = await readMap(walk, block, logical)
  if (!content) return false
  const { data, isWhole } = content
  if (level === 1) {
    visitPointers(walk, data, logical)
    return isWhole
  }
  const step = (walk.superblock.blockSize / 4) ** (level - 1)
  let isComplete = isWhole
  for (let at = 0; at < data.length; at += 4) {
    const child = data.readUInt32LE(at)
    if (child !== 0) isComplete = (await walkLevel(walk, child, level - 1, logical + (at / 4) * step)) && isComplete
  }
  return isComplete
}

function visitPointers({ visit }: Walk, pointers: Buffer, logical: number): void {
  let run: { block: number; count: number; logical: number } | undefined
  for (let at = 0; at < pointers.length; at += 4) {
    const block = pointers.readUInt32LE(at)
    if (run && block === run.block + run.count) {
      run.count++
      continue
    }
    if (run) visit({ kind: 'data', ...run })
    run = block === 0 ? undefined : { block, count: 1, logical: logical + at / 4 }
  }
  if (run) visit({ kind: 'data', ...run })
}
