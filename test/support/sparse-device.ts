/** A disk in memory of any size, of which only what was written takes memory. Flushes take no time. */
import { assertInside } from '../../src/device/bounds.js'
import type { BlockSizes, Completion, Device } from '../../src/device/device.js'
import { chunksLength } from '../../src/util/chunks.js'
import { MiB } from '../../src/util/units.js'

const PIECE = MiB

export class SparseDevice implements Device {
  readonly name: string
  readonly size: number
  readonly readOnly = false
  readonly blockSizes: BlockSizes = { minimum: 1, preferred: 4096, maximum: 64 * MiB }
  readonly #pieces = new Map<number, Buffer>()

  constructor(size: number, name = 'sparse') {
    this.size = size
    this.name = name
  }

  read(offset: number, into: Buffer): Completion {
    assertInside(this, offset, into.length)
    for (const { piece, start, end, at } of this.#parts(offset, into.length)) {
      const bytes = this.#pieces.get(piece)
      if (bytes) bytes.copy(into, at, start, end)
      else into.fill(0, at, at + end - start)
    }
    return undefined
  }

  write(offset: number, chunks: readonly Buffer[]): Completion {
    assertInside(this, offset, chunksLength(chunks))
    let position = offset
    for (const chunk of chunks) {
      for (const { piece, start, end, at } of this.#parts(position, chunk.length)) {
        let bytes = this.#pieces.get(piece)
        if (!bytes) this.#pieces.set(piece, (bytes = Buffer.alloc(PIECE)))
        chunk.copy(bytes, start, at, at + end - start)
      }
      position += chunk.length
    }
    return undefined
  }

  flush(): Completion {
    return undefined
  }

  trim(): Completion {
    return undefined
  }

  writeZeroes(offset: number, length: number): Completion {
    return this.write(offset, [Buffer.alloc(length)])
  }

  close(): Promise<void> {
    return Promise.resolve()
  }

  *#parts(offset: number, length: number): Generator<{ piece: number; start: number; end: number; at: number }> {
    for (let at = 0; at < length;) {
      const piece = Math.floor((offset + at) / PIECE)
      const start = offset + at - piece * PIECE
      const end = Math.min(PIECE, start + length - at)
      yield { piece, start, end, at }
      at += end - start
    }
  }
}
