/** Disks that are another disk with one difference. */
import type { AllocationExtent, BlockSizes, Completion, Device, WriteOptions, ZeroOptions } from './device.js'
import type { Pipe } from '../util/pipe.js'

/** No difference: what a class that extends it does not change. */
export class PassThrough implements Device {
  protected readonly below: Device

  constructor(below: Device) {
    this.below = below
  }

  get size(): number {
    return this.below.size
  }

  get name(): string {
    return this.below.name
  }

  get readOnly(): boolean {
    return this.below.readOnly
  }

  get blockSizes(): BlockSizes {
    return this.below.blockSizes
  }

  read(offset: number, into: Buffer): Completion {
    return this.below.read(offset, into)
  }

  write(offset: number, chunks: readonly Buffer[], options?: WriteOptions): Completion {
    return this.below.write(offset, chunks, options)
  }

  readNow(offset: number, into: Buffer, start: number, length: number): boolean {
    return this.below.readNow?.(offset, into, start, length) ?? false
  }

  writeNow(offset: number, from: Buffer, start: number, length: number): boolean {
    return this.below.writeNow?.(offset, from, start, length) ?? false
  }

  readToPipe(offset: number, length: number, pipe: Pipe): boolean {
    return this.below.readToPipe?.(offset, length, pipe) ?? false
  }

  writeFromPipe(offset: number, length: number, pipe: Pipe): number {
    return this.below.writeFromPipe?.(offset, length, pipe) ?? 0
  }

  flush(): Completion {
    return this.below.flush()
  }

  trim(offset: number, length: number, options?: WriteOptions): Completion {
    return this.below.trim(offset, length, options)
  }

  writeZeroes(offset: number, length: number, options?: ZeroOptions): Completion {
    return this.below.writeZeroes(offset, length, options)
  }

  async extents(offset: number, length: number, countMax: number): Promise<readonly AllocationExtent[]> {
    return (await this.below.extents?.(offset, length, countMax)) ?? [{ length, allocation: 'data' }]
  }

  close(): Promise<void> {
    return this.below.close()
  }
}

/** The first bytes of a disk. */
export class FirstPart extends PassThrough {
  readonly #size: number

  /** @param size no more than the disk below has */
  constructor(below: Device, size: number) {
    super(below)
    this.#size = size
  }

  override get size(): number {
    return this.#size
  }
}
