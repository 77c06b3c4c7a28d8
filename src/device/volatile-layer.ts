/**
 * `VolatileLayer`: the cache of a disk that acknowledges what it has not written. Sectors are held in memory, over the disk
 * below, until they are written back, or dropped: in a power cut, and when the process is killed. Bounded: the sectors that
 * came first are written back when it is full, as in a real drive.
 */
import { chunksLength, copyChunks } from '../util/chunks.js'
import { alignDown, alignUp, MiB, SECTOR_SIZE } from '../util/units.js'
import type { Device } from './device.js'

export const VOLATILE_BYTES_MAX = 64 * MiB
/** Written back at once when it is full. */
const BATCH_SECTORS = 2048

export class VolatileLayer {
  readonly #below: Device
  /** By sector number, in the order in which they came. */
  readonly #sectors = new Map<number, Buffer>()
  /** One write-back after the other: an older content of a sector must not land after a newer one. */
  #order: Promise<void> = Promise.resolve()

  constructor(below: Device) {
    this.#below = below
  }

  get isEmpty(): boolean {
    return this.#sectors.size === 0
  }

  /** Bytes held. */
  get size(): number {
    return this.#sectors.size * SECTOR_SIZE
  }

  /**
   * Takes the sectors that `isHeld` names out of a write, and writes the others below.
   * @throws DeviceError of the disk below
   */
  async write(offset: number, chunks: readonly Buffer[], isHeld: (sector: number) => boolean): Promise<void> {
    const length = chunksLength(chunks)
    const start = alignDown(offset, SECTOR_SIZE)
    const end = Math.min(alignUp(offset + length, SECTOR_SIZE), this.#below.size)
    const content = Buffer.allocUnsafe(end - start)
    if (start < offset || offset + length < end) await this.read(start, content)
    copyChunks(chunks, content, offset - start)
    const kept: number[] = []
    for (let at = start; at < end; at += SECTOR_SIZE) {
      const sector = at / SECTOR_SIZE
      const piece = content.subarray(at - start, Math.min(at + SECTOR_SIZE, end) - start)
      this.#sectors.delete(sector)
      this.#sectors.set(sector, Buffer.from(piece))
      if (!isHeld(sector)) kept.push(sector)
    }
    if (kept.length > 0) await this.#writeBackOf(kept)
    while (this.size > VOLATILE_BYTES_MAX) await this.#writeBackOf([...this.#sectors.keys()].slice(0, BATCH_SECTORS))
  }

  /** What the disk says it holds. @throws DeviceError */
  async read(offset: number, into: Buffer): Promise<void> {
    await this.#below.read(offset, into)
    this.overlay(offset, into)
  }

  /** Puts what is held over what the disk below has brought. */
  overlay(offset: number, into: Buffer): void {
    if (this.isEmpty) return
    for (const sector of this.#within(offset, into.length)) {
      const held = this.#sectors.get(sector)
      const at = sector * SECTOR_SIZE - offset
      held?.copy(into, Math.max(0, at), Math.max(0, -at))
    }
  }

  overlaps(offset: number, length: number): boolean {
    return !this.isEmpty && this.#within(offset, length).length > 0
  }

  /** These bytes are on the disk below afterwards, or all. @throws DeviceError */
  writeBack(offset = 0, length = this.#below.size): Promise<void> {
    return this.#writeBackOf(this.#within(offset, length))
  }

  /** The power is cut. @returns how many bytes are lost */
  drop(): number {
    const { size } = this
    this.#sectors.clear()
    return size
  }

  #writeBackOf(sectors: readonly number[]): Promise<void> {
    const done = this.#order.then(async () => {
      for (const run of runsOf(sectors)) await this.#writeRun(run)
    })
    this.#order = done.catch(() => undefined)
    return done
  }

  async #writeRun(run: readonly number[]): Promise<void> {
    const held = run.flatMap((sector) => this.#sectors.get(sector) ?? [])
    if (held.length < run.length) {
      // Some were written back, or dropped, meanwhile.
      for (const sector of run) if (this.#sectors.has(sector) && run.length > 1) await this.#writeRun([sector])
      return
    }
    await this.#below.write((run[0] ?? 0) * SECTOR_SIZE, held)
    for (const [n, sector] of run.entries()) if (this.#sectors.get(sector) === held[n]) this.#sectors.delete(sector)
  }

  /** Whichever way is shorter. */
  #within(offset: number, length: number): number[] {
    const first = Math.floor(offset / SECTOR_SIZE)
    const end = Math.ceil((offset + length) / SECTOR_SIZE)
    if (end - first > this.#sectors.size)
      return [...this.#sectors.keys()].filter((sector) => sector >= first && sector < end)
    return Array.from({ length: end - first }, (_, n) => first + n).filter((sector) => this.#sectors.has(sector))
  }
}

/** Neighbours together, in ascending order. */
function runsOf(sectors: readonly number[]): number[][] {
  const runs: number[][] = []
  for (const sector of [...sectors].sort((a, b) => a - b)) {
    const last = runs.at(-1)
    const previous = last?.at(-1)
    if (last && previous === sector - 1) last.push(sector)
    else runs.push([sector])
  }
  return runs
}
