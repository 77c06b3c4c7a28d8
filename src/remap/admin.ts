/** What an operator does to the remaps of a running target: list them, and add some by hand. */
import { DeviceError } from '../device/device.js'
import type { Spare } from '../spare/spare.js'
import { mainBlock, SECTOR_SIZE, slotNumber, type MainBlock, type SlotNumber } from '../util/units.js'
import { InDoubtError, SpareExhaustedError, type NewRemap } from './placement.js'
import type { ReadPolicy } from './policy.js'
import { rescue } from './rescue.js'
import type { RemapTarget } from './target.js'

/** A run of remapped blocks that are neighbours on main and on the spare. Sectors are 512 bytes. */
export interface RemapRange {
  readonly mainSector: number
  /** Counted from the start of the spare's data area. */
  readonly spareSector: number
  readonly sectors: number
  /** `lost`: the content of some of its sectors is lost until they are rewritten. */
  readonly state: 'remapped' | 'lost'
}

/** All remaps in the order of the main disk, neighbours joined. */
export function listRemaps(target: RemapTarget): RemapRange[] {
  const sectors = target.spare.blockSize / SECTOR_SIZE
  const ranges: RemapRange[] = []
  const entries = [...target.table.entries()].sort(([a], [b]) => a - b)
  for (const [block, slot] of entries) {
    const state = target.spare.slots.hasLost(slot) ? 'lost' : 'remapped'
    const range: RemapRange = { mainSector: block * sectors, spareSector: slot * sectors, sectors, state }
    const last = ranges.at(-1)
    if (last && areNeighbours(last, range)) ranges[ranges.length - 1] = { ...last, sectors: last.sectors + sectors }
    else ranges.push(range)
  }
  return ranges
}

const areNeighbours = (a: RemapRange, b: RemapRange): boolean =>
  a.state === b.state && a.mainSector + a.sectors === b.mainSector && a.spareSector + a.sectors === b.spareSector

/** A request of the operator that cannot be carried out. Nothing was changed, unless the message says how much. */
export class RemapRequestError extends Error {
  override name = 'RemapRequestError'
}

export interface AddRequest {
  readonly mainSector: number
  readonly sectors: number
  /** Where on the spare; `undefined`: wherever there is room. */
  readonly spareSector?: number | undefined
  /** Copy the content first. Without it the blocks read as whatever the spare blocks hold. */
  readonly copy: boolean
}

/** Blocks that are copied, and made durable, together. */
const STEP_BLOCKS = 256

/**
 * Remaps the blocks that hold the given sectors: a range that is not aligned to blocks is widened.
 * @returns the number of blocks remapped
 * @throws RemapRequestError
 */
export async function addRemaps(target: RemapTarget, request: AddRequest, policy: ReadPolicy): Promise<number> {
  const { first, count, slot } = blocksOf(target, request)
  assertUnmapped(target, first, count)
  for (let done = 0; done < count; done += STEP_BLOCKS) {
    const step = Math.min(STEP_BLOCKS, count - done)
    const from = mainBlock(first + done)
    const slots = slot === undefined ? undefined : slotNumber(slot + done)
    const release = await target.lock.exclusive(from, from + step)
    try {
      assertUnmapped(target, from, step)
      await placeStep(target, from, step, slots, request.copy, policy)
    } catch (error) {
      throw explain(error, done)
    } finally {
      release()
    }
  }
  return count
}

function blocksOf(
  target: RemapTarget,
  request: AddRequest,
): { first: number; count: number; slot: number | undefined } {
  const { mainSector, sectors, spareSector } = request
  const perBlock = target.spare.blockSize / SECTOR_SIZE
  const mainSectors = Math.ceil(target.size / SECTOR_SIZE)
  if (sectors < 1 || mainSector < 0 || mainSector + sectors > mainSectors) {
    throw new RemapRequestError(
      `main-sector ${mainSector} and sectors ${sectors} leave the main disk, which has ${mainSectors} sectors`,
    )
  }
  const first = Math.floor(mainSector / perBlock)
  const count = Math.ceil((mainSector + sectors) / perBlock) - first
  if (spareSector === undefined) return { first, count, slot: undefined }
  if (spareSector % perBlock !== 0) {
    throw new RemapRequestError(`spare-sector ${spareSector} is not at the start of a block of ${perBlock} sectors`)
  }
  const slot = spareSector / perBlock
  if (slot < 0 || slot + count > target.spare.geometry.slots) {
    const total = target.spare.geometry.slots * perBlock
    throw new RemapRequestError(`spare-sector ${spareSector} leaves the spare's data area, which has ${total} sectors`)
  }
  return { first, count, slot }
}

function assertUnmapped(target: RemapTarget, first: number, count: number): void {
  const perBlock = target.spare.blockSize / SECTOR_SIZE
  for (let block = target.table.skipUnmapped(mainBlock(first)); block < first + count;) {
    if (target.table.lookup(mainBlock(block)) !== undefined) {
      throw new RemapRequestError(`main sector ${block * perBlock} is remapped already`)
    }
    block = Math.max(block + 1, target.table.skipUnmapped(mainBlock(block)))
  }
}

async function placeStep(
  target: RemapTarget,
  first: MainBlock,
  count: number,
  slot: SlotNumber | undefined,
  copy: boolean,
  policy: ReadPolicy,
): Promise<void> {
  const reserved = slot === undefined ? undefined : await reserve(target.spare, slot, count)
  try {
    const { blockSize } = target.spare
    // Without a copy the content changes.
    if (!copy) target.replica?.mark(first * blockSize, Math.min(count * blockSize, target.size - first * blockSize))
    const remaps: NewRemap[] = []
    for (let n = 0; n < count; n++) {
      const block = mainBlock(first + n)
      const content = copy ? await contentOf(target, block, policy) : { content: undefined, lostMask: 0n }
      const place = reserved?.[n]
      remaps.push({ block, ...content, reason: 'operator', ...(place === undefined ? {} : { slot: place }) })
    }
    await target.placement.place(remaps)
  } catch (error) {
    if (reserved) target.spare.release(reserved)
    throw error
  }
}

async function reserve(spare: Spare, slot: SlotNumber, count: number): Promise<SlotNumber[]> {
  const reserved: SlotNumber[] = []
  for (let n = 0; n < count; n++) {
    const number = slotNumber(slot + n)
    if (await spare.reserve(number)) {
      reserved.push(number)
      continue
    }
    spare.release(reserved)
    throw new RemapRequestError(`spare sector ${(number * spare.blockSize) / SECTOR_SIZE} is in use`)
  }
  return reserved
}

async function contentOf(
  target: RemapTarget,
  block: MainBlock,
  policy: ReadPolicy,
): Promise<{ content: Buffer[]; lostMask: bigint }> {
  const { blockSize } = target.spare
  const offset = block * blockSize
  const length = Math.min(blockSize, target.size - offset)
  const { content, lostMask } = await rescue(target.main, offset, length, policy)
  return { content: [content], lostMask }
}

function explain(error: unknown, done: number): unknown {
  const known = error instanceof SpareExhaustedError || error instanceof InDoubtError || error instanceof DeviceError
  if (!known && !(error instanceof RemapRequestError)) return error
  const before = done === 0 ? '' : ` (the first ${done} blocks of the request are remapped)`
  return new RemapRequestError(`${error.message}${before}`, { cause: error })
}
