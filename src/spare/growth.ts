/**
 * What becomes of a spare whose disk has grown. Its slot table gets longer: copy 1 moves to the new end, and copy 0 grows
 * into the data area. A data block stays where it is, and only its number changes: the new layout has exactly those
 * numbers fewer before it that the table takes. Only the blocks that the table takes move, to where nothing stands, neither
 * in the old layout nor in the new one. So all of the new layout but copy 0 of the table can be written while the old
 * one is in force.
 */
import { layOut, PAGE_SIZE, pageOf, type Geometry } from './format.js'
import { slotNumber, type SlotNumber } from '../util/units.js'

/** The slots of the old layout. */
export interface OldSlots {
  readonly geometry: Geometry
  readonly initialisedPages: number
  /** Those that are not free, in order. */
  readonly used: readonly { readonly number: SlotNumber; readonly isRemapped: boolean }[]
}

export interface Growth {
  readonly geometry: Geometry
  readonly initialisedPages: number
  /** The number in the new layout is the one in the old layout less this. */
  readonly shift: number
  /** Blocks that the larger table takes, from their old numbers to their new ones. */
  readonly moves: ReadonlyMap<SlotNumber, SlotNumber>
}

/** @returns how many bytes the disk must have at least, when it has not grown enough for this way; `undefined`: not at all */
export function planGrowth(old: OldSlots, spareSize: number): Growth | { readonly sizeMin: number } | undefined {
  const { mainSize, blockSize, slots } = old.geometry
  const next = layOut(mainSize, spareSize, blockSize)
  if (!next || next.slots <= slots) return undefined
  return growInto(old, next) ?? { sizeMin: smallestSize(old, spareSize) }
}

function smallestSize(old: OldSlots, from: number): number {
  const { mainSize, blockSize } = old.geometry
  for (let size = from; ; size += PAGE_SIZE * Math.ceil(old.geometry.slotPages / 16)) {
    const next = layOut(mainSize, size, blockSize)
    if (next && growInto(old, next)) return size
  }
}

function growInto(old: OldSlots, next: Geometry): Growth | undefined {
  if (next.slotTableOffsets[1] < endOf(old.geometry)) return undefined
  const shift = (next.dataOffset - old.geometry.dataOffset) / next.blockSize
  const taken = old.used.filter(({ number, isRemapped }) => number < shift && isRemapped).map(({ number }) => number)
  const moves = new Map<SlotNumber, SlotNumber>()
  const places = freePlaces(old, next, shift)
  for (const number of taken) {
    const place = places.next()
    if (place.done) return undefined
    moves.set(number, place.value)
  }
  let last = Math.max(0, (old.used.at(-1)?.number ?? 0) - shift)
  for (const number of moves.values()) last = Math.max(last, number)
  const initialisedPages = Math.max(old.initialisedPages, pageOf(slotNumber(last)) + 1)
  return { geometry: next, initialisedPages, shift, moves }
}

const endOf = ({ slotTableOffsets, slotPages }: Geometry): number => slotTableOffsets[1] + slotPages * PAGE_SIZE

/** Numbers of the new layout, the lowest first, whose data blocks hold nothing in either layout. */
function* freePlaces({ geometry, used }: OldSlots, next: Geometry, shift: number): Generator<SlotNumber> {
  const taken = new Set<number>(used.map(({ number }) => number))
  for (let number = 0; number < next.slots; number++) {
    const offset = next.dataOffset + number * next.blockSize
    const isInOldTable = offset + next.blockSize > geometry.slotTableOffsets[1] && offset < endOf(geometry)
    const isUsed = number + shift < geometry.slots && taken.has(number + shift)
    if (!isInOldTable && !isUsed) yield slotNumber(number)
  }
}
