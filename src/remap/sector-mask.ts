/** Lost masks: bit i of a bigint stands for sector i of a block. */
import { SECTOR_SIZE } from '../util/units.js'

const range = (from: number, to: number): bigint => (to <= from ? 0n : ((1n << BigInt(to - from)) - 1n) << BigInt(from))

/** The sectors that [offset, offset + length) within a block touches, even by one byte. */
export const sectorsTouched = (offset: number, length: number): bigint =>
  length === 0 ? 0n : range(Math.floor(offset / SECTOR_SIZE), Math.ceil((offset + length) / SECTOR_SIZE))

/**
 * The sectors that [offset, offset + length) covers whole. The last sector of a disk whose size is no multiple of 512
 * is shorter: `blockLength` says where the block ends.
 */
export function sectorsCovered(offset: number, length: number, blockLength: number): bigint {
  const end = offset + length
  const to = end >= blockLength ? Math.ceil(blockLength / SECTOR_SIZE) : Math.floor(end / SECTOR_SIZE)
  return range(Math.ceil(offset / SECTOR_SIZE), to)
}

export function countSectors(mask: bigint): number {
  let count = 0
  for (let rest = mask; rest !== 0n; rest &= rest - 1n) count++
  return count
}

/** The numbers of the sectors in `mask`, ascending. */
export function* sectorsIn(mask: bigint): Generator<number> {
  for (let sector = 0, rest = mask; rest !== 0n; sector++, rest >>= 1n) if (rest & 1n) yield sector
}
