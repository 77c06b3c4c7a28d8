/**
 * `Express`: READ and WRITE as nearly all of them are, carried out straight from the bytes received: no flags, not long, on
 * a device that has done them before the call returns. No promise and no object is made for a request, and the replies of
 * a batch leave in one write. It stops at the first request that is anything else, having done nothing about it, and the
 * caller takes the way for all requests (`Transmission`).
 *
 * Beyond a turn of the event loop it holds two buffers at most, one with replies that the kernel did not take and one with
 * the beginning of a request. They are not part of the budget, so it does nothing where a connection has less than one.
 */

import type { Socket } from 'node:net'
import type { Device } from '../device/device.js'
import {
  CHUNK_HEADER_LENGTH,
  DATA_OFFSET_LENGTH,
  NBD_CMD_READ,
  NBD_CMD_WRITE,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REQUEST_MAGIC,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_MAGIC,
  REQUEST_HEADER_LENGTH,
  SIMPLE_REPLY_LENGTH,
} from '../nbd/protocol.js'
import { KiB } from '../util/units.js'
import { HOT_SIZE, type HotBuffers } from './hot-buffers.js'
import type { Limits } from './limits.js'

/** Of replies with more data only a part fits into the socket at once, so nothing is won. */
const READ_MAX = 64 * KiB

export interface ExpressOptions {
  readonly device: Device
  readonly readOnly: boolean
  readonly structured: boolean
  readonly socket: Socket
  readonly limits: Limits
  readonly buffers: HotBuffers
  /** Replies that the kernel did not take at once are gone. */
  readonly onGone: () => void
}

/** Where it stopped, and whether only the rest of the request is missing there. */
export interface Stop {
  readonly at: number
  readonly isCut: boolean
}

export class Express {
  readonly #options: ExpressOptions
  readonly #size: number
  readonly #readHeadLength: number
  /** Bytes and requests in `buffers.outgoing`. */
  #filled = 0
  #batch = 0
  #requestsLeaving = 0
  /** The device did the last request at once. */
  #isApt = true

  constructor(options: ExpressOptions) {
    this.#options = options
    this.#size = options.device.size
    this.#readHeadLength = options.structured ? CHUNK_HEADER_LENGTH + DATA_OFFSET_LENGTH : SIMPLE_REPLY_LENGTH
  }

  /** Whose replies the kernel has not taken. */
  get requestsInFlight(): number {
    return this.#requestsLeaving
  }

  /** A buffer in which the rest of a request that is cut can be waited for, if there may be one. */
  take(): Buffer | undefined {
    return this.#isApt ? this.#options.buffers.take() : undefined
  }

  /** The buffer is not needed any more. */
  giveBack(buffer: Buffer): void {
    this.#options.buffers.giveBack(buffer)
  }

