/**
 * A disk with a volatile write cache, for power cuts. Writes are readable at once and durable after a flush; `crash`
 * says what the platters hold afterwards: of everything not flushed, any subset of sectors, in any order.
 * `stopAfter` cuts the power in the middle of an operation: from then on no request is ever answered.
 *
 * Answers come later, unless `isAtOnce` says that the next one is there when the call returns.
 */
import { assertInside } from '../../src/device/bounds.js'
import {
  after,
  type BlockSizes,
  type Completion,
  type Device,
  type WriteOptions,
  type ZeroOptions,
} from '../../src/device/device.js'
import { chunksLength } from '../../src/util/chunks.js'
import type { Random } from '../../src/util/random.js'
import { SECTOR_SIZE } from '../../src/util/units.js'

const never = (): Promise<void> => new Promise(() => undefined)

export class CrashingDevice implements Device {
  readonly name: string
  readonly readOnly = false
  readonly blockSizes: BlockSizes = { minimum: 1, preferred: 4096, maximum: 64 * 1024 * 1024 }
  /** What a read sees. */
  readonly bytes: Buffer
  /** What a sector held when it was last flushed, and every content it was given since: any of them may survive. */
  readonly #volatile = new Map<number, Buffer[]>()
  readonly #isAtOnce: () => boolean
  #writesLeft = Infinity
  #stopped: () => void = () => undefined
  /** Resolves when the power is cut. */
  readonly stopped: Promise<void>
  /** Writes and flushes that were carried out. */
  operations = 0

  constructor(content: Buffer | number, name = 'crashing', isAtOnce: () => boolean = () => false) {
    this.name = name
    this.#isAtOnce = isAtOnce
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

  read(offset: number, into: Buffer): Completion {
    assertInside(this, offset, into.length)
    return this.#answer(() => {
      this.bytes.copy(into, 0, offset, offset + into.length)
    })
  }

  write(offset: number, chunks: readonly Buffer[], options?: WriteOptions): Completion {
    assertInside(this, offset, chunksLength(chunks))
    const content = Buffer.concat(chunks)
    const written = this.#answer(() => {
      this.#change(offset, content)
      this.operations++
      this.#count()
    })
    return options?.fua ? after(written, () => this.flush()) : written
  }

  flush(): Completion {
    return this.#answer(() => {
      if (this.#writesLeft > 0) {
        this.#volatile.clear()
        this.operations++
      }
      this.#count()
    })
  }

  trim(offset: number, length: number, options?: WriteOptions): Completion {
    return this.write(offset, [Buffer.alloc(length)], options)
  }

  writeZeroes(offset: number, length: number, options?: ZeroOptions): Completion {
    return this.write(offset, [Buffer.alloc(length)], options)
  }

  close(): Promise<void> {
    return Promise.resolve()
  }

  /** Carries out `action`, now or later. Without power no request is ever answered, nor is the one that it fails in. */
  #answer(action: () => void): Completion {
    if (this.#isAtOnce()) {
      if (this.#hasPower) action()
      return this.#hasPower ? undefined : never()
    }
    return Promise.resolve().then(() => {
      if (this.#hasPower) action()
      return this.#hasPower ? undefined : never()
    })
  }

  get #hasPower(): boolean {
    return this.#writesLeft !== -Infinity
  }

  #count(): void {
    if (this.#writesLeft-- > 0) return
    this.#writesLeft = -Infinity
    this.#stopped()
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
