/**
 * What an operator does to the remaps of a running target: add some, whatever their number, move them back, all or none.
 * Two requests at once must not concern the same blocks.
 */
import { DeviceError } from '../device/device.js'
import { messageOf } from '../util/errors.js'
import { Pacer } from '../util/pacer.js'
import { RangeSet } from '../util/range-set.js'
import { mainBlock, SECTOR_SIZE } from '../util/units.js'
import { RemapBatch, RemapRequestError, type BatchRange } from './batch.js'
import { Adding } from './remap-add.js'
import { InDoubtError, SpareExhaustedError } from './placement.js'
import type { ReadPolicy } from './policy.js'
import { Progress } from './progress.js'
import { relocate } from './relocation.js'
import { Removing } from './remap-remove.js'
import type { RemapTarget } from './target.js'

/** A batch with more ranges than this has one event at its end instead of one for each. */
const RANGES_TOLD_MAX = 64

export const newBatch = ({ main, blocks }: RemapTarget): RemapBatch =>
  new RemapBatch({
    blockSize: blocks.blockSize,
    mainSize: main.size,
    spareOf: (name) => {
      const member = blocks.member(name)
      return member && { base: member.base, slots: member.spare.geometry.slots }
    },
  })

export interface AddOptions {
  /** Copy the content first. Without it the blocks read as whatever the spare blocks hold. */
  readonly copy: boolean
  /** Leave out what is remapped already, instead of refusing it all. */
  readonly skipRemapped: boolean
  readonly policy: ReadPolicy
}

export interface Added {
  /** Number of blocks remapped. */
  readonly blocks: number
  /** Number of blocks that were remapped before, or changed meanwhile so that they had to be left where they are. */
  readonly skipped: number
}

/** Remaps the blocks of `batch`, all or, when it throws, none. @throws RemapRequestError */
export async function addRemaps(target: RemapTarget, batch: RemapBatch, options: AddOptions): Promise<Added> {
  const { lock, main, table, placement } = target
  const blocks = await unmappedOf(target, batch, options.skipRemapped)
  const before = batch.blocks.size - blocks.size
  if (blocks.size === 0) return { blocks: 0, skipped: before }
  const { policy, copy } = options
  // Without a copy the content changes.
  const changing = copy ? undefined : target.replica
  const parts = { main, blocks: target.blocks, table, placement, policy, changing }
  const isQuiet = blocks.count > RANGES_TOLD_MAX
  const { goOn } = target.relocations
  const adding = new Adding(parts, { batch, blocks, isQuiet })
  await alone(target, batch, blocks, async () => {
    const progress = new Progress(target.emit, 'add', blocks.size)
    try {
      await adding.reserve()
      await relocate({ lock, blocks, mover: adding, hold: 'shared', copies: copy, progress, goOn })
    } catch (error) {
      throw explain(error, adding.added, 'are remapped')
    } finally {
      await adding.end()
    }
  })
  if (isQuiet) target.emit('REMAP_BATCH', { operation: 'add', ranges: blocks.count, blocks: adding.added })
  return { blocks: adding.added, skipped: before + adding.skipped }
}

export interface Removed {
  /** Number of blocks moved back to the main disk. */
  readonly blocks: number
  /** Number of blocks that keep their remap because main does not take them, or because their content is lost. */
  readonly kept: number
}

/** Moves the blocks of `batch` back to main, all or, when it throws, none. @throws RemapRequestError */
export async function removeRemaps(target: RemapTarget, batch: RemapBatch): Promise<Removed> {
  const pacer = new Pacer()
  for (const { start, end } of batch.blocks.pieces(1)) {
    if (end > start && target.table.lookup(mainBlock(start)) === undefined) {
      throw batch.errorAt(start, `main sector ${sectorOf(target, start)} is not remapped`)
    }
    await pacer.pause()
  }
  return moveBack(target, batch, batch.blocks, false)
}

