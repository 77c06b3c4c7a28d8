/**
 * `Inlet`: what happens to received bytes in the transmission phase of a plain socket. They arrive in a buffer that all
 * connections share; `Express` takes whole requests straight out of it. Before the event loop goes on, everything else
 * leaves it: to the `ByteReader`, or, when only the rest of a request is missing, to a buffer of the connection's own, into
 * which all that follows is read until it is empty.
 */

import type { ByteReader } from '../nbd/byte-reader.js'
import type { DirectReads } from './direct-socket.js'
import type { Express } from './express.js'
import type { HotBuffers } from './hot-buffers.js'

export interface InletOptions {
  readonly buffers: HotBuffers
  readonly reader: ByteReader
  /** Undefined while requests have to go the long way. */
  readonly express: () => Express | undefined
  /** The reader has got something. */
  readonly onPushed: () => void
}

interface Own {
  readonly buffer: Buffer
  readonly express: Express
}

export class Inlet implements DirectReads {
  readonly #options: InletOptions
  #own: Own | undefined
  /** Bytes at its beginning. */
  #filled = 0

  constructor(options: InletOptions) {
    this.#options = options
  }

  buffer(): Buffer {
    return this.#own?.buffer.subarray(this.#filled) ?? this.#options.buffers.incoming
  }

  onRead(length: number): void {
    const { reader, buffers, onPushed } = this.#options
    const data = this.#own?.buffer ?? buffers.incoming
    const end = this.#filled + length
    const express = reader.available === 0 ? this.#options.express() : undefined
    const stop = express?.run(data, 0, end)
    const at = stop?.at ?? 0
    if (express !== undefined && stop?.isCut && at < end && this.#moveTo(express, data, at, end)) return
    const rest = at < end ? Buffer.from(data.subarray(at, end)) : undefined
    this.close()
    if (rest === undefined) return
    reader.push(rest)
    onPushed()
  }

  /** Nothing is read any more. */
  close(): void {
    this.#own?.express.giveBack(this.#own.buffer)
    this.#own = undefined
    this.#filled = 0
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
}
