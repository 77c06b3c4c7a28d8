/** Writes down what reaches the disk, in order: `write spare OFFSET+LENGTH`, `flush spare`. Reads are not recorded. */
import type { Completion, Device, WriteOptions, ZeroOptions } from '../../src/device/device.js'
import { chunksLength } from '../../src/util/chunks.js'

export class RecordingDevice implements Device {
  readonly name: string
  readonly #below: Device
  readonly #label: (offset: number, length: number) => string
  readonly log: string[]

  /** @param label what to call a write; by default its offset and length */
  constructor(
    below: Device,
    label = (offset: number, length: number): string => `${offset}+${length}`,
    log: string[] = [],
  ) {
    this.name = below.name
    this.#below = below
    this.#label = label
    this.log = log
  }

  get size() {
    return this.#below.size
  }

  get readOnly() {
    return this.#below.readOnly
  }

  get blockSizes() {
    return this.#below.blockSizes
  }

  read(offset: number, into: Buffer): Completion {
    return this.#below.read(offset, into)
  }

  /** Recorded when it is done, so that a flush before its end stands before it. */
  async write(offset: number, chunks: readonly Buffer[], options?: WriteOptions): Promise<void> {
    await this.#below.write(offset, chunks, options)
    this.log.push(`write ${this.#label(offset, chunksLength(chunks))}`)
  }

  async flush(): Promise<void> {
    this.log.push('flush')
    await this.#below.flush()
  }

  trim(offset: number, length: number, options?: WriteOptions): Completion {
    return this.#below.trim(offset, length, options)
  }

  writeZeroes(offset: number, length: number, options?: ZeroOptions): Completion {
    return this.#below.writeZeroes(offset, length, options)
  }

  close(): Promise<void> {
    return this.#below.close()
  }
}
