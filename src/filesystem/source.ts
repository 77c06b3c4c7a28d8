/**
 * What is looked at: a disk, or a part of it, some of which cannot be read. What is missing reads as zeros, and every answer says
 * whether it is whole, so that nothing is made up of zeros that never were there.
 */
import type { RangeSet } from '../util/range-set.js'
import { alignDown, MiB, SECTOR_SIZE } from '../util/units.js'

export interface Content {
  readonly data: Buffer
  /** Nothing of it is missing. */
  readonly isWhole: boolean
}

export interface Source {
  /** In bytes. */
  readonly size: number
  /** What lies beyond the end is missing. */
  read(offset: number, length: number): Promise<Content>
}

/** @returns undefined when some of it cannot be read @throws when reading on makes no sense */
export type ReadDisk = (offset: number, length: number) => Promise<Buffer | undefined>

const READ_MAX = 1 * MiB
/** More than this is a disk that is gone, and not one with bad sectors. */
export const UNREADABLE_SECTORS_MAX = 100_000

export class PatchyDisk implements Source {
  readonly size: number
  readonly #read: ReadDisk
  /** Sectors, by their number, that were to be read and could not. */
  readonly #unreadable = new Set<number>()
  readonly #missing: RangeSet

  /** @param missing bytes that are not to be read at all */
  constructor(size: number, missing: RangeSet, read: ReadDisk) {
    this.size = size
    this.#missing = missing
    this.#read = read
  }

  /** How many sectors were to be read and could not, besides those that were known to be missing. */
  get unreadableSectors(): number {
    return this.#unreadable.size
  }

  async read(offset: number, length: number): Promise<Content> {
    const data = Buffer.alloc(length)
    const end = Math.min(offset + length, this.size)
    let isWhole = end === offset + length && !this.#missing.overlaps(offset, offset + length)
    for (const { start, end: stop } of this.#missing.gapsWithin(offset, end))
      isWhole = (await this.#readRun(start, data.subarray(start - offset, stop - offset))) && isWhole
    return { data, isWhole }
  }

  async #readRun(offset: number, into: Buffer): Promise<boolean> {
    let isWhole = true
    for (let at = 0; at < into.length; at += READ_MAX)
      isWhole = (await this.#readPiece(offset + at, into.subarray(at, at + READ_MAX))) && isWhole
    return isWhole
  }

  /** Halves what cannot be read until the sectors stand alone. */
  async #readPiece(offset: number, into: Buffer): Promise<boolean> {
    const sector = Math.floor(offset / SECTOR_SIZE)
    const isOne = offset + into.length <= (sector + 1) * SECTOR_SIZE
    if (isOne && this.#unreadable.has(sector)) return false
    const data = await this.#read(offset, into.length)
    if (data) {
      data.copy(into)
      return true
    }
    if (isOne) {
      this.#missOne(sector)
      return false
    }
    const middle = Math.max((sector + 1) * SECTOR_SIZE, alignDown(offset + into.length / 2, SECTOR_SIZE)) - offset
    await this.#readPiece(offset, into.subarray(0, middle))
    await this.#readPiece(offset + middle, into.subarray(middle))
    return false
  }

  #missOne(sector: number): void {
    this.#unreadable.add(sector)
    if (this.#unreadable.size > UNREADABLE_SECTORS_MAX)
      throw new Error(`too much cannot be read: ${UNREADABLE_SECTORS_MAX} sectors, the last one is ${sector}`)
  }
}

/** A part as a source of its own. */
export const partOf = (source: Source, offset: number, size: number): Source => ({
  size,
  async read(at, length) {
    const inside = Math.max(0, Math.min(length, size - at))
    const content = await source.read(offset + at, inside)
    if (inside === length) return content
    return { data: Buffer.concat([content.data, Buffer.alloc(length - inside)]), isWhole: false }
  },
})
