/**
 * `ByteReader`: the bytes of a stream, taken in pieces of any length from a list of the chunks that arrived. Nothing is
 * ever concatenated to make room: a piece inside one chunk is a view of it.
 *
 * Pieces stay valid for as long as their holder wants: pushed chunks are never written to. A sender of tiny chunks does
 * not get a list entry for each: they are gathered, so that memory stays proportional to the bytes held.
 */

import { assert } from '../util/assert.js'
import { KiB } from '../util/units.js'

/** Chunks below this are gathered, once more than `DIRECT_CHUNKS` wait. */
const SMALL_CHUNK = KiB
const DIRECT_CHUNKS = 8
const GATHER_SIZE = 16 * KiB

export class ByteReader {
  readonly #chunks: Buffer[] = []
  /** Bytes of the first chunk that are already consumed. */
  #start = 0
  #available = 0
  /** The last chunk is its beginning, and may still grow into its rest. */
  #gather: Buffer | undefined
  #gathered = 0

  /** Bytes that can be consumed. */
  get available(): number {
    return this.#available
  }

  /** List entries in use: what tests look at to see that memory is bounded. */
  get chunkCount(): number {
    return this.#chunks.length
  }

  /** The chunk belongs to the reader from now on. */
  push(chunk: Buffer): void {
    if (chunk.length === 0) return
    this.#available += chunk.length
    if (chunk.length < SMALL_CHUNK && this.#chunks.length >= DIRECT_CHUNKS) {
      this.#gatherSmall(chunk)
    } else {
      this.#gather = undefined
      this.#chunks.push(chunk)
    }
  }

  /** The next `length` bytes: a view when they lie in one chunk, else a copy. They must be available. */
  consume(length: number): Buffer {
    const first = this.#first(length)
    if (first !== undefined && first.length - this.#start >= length) return this.#takeFromFirst(first, length)
    const pieces = this.consumeChunks(length)
    return Buffer.concat(pieces, length)
  }

  /** The next `length` bytes as they arrived, without a copy. They must be available. */
  consumeChunks(length: number): Buffer[] {
    const pieces: Buffer[] = []
    let rest = length
    for (let first = this.#first(rest); first !== undefined && rest > 0; first = this.#first(rest)) {
      const piece = this.#takeFromFirst(first, Math.min(rest, first.length - this.#start))
      pieces.push(piece)
      rest -= piece.length
    }
    return pieces
  }

  /** The number in the next four bytes, which stay. They must be available. */
  peekUInt32(): number {
    const first = this.#first(4)
    if (first !== undefined && first.length - this.#start >= 4) return first.readUInt32BE(this.#start)
    let [number, start, missing] = [0, this.#start, 4]
    for (const chunk of this.#chunks) {
      const part = chunk.subarray(start, start + missing)
      for (const byte of part) number = number * 256 + byte
      missing -= part.length
      start = 0
    }
    return number
  }

  /** Drops the next `length` bytes, which must be available. */
  skip(length: number): void {
    let rest = length
    for (let first = this.#first(rest); first !== undefined && rest > 0; first = this.#first(rest)) {
      const taken = Math.min(rest, first.length - this.#start)
      this.#advance(first, taken)
      rest -= taken
    }
  }

  #first(length: number): Buffer | undefined {
    assert(length <= this.#available, 'more bytes consumed than there are')
    return this.#chunks[0]
  }

  #takeFromFirst(first: Buffer, length: number): Buffer {
    const whole = this.#start === 0 && length === first.length
    const piece = whole ? first : first.subarray(this.#start, this.#start + length)
    this.#advance(first, length)
    return piece
  }

  #advance(first: Buffer, length: number): void {
    this.#available -= length
    this.#start += length
    if (this.#start < first.length) return
    this.#chunks.shift()
    this.#start = 0
    // The gather buffer is the last chunk, so it was this one exactly when the list is empty now.
    if (this.#chunks.length === 0) this.#gather = undefined
  }

  #gatherSmall(chunk: Buffer): void {
    if (this.#gather === undefined || this.#gathered + chunk.length > GATHER_SIZE) {
      this.#gather = Buffer.allocUnsafeSlow(GATHER_SIZE)
      this.#gathered = 0
    } else {
      this.#chunks.pop()
    }
    chunk.copy(this.#gather, this.#gathered)
    this.#gathered += chunk.length
    this.#chunks.push(this.#gather.subarray(0, this.#gathered))
  }
}
