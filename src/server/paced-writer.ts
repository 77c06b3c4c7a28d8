/**
 * `PacedWriter`: what an encrypting socket is given to write, a little at a time. Such a socket encrypts at once whatever it
 * is given, and keeps a copy, and another one of a writev, until the kernel has taken it all: a client that does not read
 * would make every reply count three times.
 */

import type { Socket } from 'node:net'
import { KiB } from '../util/units.js'

/** Bytes given to the socket before it has got rid of them. About what it can hand to the kernel in one call. */
const PACE = 256 * KiB

interface Piece {
  readonly data: Buffer
  /** Called when this, and all before it, has left or never will. */
  readonly gone: (() => void) | undefined
}

export class PacedWriter {
  readonly #socket: Socket
  #queue: Piece[] = []
  /** How many at the beginning of the queue are with the socket already. */
  #taken = 0

  constructor(socket: Socket) {
    this.#socket = socket
  }

  /** Of a lost socket, too, `gone` is called. */
  write(buffers: readonly Buffer[], gone: () => void): void {
    const last = buffers.length - 1
    for (const [index, buffer] of buffers.entries()) {
      for (let start = 0; start < buffer.length; start += PACE) {
        const end = Math.min(start + PACE, buffer.length)
        const isLast = index === last && end === buffer.length
        this.#queue.push({ data: buffer.subarray(start, end), gone: isLast ? gone : undefined })
      }
    }
    if (this.#taken === 0) this.#next()
  }

  #next(): void {
    let bytes = 0
    while (this.#taken < this.#queue.length) {
      bytes += this.#queue[this.#taken]?.data.length ?? 0
      if (bytes > PACE && this.#taken > 0) break
      this.#taken++
    }
    if (this.#taken === 0) return
    this.#socket.cork()
    for (let i = 0; i < this.#taken - 1; i++) this.#socket.write(this.#queue[i]?.data ?? Buffer.alloc(0))
    this.#socket.write(this.#queue[this.#taken - 1]?.data ?? Buffer.alloc(0), this.#done)
    this.#socket.uncork()
  }

  readonly #done = (): void => {
    // Nothing more leaves a lost socket: all that waits is gone.
    const left = this.#queue.splice(0, this.#socket.destroyed ? this.#queue.length : this.#taken)
    this.#taken = 0
    this.#next()
    for (const { gone } of left) gone?.()
  }
}
