/**
 * `ReplyReader`: cuts what a server sends in the transmission phase into simple replies. A read's payload is copied once,
 * from the bytes as they arrive to its place; replies may be split at any byte.
 */

import { SIMPLE_REPLY_LENGTH, type SimpleReply, decodeSimpleReply } from './protocol.js'

export interface ReplyReceiver {
  /** A header is complete. @returns where the payload goes; `undefined` or an empty buffer when none follows */
  replyBegins(reply: SimpleReply): Buffer | undefined
  /** The payload is complete, if there was one. */
  replyEnds(): void
}

export class ReplyReader {
  readonly #receiver: ReplyReceiver
  readonly #header = Buffer.alloc(SIMPLE_REPLY_LENGTH)
  #headerFilled = 0
  #payload: Buffer | undefined
  #payloadFilled = 0

  constructor(receiver: ReplyReceiver) {
    this.#receiver = receiver
  }

  /** Whether everything so far was whole replies. */
  get between(): boolean {
    return this.#headerFilled === 0 && this.#payload === undefined
  }

  /** The bytes are not used after the call. @throws ProtocolError, and whatever the receiver throws */
  feed(bytes: Buffer): void {
    let at = 0
    while (at < bytes.length) {
      at += this.#payload === undefined ? this.#feedHeader(bytes, at) : this.#feedPayload(this.#payload, bytes, at)
    }
  }

  #feedHeader(bytes: Buffer, at: number): number {
    const taken = bytes.copy(this.#header, this.#headerFilled, at)
    this.#headerFilled += taken
    if (this.#headerFilled < SIMPLE_REPLY_LENGTH) return taken
    this.#headerFilled = 0
    const payload = this.#receiver.replyBegins(decodeSimpleReply(this.#header))
    if (payload === undefined || payload.length === 0) {
      this.#receiver.replyEnds()
    } else {
      this.#payload = payload
      this.#payloadFilled = 0
    }
    return taken
  }

  #feedPayload(payload: Buffer, bytes: Buffer, at: number): number {
    const taken = bytes.copy(payload, this.#payloadFilled, at)
    this.#payloadFilled += taken
    if (this.#payloadFilled === payload.length) {
      this.#payload = undefined
      this.#receiver.replyEnds()
    }
    return taken
  }
}
