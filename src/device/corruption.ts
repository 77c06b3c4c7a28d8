/** Data as a lying disk has it: sectors with other bits, with zeros, with garbage. Pure: the same draws, the same damage. */
import type { Random } from '../util/random.js'
import { SECTOR_SIZE } from '../util/units.js'
import type { ByteRange } from '../faults/area.js'

export type InPlace = 'bit-flip' | 'zeros' | 'garbage'

/**
 * Damages what of `data` lies in `bad`, which is in bytes of the disk, as `offset` is.
 * @param bits to flip in each sector
 */
export function corruptInPlace(
  data: Buffer,
  offset: number,
  bad: readonly ByteRange[],
  kind: InPlace,
  bits: number,
  random: Random,
): void {
  for (const { start, end } of bad) {
    const part = data.subarray(start - offset, end - offset)
    if (kind === 'zeros') part.fill(0)
    else if (kind === 'garbage') random.bytes(part.length).copy(part)
    else flipBits(part, bits, random)
  }
}

function flipBits(part: Buffer, bits: number, random: Random): void {
  for (let at = 0; at < part.length; at += SECTOR_SIZE) {
    const length = Math.min(SECTOR_SIZE, part.length - at)
    for (const bit of random.sample(Math.min(bits, length * 8), length * 8)) {
      const byte = at + (bit >> 3)
      part[byte] = (part[byte] ?? 0) ^ (1 << (bit & 7))
    }
  }
}

/** Where a misdirected request of so many bytes ends up, in whole sectors away; `undefined`: the disk is too small. */
export function misdirect(offset: number, length: number, size: number, random: Random): number | undefined {
  const places = Math.floor((size - length - (offset % SECTOR_SIZE)) / SECTOR_SIZE)
  if (places < 1) return undefined
  const place = random.below(places) * SECTOR_SIZE + (offset % SECTOR_SIZE)
  return place >= offset ? place + SECTOR_SIZE : place
}
