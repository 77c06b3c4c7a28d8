/**
 * `Inlet`: what happens to received bytes in the transmission phase of a plain socket. They arrive in a buffer that all
 * connections share; `Express` takes whole requests straight out of it. Before the event loop goes on, everything else
 * leaves it: to the `ByteReader`; or, when only the rest of a request is missing, to a buffer of the connection's own, into
 * which all that follows is read until it is empty; or, when requests have to wait for their turn, to where they wait.
 * While they do nothing must be read.
 */

import type { ByteReader } from '../nbd/byte-reader.js'
import type { DirectReads } from './direct-socket.js'
import { KiB } from '../util/units.js'
import type { Express, StopReason } from './express.js'
import type { HotBuffers } from './hot-buffers.js'

export interface InletOptions {
  readonly buffers: HotBuffers
  readonly reader: ByteReader
  /** Undefined while requests have to go the long way. */
  readonly express: () => Express | undefined
  /** Something else than the rest of a request is to be done: the reader has got something, or requests wait. */
  readonly onProgress: () => void
}

interface Own {
  readonly buffer: Buffer
  readonly express: Express
}

/** Bytes with whole requests, and where they are. */
interface Waiting {
  readonly express: Express
  readonly data: Buffer
  readonly start: number
  readonly end: number
}

/** Bytes that wait in memory of their own, and not in a buffer that could hold a long request. */
const SMALL = 16 * KiB

export class Inlet implements DirectReads {
  readonly #options: InletOptions
  #own: Own | undefined
  /** Bytes at its beginning. */
  #filled = 0
  #waiting: Waiting | undefined
  #turn: NodeJS.Immediate | undefined

  constructor(options: InletOptions) {
    this.#options = options
  }

  buffer(): Buffer {
    return this.#own?.buffer.subarray(this.#filled) ?? this.#options.buffers.incoming
  }

  onRead(length: number): void {
    const end = this.#filled + length
    if (this.#take(this.#own?.buffer ?? this.#options.buffers.incoming, 0, end) !== 'cut') this.#options.onProgress()
  }

  /** Requests were received that could not be carried out yet. */
  get isWaiting(): boolean {
    return this.#waiting !== undefined
  }

  /** Carries out what waits, as far as it can now. */
  goOn(): void {
    if (this.#waiting === undefined || this.#turn !== undefined || !this.#waiting.express.canHold) return
    const { data, start, end } = this.#waiting
    this.#waiting = undefined
    this.#take(data, start, end)
  }

  /** Nothing is read any more. */
  close(): void {
    clearImmediate(this.#turn)
    this.#waiting = undefined
    this.#giveBack()
  }

  #take(data: Buffer, start: number, end: number): StopReason {
    const { reader } = this.#options
    const express = reader.available === 0 ? this.#options.express() : undefined
    const { at, reason } = express?.run(data, start, end) ?? { at: start, reason: 'other' }
    if (express !== undefined && reason === 'full') this.#wait(express, data, at, end)
    else if (express !== undefined && reason === 'cut' && this.#moveTo(express, data, at, end)) return 'cut'
    else {
      const rest = at < end ? Buffer.from(data.subarray(at, end)) : undefined
      this.#giveBack()
      if (rest !== undefined) reader.push(rest)
    }
    return reason
  }

  /** Into the connection's own buffer, which may be where it is already. */
  #moveTo(express: Express, data: Buffer, start: number, end: number): boolean {
    const buffer = this.#own?.buffer ?? express.take()
    if (buffer === undefined) return false
    this.#own ??= { buffer, express }
    if (buffer !== data || start > 0) data.copy(buffer, 0, start, end)
    this.#filled = end - start
    return true
  }

  #wait(express: Express, data: Buffer, start: number, end: number): void {
    if (data === this.#own?.buffer) this.#waiting = { express, data, start, end }
    else {
      const isSmall = end - start <= SMALL || !this.#moveTo(express, data, start, end)
      const copy = isSmall ? Buffer.from(data.subarray(start, end)) : undefined
      this.#waiting = { express, data: copy ?? this.#own?.buffer ?? data, start: 0, end: end - start }
    }
    // Else it hears of the replies that have to leave first.
    if (express.canHold) this.#turn = setImmediate(this.#takeTurn)
  }

  readonly #takeTurn = (): void => {
    this.#turn = undefined
    this.#options.onProgress()
  }

  #giveBack(): void {
    this.#own?.express.giveBack(this.#own.buffer)
    this.#own = undefined
    this.#filled = 0
  }
}
