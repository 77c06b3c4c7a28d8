/**
 * A disk with a volatile write cache, in memory, that writes down everything it is asked to write, and when that became
 * durable. What the platters may hold after a power cut at any moment is worked out afterwards (crash-states.ts), so one
 * run of a workload is enough for all of its power cuts.
 *
 * Requests take a random, repeatable number of turns. A flush covers what was acknowledged before it was asked for, a
 * write with FUA covers itself alone; of the rest nothing is promised.
 */
import { assertInside } from '../../src/device/bounds.js'
import type { BlockSizes, Device, WriteOptions } from '../../src/device/device.js'
import { chunksLength } from '../../src/util/chunks.js'
import type { Random } from '../../src/util/random.js'
import { SECTOR_SIZE } from '../../src/util/units.js'

/** Sector number -> content; what is missing is zeros. A content never changes once it is in an image. */
export type Image = Map<number, Buffer>
/** `second`: another spare, which may be in the pool, or blank, or gone from it. */
export const DISKS = ['main', 'spare', 'second'] as const
export type DiskName = (typeof DISKS)[number]
export const SPARES = ['spare', 'second'] as const
export type SpareName = (typeof SPARES)[number]
export type Images = Readonly<Record<DiskName, Image>>

export const ZERO_SECTOR = Buffer.alloc(SECTOR_SIZE)

export const forEachDisk = <T>(make: (disk: DiskName) => T): Readonly<Record<DiskName, T>> => ({
  main: make('main'),
  spare: make('spare'),
  second: make('second'),
})

export const copyImages = (images: Images): Images => forEachDisk((disk) => new Map(images[disk]))

export interface SimulatedWrite {
  readonly disk: DiskName
  readonly offset: number
  readonly length: number
  /** The whole new content of each sector that was touched. */
  readonly sectors: ReadonlyMap<number, Buffer>
}

export type JournalEvent =
  | { readonly kind: 'write'; readonly write: SimulatedWrite }
  | { readonly kind: 'durable'; readonly writes: readonly SimulatedWrite[] }

const never = new Promise<never>(() => undefined)

/** The one order of everything that all disks were asked. A time is the number of events before it. */
export class Journal {
  readonly events: JournalEvent[] = []
  #left = Infinity
  #stop: () => void = () => undefined

  get now(): number {
    return this.events.length
  }

  /** After `count` more events no request is answered any more: the server is dead. @returns when that is so */
  stopAfter(count: number): Promise<void> {
    this.#left = count
    return new Promise((resolve) => {
      this.#stop = resolve
    })
  }

  /** Another server starts. */
  resume(): void {
    this.#left = Infinity
  }

  get isStopped(): boolean {
    return this.#left <= 0
  }

  add(event: JournalEvent): void {
    this.events.push(event)
    if (--this.#left === 0) this.#stop()
  }
}

/** More requests than any open or request of these tiny disks can need: a loop that does not end. */
const REQUESTS_MAX = 200_000

export class SimulatedDisk implements Device {
  readonly name: DiskName
  readonly size: number
  readonly readOnly = false
  readonly blockSizes: BlockSizes = { minimum: 1, preferred: 4096, maximum: 64 * 1024 * 1024 }
  /** What a read sees. */
  readonly image: Image
  readonly #journal: Journal
  readonly #random: Random
  readonly #acknowledged = new Set<SimulatedWrite>()
  readonly #inFlight = new Set<SimulatedWrite>()
  #requests = 0
  /** Requests of a server that was killed are never answered, whoever is there now. */
  #isDead = false

  constructor(name: DiskName, size: number, image: Image, journal: Journal, random: Random) {
    this.name = name
    this.size = size
    this.image = image
    this.#journal = journal
    this.#random = random
  }

