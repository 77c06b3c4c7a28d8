/** A disk in memory that remembers what it was asked, and can be made to fail or to wait before it does anything. */

import type { BlockSizes, Device, DeviceOperation, WriteOptions, ZeroOptions } from '../../src/device/device.js'

export interface Call {
  readonly operation: DeviceOperation
  readonly offset: number
  readonly length: number
  readonly options?: ZeroOptions
}

export class MemoryDevice implements Device {
  readonly name = 'memory'
  readonly size: number
  readonly data: Buffer
  readonly calls: Call[] = []
  readOnly = false
  blockSizes: BlockSizes = { minimum: 1, preferred: 4096, maximum: 1024 * 1024 }
  /** Set by tests that know something. */
  extents?: NonNullable<Device['extents']>
  /** Called first in every operation: what it throws is the failure, what it awaits the delay. */
  before: ((call: Call) => Promise<void> | void) | undefined

  constructor(size: number) {
    this.size = size
    this.data = Buffer.alloc(size)
  }

  async read(offset: number, into: Buffer): Promise<void> {
    await this.#begin('read', offset, into.length)
    this.data.copy(into, 0, offset, offset + into.length)
  }

  async write(offset: number, chunks: readonly Buffer[], options?: WriteOptions): Promise<void> {
    const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
    await this.#begin('write', offset, length, options)
    let at = offset
    for (const chunk of chunks) at += chunk.copy(this.data, at)
  }

  async flush(): Promise<void> {
    await this.#begin('flush', 0, 0)
  }

  async trim(offset: number, length: number, options?: WriteOptions): Promise<void> {
    await this.#begin('trim', offset, length, options)
  }

  async writeZeroes(offset: number, length: number, options?: ZeroOptions): Promise<void> {
    await this.#begin('write-zeroes', offset, length, options)
    this.data.fill(0, offset, offset + length)
  }

  close(): Promise<void> {
    return Promise.resolve()
  }

  async #begin(operation: DeviceOperation, offset: number, length: number, options?: ZeroOptions): Promise<void> {
    if (offset < 0 || offset + length > this.size) throw new RangeError(`${operation} outside the device`)
    this.calls.push({ operation, offset, length, ...(options === undefined ? {} : { options }) })
    await this.before?.(this.calls.at(-1) ?? { operation, offset, length })
  }
}
