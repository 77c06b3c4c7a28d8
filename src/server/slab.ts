/**
 * `Slab`: buffers for replies, small ones carved one after the other out of a larger piece, which costs a fraction of
 * allocating each. A piece is never used twice: it goes when the last buffer of it does, so a single slow reply can keep
 * `SLAB_SIZE` bytes alive instead of its own. Large buffers come from a pool.
 */

import { KiB } from '../util/units.js'
import type { BufferPool } from './buffer-pool.js'

const SLAB_SIZE = 64 * KiB
const CARVED_MAX = 16 * KiB

export class Slab {
  readonly #pool: BufferPool
  #piece: Buffer | undefined
  #used = 0

  constructor(pool: BufferPool) {
    this.#pool = pool
  }

  /** `length` bytes of undefined content. What the pool has lent must be given back to it. */
  allocate(length: number): Buffer {
    if (length > CARVED_MAX) return this.#pool.allocate(length)
    if (this.#piece === undefined || this.#used + length > SLAB_SIZE) {
      this.#piece = Buffer.allocUnsafeSlow(SLAB_SIZE)
      this.#used = 0
    }
    const start = this.#used
    this.#used += length
    return this.#piece.subarray(start, this.#used)
  }
}