  /** The same disk for another server. The requests of the old one are carried out, and never answered. */
  reopened(): SimulatedDisk {
    this.#isDead = true
    const next = new SimulatedDisk(this.name, this.size, this.image, this.#journal, this.#random)
    for (const write of [...this.#acknowledged, ...this.#inFlight]) next.#acknowledged.add(write)
    return next
  }

  /** The same disk for one more server, while this one lives on. */
  shared(): SimulatedDisk {
    const next = this.reopened()
    this.#isDead = false
    return next
  }

  async read(offset: number, into: Buffer): Promise<void> {
    assertInside(this, offset, into.length)
    await this.#turns()
    readImage(this.image, offset, into)
  }

  async write(offset: number, chunks: readonly Buffer[], options?: WriteOptions): Promise<void> {
    const length = chunksLength(chunks)
    assertInside(this, offset, length)
    await this.#alive()
    const sectors = this.#change(offset, chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks))
    const write: SimulatedWrite = { disk: this.name, offset, length, sectors }
    this.#journal.add({ kind: 'write', write })
    this.#inFlight.add(write)
    await this.#turns()
    this.#inFlight.delete(write)
    if (options?.fua) this.#journal.add({ kind: 'durable', writes: [write] })
    else this.#acknowledged.add(write)
    await this.#alive()
  }

  async flush(): Promise<void> {
    await this.#alive()
    const writes = [...this.#acknowledged]
    await this.#turns()
    for (const write of writes) this.#acknowledged.delete(write)
    this.#journal.add({ kind: 'durable', writes })
    await this.#alive()
  }

  trim(offset: number, length: number, options?: WriteOptions): Promise<void> {
    return this.writeZeroes(offset, length, options)
  }

  writeZeroes(offset: number, length: number, options?: WriteOptions): Promise<void> {
    return this.write(offset, [Buffer.alloc(length)], options)
  }

  close(): Promise<void> {
    return Promise.resolve()
  }

  async #turns(): Promise<void> {
    if (++this.#requests > REQUESTS_MAX) throw new Error(`${this.name}: ${REQUESTS_MAX} requests and no end`)
    for (let turns = this.#random.below(3); turns >= 0; turns--) await this.#alive()
  }

  #alive(): Promise<void> | undefined {
    return this.#isDead || this.#journal.isStopped ? never : undefined
  }

  #change(offset: number, data: Buffer): Map<number, Buffer> {
    const sectors = new Map<number, Buffer>()
    const end = offset + data.length
    for (let at = offset; at < end;) {
      const number = Math.floor(at / SECTOR_SIZE)
      const next = Math.min((number + 1) * SECTOR_SIZE, end)
      const part = data.subarray(at - offset, next - offset)
      sectors.set(number, merge(this.image.get(number), at % SECTOR_SIZE, part))
      at = next
    }
    for (const [number, content] of sectors) setSector(this.image, number, content)
    return sectors
  }
}

function merge(old: Buffer | undefined, at: number, part: Buffer): Buffer {
  if (part.length === SECTOR_SIZE) return part.equals(ZERO_SECTOR) ? ZERO_SECTOR : Buffer.from(part)
  const sector = Buffer.from(old ?? ZERO_SECTOR)
  part.copy(sector, at)
  return sector
}

export function setSector(image: Image, number: number, content: Buffer): void {
  if (content === ZERO_SECTOR) image.delete(number)
  else image.set(number, content)
}

export function readImage(image: Image, offset: number, into: Buffer): void {
  const end = offset + into.length
  for (let at = offset; at < end;) {
    const number = Math.floor(at / SECTOR_SIZE)
    const next = Math.min((number + 1) * SECTOR_SIZE, end)
    const start = at - number * SECTOR_SIZE
    const sector = image.get(number)
    if (sector) sector.copy(into, at - offset, start, start + next - at)
    else into.fill(0, at - offset, next - offset)
    at = next
  }
}

/** `bytes` as an image. */
export function imageOf(bytes: Buffer): Image {
  const image: Image = new Map()
  for (let at = 0; at < bytes.length; at += SECTOR_SIZE) {
    const sector = bytes.subarray(at, at + SECTOR_SIZE)
    if (!sector.equals(ZERO_SECTOR.subarray(0, sector.length))) image.set(at / SECTOR_SIZE, Buffer.from(sector))
  }
  return image
}
