/**
 * A disk whose changes are marked at the replica before they begin, so that nothing older is ever taken from there, and again
 * when they end, for the replica may have been declared identical meanwhile.
 */
import { chunksLength } from '../util/chunks.js'
import type { AllocationExtent, BlockSizes, Completion, Device, WriteOptions, ZeroOptions } from '../device/device.js'
import type { Replica } from './replica.js'

export class TrackedDevice implements Device {
  readonly #below: Device
  readonly #replica: Replica

  constructor(below: Device, replica: Replica) {
    this.#below = below
    this.#replica = replica
  }

  get name(): string {
    return this.#below.name
  }

  get size(): number {
    return this.#below.size
  }

  get readOnly(): boolean {
    return this.#below.readOnly
  }

  get blockSizes(): BlockSizes {
    return this.#below.blockSizes
  }

  read(offset: number, into: Buffer): Completion {
    return this.#below.read(offset, into)
  }

  write(offset: number, chunks: readonly Buffer[], options?: WriteOptions): Completion {
    return this.#changed(offset, chunksLength(chunks), () => this.#below.write(offset, chunks, options))
  }

  readNow(offset: number, into: Buffer, start: number, length: number): boolean {
    return this.#below.readNow?.(offset, into, start, length) ?? false
  }

  writeNow(offset: number, from: Buffer, start: number, length: number): boolean {
    this.#replica.mark(offset, length)
    return this.#below.writeNow?.(offset, from, start, length) ?? false
  }

  flush(): Completion {
    return this.#below.flush()
  }

  trim(offset: number, length: number, options?: WriteOptions): Completion {
    return this.#changed(offset, length, () => this.#below.trim(offset, length, options))
  }

  writeZeroes(offset: number, length: number, options?: ZeroOptions): Completion {
    return this.#changed(offset, length, () => this.#below.writeZeroes(offset, length, options))
  }

  async extents(offset: number, length: number, countMax: number): Promise<readonly AllocationExtent[]> {
    return (await this.#below.extents?.(offset, length, countMax)) ?? [{ length, allocation: 'data' }]
  }

  close(): Promise<void> {
    return this.#below.close()
  }

  #changed(offset: number, length: number, change: () => Completion): Completion {
    this.#replica.mark(offset, length)
    return change()?.finally(() => {
      this.#replica.mark(offset, length)
    })
  }
}
