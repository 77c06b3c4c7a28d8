/**
 * `ReplyQueue`: replies on their way to one client. What becomes ready in one turn of the event loop leaves in one
 * writev, and when nothing more can become ready, without waiting for the end of the turn. A reply counts as gone, and
 * what its request held is given back, only when the kernel has taken its last byte or the connection is lost: that is how
 * a client that does not read is noticed.
 */

import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import type { BufferPool } from './buffer-pool.js'
import { PacedWriter } from './paced-writer.js'
import type { Stall } from './stall.js'

export class ReplyQueue {
  readonly #socket: Socket
  readonly #paced: PacedWriter | undefined
  readonly #isMoreExpected: () => boolean
  readonly #onGone: (requests: number, bytes: number) => void
  /** Of the replies that the kernel has not taken. */
  readonly #stall: Stall
  readonly #pool: BufferPool
  #writes = 0
  #bytesLeaving = 0
  #replies: Buffer[] = []
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
   * says whether the device still works on requests. Buffers that came from `pool` go back there.
   */
  constructor(
    socket: Socket,
    isMoreExpected: () => boolean,
    onGone: (requests: number, bytes: number) => void,
    stall: Stall,
    pool: BufferPool,
  ) {
    this.#stall = stall
    this.#pool = pool
    this.#socket = socket
    this.#paced = socket instanceof TLSSocket ? new PacedWriter(socket) : undefined
    this.#isMoreExpected = isMoreExpected
    this.#onGone = onGone
  }

  /** The client takes nothing. */
  get isStalled(): boolean {
    return this.#stall.isTooLong
  }

  /** `bytes` is what the request held. */
  push(reply: Buffer, bytes: number): void {
    this.#replies.push(reply)
    this.#bytes += bytes
    if (this.#scheduled) return
    this.#scheduled = true
    process.nextTick(this.#flushUnlessMoreFollows)
  }

  #send(): void {
    const replies = this.#replies
    const bytes = this.#bytes
    this.#replies = []
    this.#bytes = 0
    // Of a lost socket, too, the callback is called: with an error that nobody needs, because 'close' tells the same.
    const gone = (): void => {
      this.#bytesLeaving -= bytes
      if (--this.#writes === 0) this.#stall.end()
      else this.#stall.begin(this.#bytesLeaving)
      for (const reply of replies) this.#pool.release(reply)
      this.#onGone(replies.length, bytes)
    }
    this.#bytesLeaving += bytes
    if (this.#writes++ === 0) this.#stall.begin(bytes)
    if (this.#paced) {
      this.#paced.write(replies, gone)
      return
    }
    const last = replies.length - 1
    this.#socket.cork()
    for (let i = 0; i < last; i++) this.#socket.write(replies[i] ?? Buffer.alloc(0))
    this.#socket.write(replies[last] ?? Buffer.alloc(0), gone)
    this.#socket.uncork()
  }
}
