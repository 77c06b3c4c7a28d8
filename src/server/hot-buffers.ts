/**
 * `HotBuffers`: the buffers through which the bytes of small requests go, one for what is received and one for what is
 * sent, the same ones for all connections: what they hold is done with before the event loop goes on, so they stay in the
 * processor's cache. Replies that the kernel does not take keep their buffer, and another takes its place. That for what is
 * received stays the same for ever: a socket is told where to read to long before it reads.
 */

import { KiB } from '../util/units.js'
import type { BufferPool } from './buffer-pool.js'

/** Bytes. A request of 256 KiB with its header, and a little more. */
export const HOT_SIZE = 272 * KiB

export class HotBuffers {
  readonly incoming: Buffer
  readonly #pool: BufferPool
  #outgoing: Buffer | undefined

  constructor(pool: BufferPool) {
    this.#pool = pool
    this.incoming = Buffer.allocUnsafeSlow(HOT_SIZE)
  }

  get outgoing(): Buffer {
    return (this.#outgoing ??= this.#pool.allocate(HOT_SIZE))
  }

  /** One for the caller, who gives it back. */
  take(): Buffer {
    return this.#pool.allocate(HOT_SIZE)
  }

  /** It belongs to the caller now, who gives it back. */
  takeOutgoing(): void {
    this.#outgoing = undefined
  }

  giveBack(buffer: Buffer): void {
    this.#pool.release(buffer)
  }
}
