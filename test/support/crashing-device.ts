/**
 * A disk with a volatile write cache, for power cuts. Writes are readable at once and durable after a flush; `crash`
 * says what the platters hold afterwards: of everything not flushed, any subset of sectors, in any order.
 * `stopAfter` cuts the power in the middle of an operation: from then on no request is ever answered.
 */
import { assertInside } from '../../src/device/bounds.js'
import type { BlockSizes, Device, WriteOptions, ZeroOptions } from '../../src/device/device.js'
import { chunksLength } from '../../src/util/chunks.js'
import type { Random } from '../../src/util/random.js'
import { SECTOR_SIZE } from '../../src/util/units.js'

export class CrashingDevice implements Device {
  readonly name: string
  readonly readOnly = false
  readonly blockSizes: BlockSizes = { minimum: 1, preferred: 4096, maximum: 64 * 1024 * 1024 }
  /** What a read sees. */
  readonly bytes: Buffer
  /** What a sector held when it was last flushed, and every content it was given since: any of them may survive. */
  readonly #volatile = new Map<number, Buffer[]>()
  #writesLeft = Infinity
  #stopped: () => void = () => undefined
  /** Resolves when the power is cut. */
  readonly stopped: Promise<void>
  /** Writes and flushes that were carried out. */
  operations = 0

  constructor(content: Buffer | number, name = 'crashing') {
    this.name = name
    this.bytes = typeof content === 'number' ? Buffer.alloc(content) : content
    this.stopped = new Promise((resolve) => {
      this.#stopped = resolve
    })
  }

  get size(): number {
    return this.bytes.length
  }

  /** Cuts the power after `count` more writes and flushes. The one that follows them is carried out in part. */
  stopAfter(count: number): void {
    this.#writesLeft = count
  }

  /** What is on the disk after a power cut now: every sector that was not flushed is as it was at some point since. */
  crash(random: Random): Buffer {
    const image = Buffer.from(this.bytes)
    for (const [sector, versions] of this.#volatile) random.pick(versions).copy(image, sector * SECTOR_SIZE)
    return image
  }

  async read(offset: number, into: Buffer): Promise<void> {
    assertInside(this, offset, into.length)
    await this.#powered()
    this.bytes.copy(into, 0, offset, offset + into.length)
  }

  async write(offset: number, chunks: readonly Buffer[], options?: WriteOptions): Promise<void> {
    assertInside(this, offset, chunksLength(chunks))
    const content = Buffer.concat(chunks)
    await this.#step(() => {
      this.#change(offset, content)
    })
    if (options?.fua) await this.flush()
  }

  async flush(): Promise<void> {
    await this.#powered()
    const isLast = this.#writesLeft <= 0
    this.#writesLeft--
    if (!isLast) {
      this.#volatile.clear()
      this.operations++
      return
    }
    this.#cutPower()
    await this.#powered()
  }

  trim(offset: number, length: number, options?: WriteOptions): Promise<void> {
    return this.write(offset, [Buffer.alloc(length)], options)
  }

  writeZeroes(offset: number, length: number, options?: ZeroOptions): Promise<void> {
    return this.write(offset, [Buffer.alloc(length)], options)
  }

  close(): Promise<void> {
    return Promise.resolve()
  }

  async #step(change: () => void): Promise<void> {
    await this.#powered()
    change()
    this.operations++
    if (this.#writesLeft-- > 0) return
    this.#cutPower()
    await this.#powered()
  }

  #cutPower(): void {
    this.#writesLeft = -Infinity
    this.#stopped()
  }

  /** Without power no request is ever answered. */
  #powered(): Promise<void> {
    return this.#writesLeft === -Infinity ? new Promise(() => undefined) : Promise.resolve()
  }

  #change(offset: number, content: Buffer): void {
    const first = Math.floor(offset / SECTOR_SIZE)
    const last = Math.floor((offset + content.length - 1) / SECTOR_SIZE)
    for (let sector = first; sector <= last; sector++) {
      if (!this.#volatile.has(sector)) this.#volatile.set(sector, [this.#sector(sector)])
    }
    content.copy(this.bytes, offset)
    for (let sector = first; sector <= last; sector++) this.#volatile.get(sector)?.push(this.#sector(sector))
  }

  #sector(sector: number): Buffer {
    return Buffer.from(this.bytes.subarray(sector * SECTOR_SIZE, (sector + 1) * SECTOR_SIZE))
  }
}
