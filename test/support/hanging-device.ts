/** A disk in memory that answers some requests only when it is let go, and may then have been cut off in the middle of them. */
import type { BlockSizes, Device, DeviceOperation } from '../../src/device/device.js'
import { chunksLength, copyChunks } from '../../src/util/chunks.js'
import type { Random } from '../../src/util/random.js'
import { MiB, SECTOR_SIZE } from '../../src/util/units.js'

export interface HangingRequest {
  readonly operation: DeviceOperation
  readonly offset: number
  readonly length: number
}

interface Held extends HangingRequest {
  readonly data?: Buffer
  readonly go: () => void
}

export class HangingDevice implements Device {
  readonly name: string
  readonly size: number
  readonly bytes: Buffer
  readonly readOnly = false
  readonly blockSizes: BlockSizes = { minimum: 1, preferred: 4096, maximum: 64 * MiB }
  /** What has reached the disk, in order. */
  readonly done: HangingRequest[] = []
  /** Decides which requests are not answered. */
  hangs: (request: HangingRequest) => boolean = () => false
  #held: Held[] = []

  constructor(size: number, name: string, bytes: Buffer = Buffer.alloc(size)) {
    this.size = size
    this.name = name
    this.bytes = bytes
  }

  get held(): readonly HangingRequest[] {
    return this.#held
  }

  async read(offset: number, into: Buffer): Promise<void> {
    await this.#answered({ operation: 'read', offset, length: into.length })
    this.bytes.copy(into, 0, offset, offset + into.length)
  }

  async write(offset: number, chunks: readonly Buffer[]): Promise<void> {
    const data = Buffer.alloc(chunksLength(chunks))
    copyChunks(chunks, data, 0)
    await this.#answered({ operation: 'write', offset, length: data.length }, data)
    data.copy(this.bytes, offset)
  }

  flush(): Promise<void> {
    return this.#answered({ operation: 'flush', offset: 0, length: 0 })
  }

  trim(offset: number, length: number): Promise<void> {
    return this.#answered({ operation: 'trim', offset, length })
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    await this.#answered({ operation: 'write-zeroes', offset, length }, Buffer.alloc(length))
    this.bytes.fill(0, offset, offset + length)
  }

  close(): Promise<void> {
    return Promise.resolve()
  }

  /** Answers those that hang and that `chosen` says, in any order. */
  answer(random: Random, chosen: (request: HangingRequest) => boolean = () => true): void {
    const going = this.#held.filter(chosen)
    this.#held = this.#held.filter((held) => !going.includes(held))
    for (const { go } of random.sample(going.length, going.length).map((n) => going[n]!)) go()
  }

  /** What the disk holds if the power is cut now: of the writes that hang any first sectors have arrived. */
  cut(random: Random): Buffer {
    const bytes = Buffer.from(this.bytes)
    for (const { offset, data } of this.#held) {
      if (data === undefined) continue
      const sectors = Math.ceil(data.length / SECTOR_SIZE)
      data.copy(bytes, offset, 0, random.pick([0, sectors, random.below(sectors + 1)]) * SECTOR_SIZE)
    }
    return bytes
  }

  async #answered(request: HangingRequest, data?: Buffer): Promise<void> {
    if (this.hangs(request)) {
      await new Promise<void>((go) => this.#held.push({ ...request, ...(data && { data }), go }))
    }
    this.done.push(request)
  }
}
