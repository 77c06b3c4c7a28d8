/**
 * `ReplyQueue`: replies on their way to one client. What becomes ready in one turn of the event loop leaves in one
 * write, and when nothing more can become ready, without waiting for the end of the turn. A reply counts as gone, and what
 * its request held is given back, only when the kernel has taken its last byte or the connection is lost: that is how a
 * client that does not read is noticed.
 */

import type { Socket } from 'node:net'

export class ReplyQueue {
  readonly #socket: Socket
  readonly #isMoreExpected: () => boolean
  readonly #onGone: (requests: number, bytes: number) => void
  /** Neighbours in memory, which replies from one slab are, count as one. */
  #pieces: Buffer[] = []
  #requests = 0
  #bytes = 0
  #scheduled = false
  readonly #flush = (): void => {
    this.#scheduled = false
    this.#send()
  }
  readonly #flushUnlessMoreFollows = (): void => {
    // Each completion of the thread pool comes in a tick of its own; the immediate comes after all that are there.
    if (this.#isMoreExpected()) setImmediate(this.#flush)
    else this.#flush()
  }

  /**
   * `onGone` hears of replies that left (or never will): how many, and the bytes their requests held. `isMoreExpected`
   * says whether the device still works on requests.
   */
  constructor(socket: Socket, isMoreExpected: () => boolean, onGone: (requests: number, bytes: number) => void) {
    this.#socket = socket
    this.#isMoreExpected = isMoreExpected
    this.#onGone = onGone
  }

  /** `bytes` is what the request held. */
  push(reply: Buffer, bytes: number): void {
    const last = this.#pieces.at(-1)
    if (last?.buffer === reply.buffer && last.byteOffset + last.length === reply.byteOffset) {
      this.#pieces[this.#pieces.length - 1] = Buffer.from(last.buffer, last.byteOffset, last.length + reply.length)
    } else {
      this.#pieces.push(reply)
    }
    this.#requests++
    this.#bytes += bytes
    if (this.#scheduled) return
    this.#scheduled = true
    process.nextTick(this.#flushUnlessMoreFollows)
  }

  #send(): void {
    const pieces = this.#pieces
    const requests = this.#requests
    const bytes = this.#bytes
    this.#pieces = []
    this.#requests = this.#bytes = 0
    // Of a lost socket, too, the callback is called: with an error that nobody needs, because 'close' tells the same.
    const gone = (): void => {
      this.#onGone(requests, bytes)
    }
    const last = pieces.pop() ?? Buffer.alloc(0)
    if (pieces.length === 0) {
      this.#socket.write(last, gone)
      return
    }
    this.#socket.cork()
    for (const piece of pieces) this.#socket.write(piece)
    this.#socket.write(last, gone)
    this.#socket.uncork()
  }
}