/** Moves everything back that main takes. @throws RemapRequestError */
export async function clearRemaps(target: RemapTarget): Promise<Removed> {
  const blocks = await allBlocks(target)
  return blocks.size === 0 ? { blocks: 0, kept: 0 } : moveBack(target, newBatch(target), blocks, true)
}

async function moveBack(target: RemapTarget, batch: RemapBatch, blocks: RangeSet, keepsBad: boolean): Promise<Removed> {
  const { lock, main, table, placement } = target
  const isQuiet = blocks.count > RANGES_TOLD_MAX
  const { goOn } = target.relocations
  const errorAt = (block: number, problem: string): RemapRequestError =>
    batch.errorAt(block, `main sector ${sectorOf(target, block)}: ${problem}`)
  const parts = { main, blocks: target.blocks, table, placement }
  const removing = new Removing(parts, { blocks, keepsBad, isQuiet, errorAt })
  await alone(target, batch, blocks, async () => {
    const progress = new Progress(target.emit, 'remove', blocks.size)
    try {
      await relocate({ lock, blocks, mover: removing, hold: 'exclusive', copies: true, progress, goOn })
    } catch (error) {
      throw explain(error, removing.removed, 'are back on the main disk')
    }
  })
  if (isQuiet) target.emit('REMAP_BATCH', { operation: 'remove', ranges: blocks.count, blocks: removing.removed })
  return { blocks: removing.removed, kept: removing.kept }
}

/** A batch of one range. @throws RemapRequestError */
export function batchOf(target: RemapTarget, range: BatchRange): RemapBatch {
  const batch = newBatch(target)
  batch.append(range)
  return batch
}

const sectorOf = ({ blocks }: RemapTarget, block: number): number => (block * blocks.blockSize) / SECTOR_SIZE

/** Runs `action` while no other request of an operator concerns these blocks. @throws RemapRequestError */
export async function alone(
  target: RemapTarget,
  batch: RemapBatch,
  blocks: RangeSet,
  action: () => Promise<void>,
): Promise<void> {
  const common = target.relocations.firstCommon(blocks)
  if (common !== undefined) {
    throw batch.errorAt(
      common,
      `main sector ${sectorOf(target, common)} is being moved by another request: try again when it is done`,
    )
  }
  await target.relocations.run(blocks, action)
}

/** @throws RemapRequestError when one is remapped, unless those are skipped */
async function unmappedOf(target: RemapTarget, batch: RemapBatch, skipRemapped: boolean): Promise<RangeSet> {
  const pacer = new Pacer()
  const left = new RangeSet()
  const { table } = target
  for (const { start, end } of batch.blocks.pieces()) {
    for (let block = start; block < end;) {
      if (table.lookup(mainBlock(block)) === undefined) {
        const next = Math.min(end, Math.max(block + 1, table.skipUnmapped(mainBlock(block), end)))
        left.append(block, next)
        block = next
      } else if (skipRemapped) block++
      else throw batch.errorAt(block, `main sector ${sectorOf(target, block)} is remapped already`)
      await pacer.pause()
    }
  }
  return left
}

async function allBlocks({ table, main, blocks: { blockSize } }: RemapTarget): Promise<RangeSet> {
  const pacer = new Pacer()
  const all = new RangeSet()
  const end = Math.ceil(main.size / blockSize)
  for (let block = table.skipUnmapped(mainBlock(0)); block < end;) {
    if (table.lookup(mainBlock(block)) !== undefined) all.append(block, block + 1)
    block = table.skipUnmapped(mainBlock(block + 1))
    await pacer.pause()
  }
  return all
}

export function explain(error: unknown, done: number, what: string): unknown {
  const known = error instanceof SpareExhaustedError || error instanceof InDoubtError || error instanceof DeviceError
  if (!known && !(error instanceof RemapRequestError)) return error
  const before = done === 0 ? '' : ` (${done} blocks of the request ${what})`
  return new RemapRequestError(`${messageOf(error)}${before}`, { cause: error })
}
