/**
 * `Inlet`: what happens to received bytes in the transmission phase of a plain socket. They arrive in a buffer that all
 * connections share; `Express` takes whole requests straight out of it. Before the event loop goes on, everything else
 * leaves it: to the `ByteReader`; or, when only the rest of a request is missing, to a buffer of the connection's own, into
 * which all that follows is read until it is empty; or, when that is the rest of a long WRITE, to a pipe (`LongWrites`); or,
 * when requests have to wait for their turn, to where they wait. While they do nothing must be read.
 */

import type { ByteReader } from '../nbd/byte-reader.js'
import { REQUEST_HEADER_LENGTH } from '../nbd/protocol.js'
import type { DirectReads } from './direct-socket.js'
import { KiB } from '../util/units.js'
import type { Express } from './express.js'
import type { HotBuffers } from './hot-buffers.js'
import { LongWrites, type LongStop } from './long-writes.js'

export interface InletOptions {
  readonly buffers: HotBuffers
  readonly reader: ByteReader
  /** Undefined while requests have to go the long way. */
  readonly express: () => Express | undefined
  /** Something else than the rest of a request is to be done: the reader has got something, or requests wait. */
  readonly onProgress: () => void
}

/** The beginning of a request, and room for the rest. */
interface Own {
  readonly buffer: Buffer
  readonly express: Express
  /** Bytes at its beginning. */
  filled: number
  /** The next read goes there. The socket was told so, and it must stay where it is until then. */
  isTold: boolean
}

/** Bytes with whole requests, and where they are. */
interface Waiting {
  readonly express: Express
  readonly data: Buffer
  /** The buffer is to be given back. */
  readonly isLent: boolean
  start: number
  readonly end: number
}

/** Bytes that wait in memory of their own, and not in a buffer that could hold a long request. */
const SMALL = 16 * KiB

export class Inlet implements DirectReads {
  readonly #options: InletOptions
  #own: Own | undefined
  #waiting: Waiting | undefined
  #long: LongWrites | undefined
  /** It goes on later. */
  #isLongWaiting = false
  /** Where the next read goes, as the socket was told. */
  #told: Buffer
  #turn: NodeJS.Immediate | undefined

  constructor(options: InletOptions) {
    this.#options = options
    this.#told = options.buffers.incoming
  }

  buffer(): Buffer {
    this.#told = this.#nextBuffer()
    return this.#told
  }

