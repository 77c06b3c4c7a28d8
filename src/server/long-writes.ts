/**
 * `LongWrites`: WRITE requests of one connection whose payload goes from the socket to the disk through a pipe, without
 * being copied. While a client sends nothing else, the socket is read here and not by Node.js, which only says when there is
 * something to read, by reading a few bytes. A payload is written when all of it is there and nothing more can be received
 * at once: so the client fills the socket while the disk is written to.
 *
 * Nothing is lost when it cannot go on: all that it holds becomes bytes again, as they were received.
 */
import { REQUEST_HEADER_LENGTH } from '../nbd/protocol.js'
import { receiveNow, type Pipe } from '../util/pipe.js'
import type { Express } from './express.js'

/**
 * Why it stopped: nothing more has arrived; replies cannot be kept; others have waited for long enough; the next request is
 * another one; or it cannot go on, since the device or the pipe takes no more.
 */
export type LongStop = 'waiting' | 'full' | 'turn' | 'other' | 'unfit'

/** Payloads that are received before the first of them is written. */
const AHEAD_MAX = 2
/** Payloads that are written before others have their turn. */
const WRITES_PER_TURN = 16

export class LongWrites {
  /** What Node.js reads to. */
  readonly notice = Buffer.alloc(REQUEST_HEADER_LENGTH)
  readonly express: Express
  readonly #pipe: Pipe
  /** Of the request that is being received. */
  #head = Buffer.alloc(REQUEST_HEADER_LENGTH)
  #headFilled = 0
  #missing = 0
  /** Headers of those whose payload is complete; the payloads are in the pipe one after the other. */
  #complete: Buffer[] = []

  constructor(express: Express, pipe: Pipe) {
    this.express = express
    this.#pipe = pipe
  }

  /** The next bytes, which were received elsewhere. @returns a copy of those that it does not take, as when the pipe is full */
  push(bytes: Buffer): Buffer {
    let taken = 0
    while (taken < bytes.length && !this.#isOther) {
      const rest = bytes.subarray(taken)
      const step = this.#headFilled < REQUEST_HEADER_LENGTH ? this.#pushHead(rest) : this.#pushPayload(rest)
      if (step === 0) break
      taken += step
    }
    return Buffer.from(bytes.subarray(taken))
  }

  #pushHead(bytes: Buffer): number {
    const length = bytes.copy(this.#head, this.#headFilled)
    this.#filledHead(length)
    return length
  }

  #pushPayload(bytes: Buffer): number {
    return this.#filledPayload(this.#pipe.push(bytes, Math.min(bytes.length, this.#missing)))
  }

  /** Receives and writes for as long as there is something to receive and to write. */
  run(): LongStop {
    for (let writes = 0; writes < WRITES_PER_TURN;) {
      if (!this.express.canHold) return 'full'
      const isReceived = this.#receive()
      if (this.#complete.length > (isReceived ? AHEAD_MAX : 0)) {
        if (!this.#writeOldest()) return 'unfit'
        writes++
      } else if (!isReceived) return this.#isOther ? 'other' : 'waiting'
    }
    return 'turn'
  }

  /** All that it holds, in the order in which it was received. */
  takeBack(): Buffer {
    const bytes: Buffer[] = []
    for (const head of this.#complete.splice(0)) bytes.push(head, this.#pull(head.readUInt32BE(24)))
    bytes.push(this.#head.subarray(0, this.#headFilled), this.#pull(this.#pipe.length))
    this.#head = Buffer.alloc(REQUEST_HEADER_LENGTH)
    this.#headFilled = this.#missing = 0
    return Buffer.concat(bytes)
  }

  /** Gives the pipe back, with what may be in it. */
  close(): void {
    this.express.giveBackPipe(this.#pipe)
  }

  /** It is not a long write whose header has been received. */
  get #isOther(): boolean {
    return this.#headFilled === REQUEST_HEADER_LENGTH && this.#missing === 0
  }

  /** @returns whether there was anything */
  #receive(): boolean {
    if (this.#isOther) return false
    if (this.#headFilled === REQUEST_HEADER_LENGTH) {
      return this.#filledPayload(this.#pipe.fill(this.express.descriptor, undefined, this.#missing)) > 0
    }
    const length = receiveNow(this.express.descriptor, this.#head.subarray(this.#headFilled))
    this.#filledHead(length)
    return length > 0
  }

  #filledHead(length: number): void {
    this.#headFilled += length
    if (this.#headFilled < REQUEST_HEADER_LENGTH) return
    this.#missing = this.express.isLongWrite(this.#head, 0) ? this.#head.readUInt32BE(24) : 0
  }

  #filledPayload(length: number): number {
    this.#missing -= length
    if (length > 0 && this.#missing === 0) {
      this.#complete.push(this.#head)
      this.#head = Buffer.alloc(REQUEST_HEADER_LENGTH)
      this.#headFilled = 0
    }
    return length
  }

  /** @returns whether all of it was written; else the rest is a request for the rest */
  #writeOldest(): boolean {
    const [head] = this.#complete
    if (head === undefined) return true
    const length = head.readUInt32BE(24)
    const written = this.express.writeFrom(this.#pipe, head)
    if (written === length) {
      this.#complete.shift()
      return true
    }
    head.writeBigUInt64BE(head.readBigUInt64BE(16) + BigInt(written), 16)
    head.writeUInt32BE(length - written, 24)
    return false
  }

  #pull(length: number): Buffer {
    const bytes = Buffer.allocUnsafeSlow(length)
    this.#pipe.pull(bytes)
    return bytes
  }
}
