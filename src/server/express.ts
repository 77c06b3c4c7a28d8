/**
 * `Express`: READ and WRITE as nearly all of them are, carried out straight from the bytes received: no flags, not long, on
 * a device that has done them before the call returns. No promise and no object is made for a request, and the replies of
 * a batch leave in one write. It stops at the first request that is anything else, having done nothing about it, and the
 * caller takes the way for all requests (`Transmission`). It also stops when the kernel does not take all replies.
 *
 * The data of a longer READ goes from the disk to the socket through a pipe, without being copied, where that is possible.
 * That of a longer WRITE goes the other way, see `LongWrites`.
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
import { setSendBuffer, type Pipe } from '../util/pipe.js'
import { KiB } from '../util/units.js'
import { descriptorOf } from './direct-socket.js'
import { HOT_SIZE, type HotBuffers } from './hot-buffers.js'
import type { IdlePoll } from './idle-poll.js'
import type { Limits } from './limits.js'
import type { PipePool } from './pipe-pool.js'

export interface ExpressOptions {
  readonly device: Device
  readonly readOnly: boolean
  readonly structured: boolean
  readonly socket: Socket
  readonly limits: Limits
  readonly buffers: HotBuffers
  readonly pipes: PipePool
  readonly idlePoll: IdlePoll
  /** Replies that the kernel did not take at once are gone. */
  readonly onGone: () => void
}

/**
 * Why it stopped: nothing is left; only the rest of a request is missing; replies cannot be kept, or others have waited for
 * long enough; or the next request is not one for here.
 */
export type StopReason = 'done' | 'cut' | 'full' | 'other'

/** Where it stopped, and why. */
export interface Stop {
  readonly at: number
  readonly reason: StopReason
}

const MAGIC_LENGTH = 4

/** From here on, moving pages takes less time than copying them. */
const LONG_MIN = 64 * KiB
/** What a unix socket holds of replies that the client has not taken: without it, one of 256 KiB does not fit. */
const SEND_BUFFER = 512 * KiB

const INAPT_MS = 100

/** What becomes of one request: it is done, up to this position, or not. */
const CUT = -1
const FULL = -2
const OTHER = -3

export class Express {
  readonly #options: ExpressOptions
  readonly #size: number
  readonly #readHeadLength: number
  /** Bytes and requests in `buffers.outgoing`. */
  #filled = 0
  #batch = 0
  #requestsLeaving = 0
  #isSocketPrepared = false
  /** Until then nothing is prepared for requests that the device does at once: it did not do one. */
  #inaptUntilMs = -Infinity

  constructor(options: ExpressOptions) {
    this.#options = options
    this.#size = options.device.size
    this.#readHeadLength = options.structured ? CHUNK_HEADER_LENGTH + DATA_OFFSET_LENGTH : SIMPLE_REPLY_LENGTH
  }

  /** Whose replies the kernel has not taken. */
  get requestsInFlight(): number {
    return this.#requestsLeaving
  }