  /** Carries out requests from the bytes of `data` between `start` and `end`. */
  run(data: Buffer, start: number, end: number): Stop {
    const { requestsInFlightMax } = this.#options.limits
    let at = start
    let isCut = false
    while (this.#canHold && this.#batch < requestsInFlightMax) {
      if (end - at < REQUEST_HEADER_LENGTH) {
        isCut = true
        break
      }
      // The magic, no flags, and the type.
      if (data.readUInt32BE(at) !== NBD_REQUEST_MAGIC) break
      const flagsAndType = data.readUInt32BE(at + 4)
      if (flagsAndType === NBD_CMD_READ) {
        if (!this.#read(data, at)) break
        at += REQUEST_HEADER_LENGTH
      } else if (flagsAndType === NBD_CMD_WRITE) {
        const length = this.#writeLength(data, at)
        if (length === 0) break
        isCut = end - at < REQUEST_HEADER_LENGTH + length
        if (isCut || !this.#write(data, at, length)) break
        at += REQUEST_HEADER_LENGTH + length
      } else break
    }
    this.#send()
    return { at, isCut }
  }

  /** Whether replies can be kept. */
  get #canHold(): boolean {
    return this.#requestsLeaving === 0 && this.#options.socket.writableLength === 0
  }

  #read(data: Buffer, at: number): boolean {
    const { device, buffers } = this.#options
    const offset = readOffset(data, at + 16)
    const length = data.readUInt32BE(at + 24)
    if (length === 0 || length > READ_MAX || offset + length > this.#size) return false
    if (this.#filled + this.#readHeadLength + length > HOT_SIZE && !this.#send()) return false
    const into = buffers.outgoing
    const head = this.#filled
    this.#isApt = device.readNow?.(offset, into, head + this.#readHeadLength, length) ?? false
    if (!this.#isApt) return false
    if (this.#options.structured) encodeChunkHead(into, head, data, at, length)
    else encodeSimpleHead(into, head, data, at)
    this.#filled += this.#readHeadLength + length
    this.#batch++
    return true
  }

  /** @returns 0 when it is not one for here */
  #writeLength(data: Buffer, at: number): number {
    const length = data.readUInt32BE(at + 24)
    const fits = REQUEST_HEADER_LENGTH + length <= HOT_SIZE && readOffset(data, at + 16) + length <= this.#size
    return fits && !this.#options.readOnly ? length : 0
  }

  #write(data: Buffer, at: number, length: number): boolean {
    const { device, buffers } = this.#options
    if (this.#filled + SIMPLE_REPLY_LENGTH > HOT_SIZE && !this.#send()) return false
    const offset = readOffset(data, at + 16)
    this.#isApt = device.writeNow?.(offset, data, at + REQUEST_HEADER_LENGTH, length) ?? false
    if (!this.#isApt) return false
    encodeSimpleHead(buffers.outgoing, this.#filled, data, at)
    this.#filled += SIMPLE_REPLY_LENGTH
    this.#batch++
    return true
  }

  /** @returns whether the kernel took all */
  #send(): boolean {
    if (this.#batch === 0) return true
    const { socket, buffers, onGone } = this.#options
    const [buffer, requests] = [buffers.outgoing, this.#batch]
    const data = buffer.subarray(0, this.#filled)
    this.#filled = this.#batch = 0
    let isKept = false
    socket.write(data, () => {
      if (!isKept) return
      buffers.giveBack(buffer)
      this.#requestsLeaving -= requests
      onGone()
    })
    if (socket.writableLength === 0 && !socket.destroyed) return true
    isKept = true
    buffers.takeOutgoing()
    this.#requestsLeaving += requests
    return false
  }
}

/** An offset that numbers cannot express is larger than any device, also when it was rounded. */
const readOffset = (data: Buffer, at: number): number => data.readUInt32BE(at) * 0x100000000 + data.readUInt32BE(at + 4)

/** The cookie of the request whose header is at `from` of `data`. */
function copyCookie(into: Buffer, at: number, data: Buffer, from: number): void {
  into.writeUInt32BE(data.readUInt32BE(from + 8), at)
  into.writeUInt32BE(data.readUInt32BE(from + 12), at + 4)
}

function encodeSimpleHead(into: Buffer, at: number, data: Buffer, from: number): void {
  into.writeUInt32BE(NBD_SIMPLE_REPLY_MAGIC, at)
  into.writeUInt32BE(0, at + 4)
  copyCookie(into, at + 8, data, from)
}

/** NBD_REPLY_TYPE_OFFSET_DATA, the only chunk. */
function encodeChunkHead(into: Buffer, at: number, data: Buffer, from: number, length: number): void {
  into.writeUInt32BE(NBD_STRUCTURED_REPLY_MAGIC, at)
  into.writeUInt16BE(NBD_REPLY_FLAG_DONE, at + 4)
  into.writeUInt16BE(NBD_REPLY_TYPE_OFFSET_DATA, at + 6)
  copyCookie(into, at + 8, data, from)
  into.writeUInt32BE(DATA_OFFSET_LENGTH + length, at + 16)
  into.writeUInt32BE(data.readUInt32BE(from + 16), at + 20)
  into.writeUInt32BE(data.readUInt32BE(from + 20), at + 24)
}
