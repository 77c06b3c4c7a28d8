/**
 * Units as types. Offsets and lengths are plain numbers and always bytes; every other unit is branded, so that the
 * compiler refuses a sector number where a byte offset belongs.
 */

declare const unit: unique symbol
type Unit<Name extends string> = number & { readonly [unit]: Name }

/** A 512-byte sector number, the unit of dm, QMP's `sector` arguments and badblocks lists. */
export type Sector = Unit<'sector'>
/** Number of a remapper block on the main disk: its byte offset divided by the block size. */
export type MainBlock = Unit<'main block'>
/** Number of a spare data block and, at the same time, of the slot that describes it. */
export type SlotNumber = Unit<'slot'>

export const SECTOR_SIZE = 512
export const KiB = 1024
export const MiB = 1024 * KiB
export const GiB = 1024 * MiB

export const sector = (n: number): Sector => n as Sector
export const mainBlock = (n: number): MainBlock => n as MainBlock
export const slotNumber = (n: number): SlotNumber => n as SlotNumber

export const alignDown = (n: number, alignment: number): number => n - (n % alignment)
export const alignUp = (n: number, alignment: number): number => alignDown(n + alignment - 1, alignment)
export const isAligned = (n: number, alignment: number): boolean => n % alignment === 0
export const isPowerOfTwo = (n: number): boolean => Number.isInteger(n) && n > 0 && Math.log2(n) % 1 === 0

const BYTE_UNITS = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB']

/** `1536` -> `1.5 KiB`, for people. */
export function formatBytes(bytes: number): string {
  let value = bytes
  let name = 'bytes'
  for (const next of BYTE_UNITS) {
    if (value < 1024) break
    value /= 1024
    name = next
  }
  return `${Number(value.toFixed(1))} ${name}`
}
