/** Walks through a request part by part: each lies side by side in one place, and nothing of it is lost. Makes no objects. */
import { mainBlock, type SlotNumber } from '../util/units.js'
import type { RemapTable } from './table.js'

/** @param slot of the first block of the part, which the slots of the others follow; `undefined`: it lies on main. @returns whether to go on */
export type VisitPart = (slot: SlotNumber | undefined, offset: number, length: number) => boolean

/** @returns false when `visit` did, or something is lost: the parts before that have been visited */
export function everyPart(
  table: RemapTable,
  blockSize: number,
  offset: number,
  length: number,
  visit: VisitPart,
): boolean {
  const end = offset + length
  const endBlock = Math.ceil(end / blockSize)
  for (let at = offset; at < end;) {
    const block = mainBlock(Math.floor(at / blockSize))
    const slot = table.lookup(block)
    const left = endBlock - block
    const blocks = slot === undefined ? table.unmappedLength(block, left) : table.plainLength(block, slot, left)
    const next = Math.min((block + blocks) * blockSize, end)
    if (blocks === 0 || !visit(slot, at, next - at)) return false
    at = next
  }
  return true
}
