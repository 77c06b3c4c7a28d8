/** A device whose lock is released when it is closed, and which can be kept from being written to. */
import type { Unlock } from './disk-lock.js'
import { DeviceError, type Completion, type Device, type WriteOptions, type ZeroOptions } from './device.js'
import { chunksLength } from '../util/chunks.js'
import type { Pipe } from '../util/pipe.js'

export class LockedDevice implements Device {
  readonly name: string
  readonly size: number
  readonly readOnly: boolean
  readonly blockSizes: Device['blockSizes']
  readonly #device: Device
  readonly #unlock: Unlock

  constructor(device: Device, readOnly: boolean, unlock: Unlock) {
    this.name = device.name
    this.size = device.size
    this.readOnly = readOnly || device.readOnly
    this.blockSizes = device.blockSizes
    this.#device = device
    this.#unlock = unlock
  }

  read(offset: number, into: Buffer): Completion {
    return this.#device.read(offset, into)
  }

  write(offset: number, chunks: readonly Buffer[], options?: WriteOptions): Completion {
    if (this.readOnly) return this.#refuse('write', offset, chunksLength(chunks))
    return this.#device.write(offset, chunks, options)
  }

  readNow(offset: number, into: Buffer, start: number, length: number): boolean {
    return this.#device.readNow?.(offset, into, start, length) ?? false
  }

  writeNow(offset: number, from: Buffer, start: number, length: number): boolean {
    return !this.readOnly && (this.#device.writeNow?.(offset, from, start, length) ?? false)
  }

  readToPipe(offset: number, length: number, pipe: Pipe): boolean {
    return this.#device.readToPipe?.(offset, length, pipe) ?? false
  }

  writeFromPipe(offset: number, length: number, pipe: Pipe): number {
    return this.readOnly ? 0 : (this.#device.writeFromPipe?.(offset, length, pipe) ?? 0)
  }

  flush(): Completion {
    return this.#device.flush()
  }

  trim(offset: number, length: number, options?: WriteOptions): Completion {
    if (this.readOnly) return this.#refuse('trim', offset, length)
    return this.#device.trim(offset, length, options)
  }

  writeZeroes(offset: number, length: number, options?: ZeroOptions): Completion {
    if (this.readOnly) return this.#refuse('write-zeroes', offset, length)
    return this.#device.writeZeroes(offset, length, options)
  }

  async close(): Promise<void> {
    try {
      await this.#device.close()
    } finally {
      await this.#unlock()
    }
  }

  #refuse(operation: 'write' | 'trim' | 'write-zeroes', offset: number, length: number): Promise<never> {
    return Promise.reject(new DeviceError('EPERM', this.name, operation, offset, length))
  }
}
