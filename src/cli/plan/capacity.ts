/** The spare that a main disk needs: its size, what of it is metadata, the memory, and for how long it lasts. Pure. */
import { SPARE_POLICY_DEFAULT } from '../../remap/policy.js'
import { tableMemory } from '../../remap/table-memory.js'
import { layOut, spareSizeMin, type Geometry } from '../../spare/format.js'
import { alignUp, MiB } from '../../util/units.js'
import { UsageError } from '../../util/errors.js'
import { badBlocksAfter, daysUntil, type Expectation } from './forecast.js'

export interface Wish {
  readonly mainSize: number
  readonly blockSize: number
  readonly expectation: Expectation
  /** How long it should last. */
  readonly days: number
  /** Share of the blocks that should be free then: spares have bad blocks, too. */
  readonly reserve: number
  /** `undefined`: as large as it has to be. */
  readonly spareSize: number | undefined
}

export interface Plan {
  readonly 'main-bytes': number
  readonly 'main-blocks': number
  readonly 'block-size': number
  /** At the end of the time asked for; never more than the disk has. */
  readonly 'expected-blocks': number
  readonly 'needed-blocks': number
  readonly 'spare-bytes': number
  readonly 'spare-blocks': number
  readonly 'metadata-bytes': number
  /** When all of the spare is used. */
  readonly 'memory-bytes': number
  /** Absent: it is never full. */
  readonly 'lasts-days'?: number
  /** When SPARE_LOW is sent, with the default of --spare-low. */
  readonly 'low-after-days'?: number
  readonly sufficient: boolean
}

/** @throws UsageError when there can be no such spare */
export function planSpare({ mainSize, blockSize, expectation, days, reserve, spareSize }: Wish): Plan {
  const mainBlocks = Math.ceil(mainSize / blockSize)
  const expected = Math.min(Math.ceil(badBlocksAfter(expectation, days)), mainBlocks)
  const needed = Math.max(1, Math.ceil(expected / (1 - reserve)))
  const size = spareSize ?? smallestSpare(mainSize, blockSize, needed)
  const geometry = layOutSpare(mainSize, size, blockSize)
  const full = daysUntil(expectation, geometry.slots)
  const low = daysUntil(expectation, geometry.slots * (1 - SPARE_POLICY_DEFAULT.lowShare))
  return {
    'main-bytes': mainSize,
    'main-blocks': mainBlocks,
    'block-size': blockSize,
    'expected-blocks': expected,
    'needed-blocks': needed,
    'spare-bytes': size,
    'spare-blocks': geometry.slots,
    'metadata-bytes': geometry.dataOffset + (size - geometry.slotTableOffsets[1]),
    'memory-bytes': tableMemory(mainBlocks, Math.min(geometry.slots, mainBlocks)),
    // A disk has no more bad blocks than blocks.
    ...(Number.isFinite(full) && geometry.slots < mainBlocks && { 'lasts-days': full }),
    ...(Number.isFinite(low) &&
      geometry.slots * (1 - SPARE_POLICY_DEFAULT.lowShare) < mainBlocks && { 'low-after-days': low }),
    sufficient: geometry.slots >= needed,
  }
}

function layOutSpare(mainSize: number, spareSize: number, blockSize: number): Geometry {
  const geometry = layOut(mainSize, spareSize, blockSize)
  if (geometry) return geometry
  throw new UsageError(
    `a spare has at least ${spareSizeMin(blockSize)} bytes with blocks of ${blockSize}, not ${spareSize}`,
  )
}

/** Whole MiB. */
function smallestSpare(mainSize: number, blockSize: number, blocks: number): number {
  const holds = (size: number): boolean => (layOut(mainSize, size, blockSize)?.slots ?? 0) >= blocks
  let [low, high] = [0, alignUp(spareSizeMin(blockSize), MiB)]
  while (!holds(high)) {
    ;[low, high] = [high, high * 2]
    if (!Number.isSafeInteger(high))
      throw new UsageError(`no spare holds ${blocks} blocks of ${blockSize} bytes: take larger ones (--block-size)`)
  }
  while (high - low > MiB) {
    const middle = alignUp((low + high) / 2, MiB)
    if (middle >= high) break
    if (holds(middle)) high = middle
    else low = middle
  }
  return high
}
