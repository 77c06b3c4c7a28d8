/** A disk in memory, for tests and as the bottom of simulated disks. Every write is "durable" at once. */
import { chunksLength, copyChunks } from '../util/chunks.js'
import { assertInside } from './bounds.js'
import type { BlockSizes, Completion, Device } from './device.js'

export class MemoryDevice implements Device {
  readonly name: string
  readonly readOnly = false
  readonly blockSizes: BlockSizes = { minimum: 1, preferred: 4096, maximum: 64 * 1024 * 1024 }
  /** The raw content, open to tests. */
  readonly bytes: Buffer

  constructor(size: number, name = 'memory') {
    this.name = name
    this.bytes = Buffer.alloc(size)
  }

  get size(): number {
    return this.bytes.length
  }

  read(offset: number, into: Buffer): Completion {
    assertInside(this, offset, into.length)
    this.bytes.copy(into, 0, offset, offset + into.length)
    return undefined
  }

  write(offset: number, chunks: readonly Buffer[]): Completion {
    assertInside(this, offset, chunksLength(chunks))
    copyChunks(chunks, this.bytes, offset)
    return undefined
  }

  readNow(offset: number, into: Buffer, start: number, length: number): boolean {
    assertInside(this, offset, length)
    this.bytes.copy(into, start, offset, offset + length)
    return true
  }

  writeNow(offset: number, from: Buffer, start: number, length: number): boolean {
    assertInside(this, offset, length)
    from.copy(this.bytes, offset, start, start + length)
    return true
  }

  flush(): Completion {
    return undefined
  }

  trim(offset: number, length: number): Completion {
    return this.writeZeroes(offset, length)
  }

  writeZeroes(offset: number, length: number): Completion {
    assertInside(this, offset, length)
    this.bytes.fill(0, offset, offset + length)
    return undefined
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}
