/**
 * What a remapped disk may hold, sector by sector: the trivial model that the random test compares with. A sector has a
 * list of possible contents, because a failed write or a power cut leaves either the old or the new.
 */
import { SECTOR_SIZE } from '../../src/util/units.js'

/** `ANYTHING`: trimmed, so any content is right. */
export const ANYTHING = null
export type Content = Buffer | typeof ANYTHING

interface SectorState {
  /** What a read may return now. */
  candidates: Content[]
  /** What may be on the platters: everything since the last flush, and what was there then. */
  durable: Content[]
  /** A read error is right, for the sector could not be read when it was looked for. */
  mayBeLost: boolean
}

const isSame = (a: Content, b: Content): boolean => (a === ANYTHING || b === ANYTHING ? a === b : a.equals(b))

const union = (a: readonly Content[], b: readonly Content[]): Content[] => {
  const all = [...a]
  for (const content of b) if (!all.some((other) => isSame(other, content))) all.push(content)
  return all
}

export interface Overlap {
  readonly sector: number
  /** Within the sector. */
  readonly start: number
  readonly end: number
  /** Of `start` within the request. */
  readonly at: number
  readonly isWhole: boolean
}

export class DiskModel {
  readonly size: number
  readonly #sectors: SectorState[]

  constructor(content: Buffer) {
    this.size = content.length
    this.#sectors = Array.from({ length: Math.ceil(content.length / SECTOR_SIZE) }, (_, n) => {
      const sector = Buffer.from(content.subarray(n * SECTOR_SIZE, (n + 1) * SECTOR_SIZE))
      return { candidates: [sector], durable: [sector], mayBeLost: false }
    })
  }

  *overlaps(offset: number, length: number): Generator<Overlap> {
    for (let sector = Math.floor(offset / SECTOR_SIZE); sector * SECTOR_SIZE < offset + length; sector++) {
      const sectorStart = sector * SECTOR_SIZE
      const sectorLength = Math.min(SECTOR_SIZE, this.size - sectorStart)
      const start = Math.max(0, offset - sectorStart)
      const end = Math.min(sectorLength, offset + length - sectorStart)
      const isWhole = start === 0 && end === sectorLength
      yield { sector, start, end, at: sectorStart + start - offset, isWhole }
    }
  }

  mayBeLost(sector: number): boolean {
    return this.#at(sector).mayBeLost
  }

  markLost(sector: number): void {
    this.#at(sector).mayBeLost = true
  }

  /** Checks what a read returned. @returns what is wrong with it; `undefined`: nothing */
  wasRead(offset: number, data: Buffer): string | undefined {
    for (const { sector, start, end, at, isWhole } of this.overlaps(offset, data.length)) {
      const seen = data.subarray(at, at + end - start)
      const state = this.#at(sector)
      const possible = state.candidates.filter(
        (content) => content === ANYTHING || content.subarray(start, end).equals(seen),
      )
      if (possible.length === 0) return `sector ${sector} reads as something that was never written to it`
      // Once read it does not change any more.
      if (isWhole) state.candidates = [Buffer.from(seen)]
      else state.candidates = possible
    }
    return undefined
  }

  /** A write was acknowledged (`isSure`), or failed, or was cut off: then the old content may be there as well. */
  wasWritten(offset: number, data: Buffer, isSure: boolean): void {
    for (const { sector, start, end, at, isWhole } of this.overlaps(offset, data.length)) {
      const state = this.#at(sector)
      const fresh = state.candidates.map((content): Content => {
        if (isWhole) return Buffer.from(data.subarray(at, at + end - start))
        if (content === ANYTHING) return ANYTHING
        const merged = Buffer.from(content)
        data.copy(merged, start, at, at + end - start)
        return merged
      })
      this.#change(state, union([], fresh), isSure)
      if (isSure && isWhole) state.mayBeLost = false
    }
  }

  wasTrimmed(offset: number, length: number): void {
    for (const { sector } of this.overlaps(offset, length)) this.#change(this.#at(sector), [ANYTHING], false)
  }

  wasFlushed(): void {
    for (const state of this.#sectors) state.durable = state.candidates
  }

  /** The power was cut: everything that was not flushed may be there or not. */
  wasCut(): void {
    for (const state of this.#sectors) {
      state.durable = union(state.durable, state.candidates)
      state.candidates = state.durable
    }
  }

  #change(state: SectorState, fresh: readonly Content[], isSure: boolean): void {
    state.durable = union(state.durable, fresh)
    state.candidates = isSure ? [...fresh] : union(state.candidates, fresh)
  }

  #at(sector: number): SectorState {
    return this.#sectors[sector]!
  }
}
