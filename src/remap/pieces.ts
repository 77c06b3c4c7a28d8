/** Cuts a request into pieces that each lie in one place: on the main disk, or in a run of neighbouring spare blocks. */
import type { SlotNumber } from '../util/units.js'
import { mainBlock, slotNumber, type MainBlock } from '../util/units.js'

export interface MainPiece {
  readonly place: 'main'
  readonly offset: number
  readonly length: number
}

export interface SparePiece {
  readonly place: 'spare'
  /** On the main disk, as the client sees it. */
  readonly offset: number
  readonly length: number
  /** The slot of the first block; the following blocks of the piece lie in the following slots. */
  readonly slot: SlotNumber
  /** Where in that first block the piece begins. */
  readonly offsetInBlock: number
  /** Some sector of the block was lost. Such a piece never spans more than one block. */
  readonly hasLost: boolean
}

export type Piece = MainPiece | SparePiece

export interface Placements {
  readonly blockSize: number
  lookup(block: MainBlock): SlotNumber | undefined
  hasLost(slot: SlotNumber): boolean
  /** The first block, from `block` on, that may be remapped; beyond the disk when there is none. */
  skipUnmapped(block: MainBlock): number
}

export function splitByPlace(offset: number, length: number, placements: Placements): Piece[] {
  const pieces: Piece[] = []
  for (const piece of placesIn(offset, length, placements)) append(pieces, piece, placements.blockSize)
  return pieces
}

/** The same, step by step and not joined: a block, or a stretch without remaps, at a time. */
export function* placesIn(offset: number, length: number, placements: Placements): Generator<Piece> {
  const { blockSize } = placements
  for (let at = offset, end = offset + length; at < end;) {
    const block = Math.floor(at / blockSize)
    const next = Math.min(Math.max(block + 1, placements.skipUnmapped(mainBlock(block))) * blockSize, end)
    yield pieceOf(at, next - at, mainBlock(block), placements)
    at = next
  }
}

function pieceOf(offset: number, length: number, block: MainBlock, placements: Placements): Piece {
  const slot = placements.lookup(block)
  if (slot === undefined) return { place: 'main', offset, length }
  const offsetInBlock = offset - block * placements.blockSize
  return { place: 'spare', offset, length, slot, offsetInBlock, hasLost: placements.hasLost(slot) }
}

/** Adds `piece`, joined to the last one where both lie side by side. */
function append(pieces: Piece[], piece: Piece, blockSize: number): void {
  const last = pieces.at(-1)
  if (last && areNeighbours(last, piece, blockSize)) {
    pieces[pieces.length - 1] = { ...last, length: last.length + piece.length }
  } else {
    pieces.push(piece)
  }
}

function areNeighbours(a: Piece, b: Piece, blockSize: number): boolean {
  if (a.place === 'main' || b.place === 'main') return a.place === b.place
  if (a.hasLost || b.hasLost) return false
  const blocks = Math.ceil((a.offsetInBlock + a.length) / blockSize)
  return b.slot === slotNumber(a.slot + blocks)
}

export interface Split {
  readonly offset: number
  readonly length: number
}

/** The two halves of a request, cut at the block boundary nearest its middle; `undefined`: it lies in one block. */
export function halve(offset: number, length: number, blockSize: number): [Split, Split] | undefined {
  const first = Math.floor(offset / blockSize)
  const last = Math.floor((offset + length - 1) / blockSize)
  if (first === last) return undefined
  const cut = Math.floor((first + last + 1) / 2) * blockSize
  return [
    { offset, length: cut - offset },
    { offset: cut, length: offset + length - cut },
  ]
}