  get #isApt(): boolean {
    return performance.now() >= this.#inaptUntilMs
  }

  /** The device did not do a request at once. */
  #decline(): number {
    this.#inaptUntilMs = performance.now() + INAPT_MS
    return OTHER
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
    let at = start
    let next = at
    let count = 0
    for (; at < end; at = next, count++) {
      next = count < this.#options.limits.requestsInFlightMax && this.canHold ? this.#step(data, at, end) : FULL
      if (next < 0) break
    }
    this.#send()
    if (count > 0) this.#options.idlePoll.served(count)
    return { at, reason: at === end ? 'done' : next === CUT ? 'cut' : next === FULL ? 'full' : 'other' }
  }

  /** Replies can be kept. */
  get canHold(): boolean {
    return this.#requestsLeaving === 0 && this.#options.socket.writableLength === 0
  }

  #step(data: Buffer, at: number, end: number): number {
    // Other requests may be shorter.
    if (end - at >= MAGIC_LENGTH && data.readUInt32BE(at) !== NBD_REQUEST_MAGIC) return OTHER
    if (end - at < REQUEST_HEADER_LENGTH) return CUT
    // No flags, and the type.
    const flagsAndType = data.readUInt32BE(at + 4)
    if (flagsAndType === NBD_CMD_READ) return this.#read(data, at)
    if (flagsAndType === NBD_CMD_WRITE) return this.#write(data, at, end)
    return OTHER
  }

  #read(data: Buffer, at: number): number {
    const { device, buffers } = this.#options
    const offset = readOffset(data, at + 16)
    const length = data.readUInt32BE(at + 24)
    const replyLength = this.#readHeadLength + length
    if (length === 0 || replyLength > HOT_SIZE || offset + length > this.#size) return OTHER
    if (length >= LONG_MIN) {
      if (!this.#send()) return FULL
      if (this.#readThroughPipe(data, at, offset, length)) return at + REQUEST_HEADER_LENGTH
    }
    if (this.#filled + replyLength > HOT_SIZE && !this.#send()) return FULL
    const into = buffers.outgoing
    const head = this.#filled
    if (!device.readNow?.(offset, into, head + this.#readHeadLength, length)) return this.#decline()
    this.#encodeReadHead(into, head, data, at, length)
    this.#filled += replyLength
    this.#batch++
    return at + REQUEST_HEADER_LENGTH
  }

  #encodeReadHead(into: Buffer, head: number, data: Buffer, at: number, length: number): void {
    if (this.#options.structured) encodeChunkHead(into, head, data, at, length)
    else encodeSimpleHead(into, head, data, at)
  }

  /** With nothing before it. What the kernel does not take is kept, as with other replies. @returns whether it is done */
  #readThroughPipe(data: Buffer, at: number, offset: number, length: number): boolean {
    const { device, buffers, pipes } = this.#options
    const pipe = device.readToPipe === undefined ? undefined : pipes.take()
    if (pipe === undefined) return false
    try {
      this.#encodeReadHead(buffers.outgoing, 0, data, at, length)
      pipe.push(buffers.outgoing, this.#readHeadLength)
      if (!device.readToPipe?.(offset, length, pipe)) return false
      pipe.drain(this.descriptor, undefined, pipe.length)
      this.#filled = pipe.pull(buffers.outgoing)
      this.#batch = this.#filled > 0 ? 1 : 0
      this.#send()
      return true
    } finally {
      pipes.giveBack(pipe)
    }
  }

  /** Of the socket, asked anew each time: once that is closed, its number is somebody else's. */
  get descriptor(): number {
    const { socket } = this.#options
    const descriptor = descriptorOf(socket)
    // The buffer of a TCP socket grows by itself, unless it is set.
    if (!this.#isSocketPrepared && socket.remoteAddress === undefined) setSendBuffer(descriptor, SEND_BUFFER)
    this.#isSocketPrepared = true
    return descriptor
  }

  /** For the payloads of long writes, which then follow each other. Undefined where these have to be copied. */
  takePipe(): Pipe | undefined {
    const { device, pipes } = this.#options
    return this.#isApt && device.writeFromPipe !== undefined ? pipes.take() : undefined
  }

  giveBackPipe(pipe: Pipe): void {
    this.#options.pipes.giveBack(pipe)
  }

  /** The header at `at` is that of a WRITE that a pipe may take. */
  isLongWrite(data: Buffer, at: number): boolean {
    const isWrite = data.readUInt32BE(at) === NBD_REQUEST_MAGIC && data.readUInt32BE(at + 4) === NBD_CMD_WRITE
    const length = data.readUInt32BE(at + 24)
    const isLong = length >= LONG_MIN && length <= HOT_SIZE
    return isWrite && isLong && !this.#options.readOnly && readOffset(data, at + 16) + length <= this.#size
  }

  /** Carries out the WRITE with this header and the next bytes of `pipe`. @returns how many: only after all there is a reply */
  writeFrom(pipe: Pipe, head: Buffer): number {
    const { device, buffers } = this.#options
    const length = head.readUInt32BE(24)
    const written = device.writeFromPipe?.(readOffset(head, 16), length, pipe) ?? 0
    if (written < length) {
      this.#decline()
      return written
    }
    encodeSimpleHead(buffers.outgoing, this.#filled, head, 0)
    this.#filled += SIMPLE_REPLY_LENGTH
    this.#batch++
    this.#send()
    return written
  }

  #write(data: Buffer, at: number, end: number): number {
    const { device, buffers, readOnly } = this.#options
    const offset = readOffset(data, at + 16)
    const length = data.readUInt32BE(at + 24)
    const requestLength = REQUEST_HEADER_LENGTH + length
    if (readOnly || length === 0 || requestLength > HOT_SIZE || offset + length > this.#size) return OTHER
    if (end - at < requestLength) return CUT
    if (this.#filled + SIMPLE_REPLY_LENGTH > HOT_SIZE && !this.#send()) return FULL
    if (!device.writeNow?.(offset, data, at + REQUEST_HEADER_LENGTH, length)) return this.#decline()
    encodeSimpleHead(buffers.outgoing, this.#filled, data, at)
    this.#filled += SIMPLE_REPLY_LENGTH
    this.#batch++
    return at + requestLength
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
