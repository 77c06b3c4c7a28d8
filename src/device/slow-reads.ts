/** A disk whose late reads are noticed. It changes nothing else, and costs a read that is done at once nothing. */
import type { AllocationExtent, BlockSizes, Completion, Device, WriteOptions, ZeroOptions } from './device.js'
import type { Pipe } from '../util/pipe.js'

export class SlowReads implements Device {
  /** Called for every read that succeeded, and took longer than allowed. */
  onSlow: (offset: number, length: number) => void = () => undefined
  readonly #below: Device
  /** What takes longer is slow. */
  slowMs: number

  constructor(below: Device, slowMs: number) {
    this.#below = below
    this.slowMs = slowMs
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
    const pending = this.#below.read(offset, into)
    if (pending === undefined) return undefined
    const startMs = performance.now()
    return pending.then(() => {
      if (performance.now() - startMs > this.slowMs) this.onSlow(offset, into.length)
    })
  }

  write(offset: number, chunks: readonly Buffer[], options?: WriteOptions): Completion {
    return this.#below.write(offset, chunks, options)
  }

  readNow(offset: number, into: Buffer, start: number, length: number): boolean {
    return this.#below.readNow?.(offset, into, start, length) ?? false
  }

  writeNow(offset: number, from: Buffer, start: number, length: number): boolean {
    return this.#below.writeNow?.(offset, from, start, length) ?? false
  }

  readToPipe(offset: number, length: number, pipe: Pipe): boolean {
    return this.#below.readToPipe?.(offset, length, pipe) ?? false
  }

  writeFromPipe(offset: number, length: number, pipe: Pipe): number {
    return this.#below.writeFromPipe?.(offset, length, pipe) ?? 0
  }

  flush(): Completion {
    return this.#below.flush()
  }

  trim(offset: number, length: number, options?: WriteOptions): Completion {
    return this.#below.trim(offset, length, options)
  }

  writeZeroes(offset: number, length: number, options?: ZeroOptions): Completion {
    return this.#below.writeZeroes(offset, length, options)
  }

  async extents(offset: number, length: number, countMax: number): Promise<readonly AllocationExtent[]> {
    return (await this.#below.extents?.(offset, length, countMax)) ?? [{ length, allocation: 'data' }]
  }

  close(): Promise<void> {
    return this.#below.close()
  }
}
