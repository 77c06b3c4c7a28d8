/**
 * Where things are, for NBD_CMD_BLOCK_STATUS: pure functions over the remap table and the lost masks of the slots.
 *
 * `nbd-remap:state` says of every sector whether it is on the main disk, was remapped, or was lost. What is allocated is
 * known of the main disk only; remapped blocks have their content, if any, on the spare, and count as data.
 *
 * Both stop early, after `countMax` extents or when they have looked at enough blocks: the client asks on from there.
 */
import type { AllocationExtent } from '../device/device.js'
import { SECTOR_SIZE, type SlotNumber } from '../util/units.js'
import { placesIn, type Placements } from './pieces.js'

/** Name of the metadata context. */
export const STATE_CONTEXT = 'nbd-remap:state'
export const STATE_MAIN = 0
export const STATE_REMAPPED = 1
export const STATE_LOST = 2

export interface StateExtent {
  /** In bytes. */
  readonly length: number
  /** STATE_MAIN, STATE_REMAPPED or STATE_LOST. */
  readonly flags: number
}

export interface StatePlacements extends Placements {
  /** Bit i: the content of sector i of the block is lost. */
  lostMask(slot: SlotNumber): bigint
}

/** Blocks looked up for one answer. At well under a microsecond each, others do not notice. */
const PIECES_MAX = 16_384

/** Consecutive extents of `nbd-remap:state` from `offset` on: at least one, and no two neighbours are equal. */
export const stateExtents = (
  offset: number,
  length: number,
  countMax: number,
  placements: StatePlacements,
): StateExtent[] => join(stateRuns(offset, length, placements), countMax, (a, b) => a.flags === b.flags)

/** `below` is what is allocated on the main disk from `offset` on: remapped blocks are taken out of it. */
export const allocationExtents = (
  offset: number,
  countMax: number,
  below: readonly AllocationExtent[],
  placements: Placements,
): AllocationExtent[] =>
  join(allocationRuns(offset, below, placements), countMax, (a, b) => a.allocation === b.allocation)

/** Makes one extent of neighbours that are the same, and ends when there would be more than `countMax`. */
function join<T extends { readonly length: number }>(
  runs: Iterable<T>,
  countMax: number,
  isSame: (a: T, b: T) => boolean,
): T[] {
  const extents: T[] = []
  for (const run of runs) {
    const last = extents.at(-1)
    if (last && isSame(last, run)) extents[extents.length - 1] = { ...last, length: last.length + run.length }
    else if (extents.length === countMax) break
    else extents.push(run)
  }
  return extents
}

function* stateRuns(offset: number, length: number, placements: StatePlacements): Generator<StateExtent> {
  let piecesLeft = PIECES_MAX
  for (const piece of placesIn(offset, length, placements)) {
    if (piece.place === 'main') yield { length: piece.length, flags: STATE_MAIN }
    else if (!piece.hasLost) yield { length: piece.length, flags: STATE_REMAPPED }
    else yield* sectorRuns(piece.offsetInBlock, piece.length, placements.lostMask(piece.slot))
    if (--piecesLeft === 0) return
  }
}

/** Sector by sector, [start, start + length) of a block some of whose sectors are lost. */
function* sectorRuns(start: number, length: number, lostMask: bigint): Generator<StateExtent> {
  for (let at = start, end = start + length; at < end;) {
    const sector = Math.floor(at / SECTOR_SIZE)
    const next = Math.min((sector + 1) * SECTOR_SIZE, end)
    const isLost = ((lostMask >> BigInt(sector)) & 1n) === 1n
    yield { length: next - at, flags: isLost ? STATE_LOST : STATE_REMAPPED }
    at = next
  }
}

function* allocationRuns(
  offset: number,
  below: readonly AllocationExtent[],
  placements: Placements,
): Generator<AllocationExtent> {
  let start = offset
  let piecesLeft = PIECES_MAX
  for (const { length, allocation } of below) {
    // What is data on the main disk is data wherever it went.
    const pieces = allocation === 'data' ? [{ place: 'main' as const, length }] : placesIn(start, length, placements)
    for (const piece of pieces) {
      yield { length: piece.length, allocation: piece.place === 'main' ? allocation : 'data' }
      if (--piecesLeft === 0) return
    }
    start += length
  }
}