  #nextBuffer(): Buffer {
    if (this.#long !== undefined) return this.#long.notice
    if (this.#own === undefined) return this.#options.buffers.incoming
    this.#own.isTold = true
    return this.#own.buffer.subarray(this.#own.filled)
  }

  onRead(length: number): void {
    const told = this.#told
    const own = this.#own
    if (this.#long !== undefined) this.#goOnLong(this.#long, this.#long.push(told.subarray(0, length)))
    else if (own === undefined) this.#take(told, length)
    else if (own.isTold) this.#take(own.buffer, own.filled + length)
    else if (own.filled + length <= own.buffer.length) {
      told.copy(own.buffer, own.filled, 0, length)
      this.#take(own.buffer, own.filled + length)
    } else {
      const bytes = Buffer.concat([own.buffer.subarray(0, own.filled), told.subarray(0, length)])
      this.#giveBack()
      this.#options.reader.push(bytes)
    }
    const isReceiving = this.#own !== undefined || (this.#long !== undefined && !this.#isLongWaiting)
    if (!isReceiving) this.#options.onProgress()
  }

  /** Requests were received that could not be carried out yet. */
  get isWaiting(): boolean {
    return this.#waiting !== undefined || this.#isLongWaiting
  }

  /** Carries out what waits, as far as it can now. The socket knows where to read to next, so that stays as it is. */
  goOn(): void {
    if (this.#long !== undefined && this.#turn === undefined) this.#runLong(this.#long)
    const waiting = this.#waiting
    if (waiting === undefined || this.#turn !== undefined || !waiting.express.canHold) return
    const { express, data, start, end, isLent } = waiting
    const isCurrent = this.#options.express() === express && this.#options.reader.available === 0
    const { at, reason } = isCurrent ? express.run(data, start, end) : { at: start, reason: 'other' as const }
    if (reason === 'full') {
      waiting.start = at
      this.#awaitTurn(express)
      return
    }
    this.#waiting = undefined
    const buffer = reason !== 'cut' ? undefined : isLent ? data : express.take()
    if (buffer !== undefined) {
      data.copy(buffer, 0, at, end)
      this.#own = { buffer, express, filled: end - at, isTold: false }
      return
    }
    const rest = at < end ? Buffer.from(data.subarray(at, end)) : undefined
    if (isLent) express.giveBack(data)
    if (rest !== undefined) this.#options.reader.push(rest)
  }

  /** Nothing is read any more. */
  close(): void {
    clearImmediate(this.#turn)
    if (this.#waiting?.isLent) this.#waiting.express.giveBack(this.#waiting.data)
    this.#waiting = undefined
    if (this.#long !== undefined) this.#endLong(this.#long)
    this.#giveBack()
  }

  /** Bytes that were read, from the beginning of `data` to `end`. */
  #take(data: Buffer, end: number): void {
    const { reader } = this.#options
    const express = reader.available === 0 ? this.#options.express() : undefined
    const { at, reason } = express?.run(data, 0, end) ?? { at: 0, reason: 'other' }
    if (express !== undefined && reason === 'full') this.#wait(express, data, at, end)
    else if (express !== undefined && reason === 'cut' && this.#beginLong(express, data, at, end)) return
    else if (express === undefined || reason !== 'cut' || !this.#keep(express, data, at, end)) {
      const rest = at < end ? Buffer.from(data.subarray(at, end)) : undefined
      this.#giveBack()
      if (rest !== undefined) reader.push(rest)
    }
  }

  /** In the connection's own buffer, which may be where it is already. */
  #keep(express: Express, data: Buffer, start: number, end: number): boolean {
    const buffer = this.#own?.buffer ?? express.take()
    if (buffer === undefined) return false
    this.#own ??= { buffer, express, filled: 0, isTold: false }
    if (buffer !== data || start > 0) data.copy(buffer, 0, start, end)
    this.#own.filled = end - start
    return true
  }

  /** @returns false, and nothing was done, if it is not a long WRITE that is cut, or no pipe takes it */
  #beginLong(express: Express, data: Buffer, start: number, end: number): boolean {
    if (end - start < REQUEST_HEADER_LENGTH || !express.isLongWrite(data, start)) return false
    const pipe = express.takePipe()
    if (pipe === undefined) return false
    const long = new LongWrites(express, pipe)
    const left = long.push(data.subarray(start, end))
    this.#giveBack()
    this.#long = long
    this.#goOnLong(long, left)
    return true
  }

  /** @param left what it did not take of the bytes that were received */
  #goOnLong(long: LongWrites, left: Buffer): void {
    if (left.length === 0) this.#runLong(long)
    else this.#options.reader.push(Buffer.concat([this.#endLong(long), left]))
  }

  #runLong(long: LongWrites): void {
    const isCurrent = this.#options.express() === long.express && this.#options.reader.available === 0
    const stop: LongStop = isCurrent ? long.run() : 'unfit'
    this.#isLongWaiting = stop === 'full' || stop === 'turn'
    if (stop === 'turn') this.#awaitTurn(long.express)
    else if (stop === 'unfit') this.#options.reader.push(this.#endLong(long))
    else if (stop === 'other') {
      const bytes = this.#endLong(long)
      this.#take(bytes, bytes.length)
    }
  }

  /** @returns what it held */
  #endLong(long: LongWrites): Buffer {
    const bytes = long.takeBack()
    long.close()
    this.#long = undefined
    this.#isLongWaiting = false
    return bytes
  }

  #wait(express: Express, data: Buffer, start: number, end: number): void {
    if (data === this.#own?.buffer) {
      this.#own = undefined
      this.#waiting = { express, data, start, end, isLent: true }
    } else {
      const lent = end - start <= SMALL ? undefined : express.take()
      if (lent !== undefined) data.copy(lent, 0, start, end)
      const copy = lent ?? Buffer.from(data.subarray(start, end))
      this.#waiting = { express, data: copy, start: 0, end: end - start, isLent: lent !== undefined }
    }
    this.#awaitTurn(express)
  }

  /** Or it hears of the replies that have to leave first. */
  #awaitTurn(express: Express): void {
    if (express.canHold) this.#turn = setImmediate(this.#takeTurn)
  }

  readonly #takeTurn = (): void => {
    this.#turn = undefined
    this.#options.onProgress()
  }

  #giveBack(): void {
    this.#own?.express.giveBack(this.#own.buffer)
    this.#own = undefined
  }
}
