/**
 * `BufferPool`: large buffers for replies, used again and again. Left to the garbage collector they would pile up to
 * several times what requests hold before it notices, and fresh memory costs a page fault for every 4 KiB.
 */

import { KiB, MiB, alignUp } from '../util/units.js'

/** Smaller replies come from a `Slab`. */
const CLASS_SIZE = 16 * KiB
/** Bytes that lie idle at most. */
const IDLE_MAX = 16 * MiB

export class BufferPool {
  /** Idle ones by their size, all multiples of `CLASS_SIZE`. */
  readonly #idle = new Map<number, Buffer[]>()
  /** The memory of buffers that are in use. */
  readonly #lent = new WeakSet()
  #idleBytes = 0

  /** `length` bytes of undefined content. */
  allocate(length: number): Buffer {
    const size = alignUp(length, CLASS_SIZE)
    const used = this.#idle.get(size)?.pop()
    if (used !== undefined) this.#idleBytes -= size
    const whole = used ?? Buffer.allocUnsafeSlow(size)
    this.#lent.add(whole.buffer)
    return whole.subarray(0, length)
  }

  /** Nobody uses `buffer` any more. One from elsewhere is left alone, and one that was released already. */
  release({ buffer }: Buffer): void {
    const size = buffer.byteLength
    if (size < CLASS_SIZE || !this.#lent.delete(buffer)) return
    // Other sizes may not be asked for any more.
    if (this.#idleBytes + size > IDLE_MAX) this.#dropAllBut(size)
    if (this.#idleBytes + size > IDLE_MAX) return
    const idle = this.#idle.get(size)
    if (idle === undefined) this.#idle.set(size, [Buffer.from(buffer)])
    else idle.push(Buffer.from(buffer))
    this.#idleBytes += size
  }

  #dropAllBut(size: number): void {
    const kept = this.#idle.get(size) ?? []
    this.#idle.clear()
    this.#idle.set(size, kept)
    this.#idleBytes = kept.length * size
  }
}
