/**
 * The server's side of the transmission phase: requests in, device calls, replies out in whatever order the device
 * answers. It parses all requests that a chunk of bytes holds before it returns, and stops parsing (`blocked`) while
 * too much is in flight; the connection then stops reading, and the client feels it.
 */

import type { Socket } from 'node:net'
import { DeviceError, type Completion, type WriteOptions, type ZeroOptions } from '../device/device.js'
import type { ByteReader } from '../nbd/byte-reader.js'
import { commandName, errorName } from '../nbd/names.js'
import {
  CHUNK_HEADER_LENGTH,
  DATA_OFFSET_LENGTH,
  NBD_CMD_CACHE,
  NBD_CMD_DISC,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_ERROR,
  NBD_REPLY_TYPE_ERROR_OFFSET,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  ProtocolError,
  REQUEST_HEADER_LENGTH,
  SIMPLE_REPLY_LENGTH,
  decodeRequest,
  encodeChunkHeader,
  encodeDataOffset,
  encodeErrorChunk,
  encodeSimpleReply,
  type ErrorChunk,
  type Request,
} from '../nbd/protocol.js'
import { InvariantError } from '../util/assert.js'
import type { Log } from '../util/log.js'
import type { Budget } from './budget.js'
import { wireError } from './errors.js'
import { PAYLOAD_MAX, isReadOnly, type Export } from './export.js'
import type { Limits } from './limits.js'
import { ReplyQueue } from './reply-queue.js'
import { Slab } from './slab.js'
import { validate, type Terms } from './validate.js'

/** What `advance` stopped for: more bytes, fewer requests in flight, or nothing, because no request will follow. */
export type TransmissionState = 'hungry' | 'blocked' | 'ended'

export interface TransmissionOptions {
  readonly export: Export
  readonly structuredReplies: boolean
  readonly socket: Socket
  readonly reader: ByteReader
  readonly limits: Limits
  readonly budget: Budget
  readonly log: Log
  /** For log lines: `client 7`. */
  readonly client: string
  /** Called when a request is done and `advance` may get further, or the last one is done. */
  readonly onProgress: () => void
}

const READ_CHUNK_HEAD = CHUNK_HEADER_LENGTH + DATA_OFFSET_LENGTH
const FUA: WriteOptions = { fua: true }

const isFua = ({ flags }: Request): boolean => (flags & NBD_CMD_FLAG_FUA) !== 0
/** What a request counts for as long as it is in flight. */
const bytesHeld = ({ type, length }: Request): number => (type === NBD_CMD_READ || type === NBD_CMD_WRITE ? length : 0)
const describe = ({ type, length, offset }: Request): string =>
  `${commandName(type)} of ${length} bytes at offset ${offset}`

export class Transmission {
  readonly #options: TransmissionOptions
  readonly #terms: Terms
  readonly #replies: ReplyQueue
  readonly #slab = new Slab()
  /** A WRITE whose payload is still arriving. */
  #awaited: Request | undefined
  /** A refused WRITE with payload, and how much of that is still to come. */
  #refused: { readonly request: Request; readonly error: number; rest: number } | undefined
  #requests = 0
  #bytes = 0
  #inDevice = 0
  #ended = false

  constructor(options: TransmissionOptions) {
    this.#options = options
    this.#replies = new ReplyQueue(
      options.socket,
      () => this.#inDevice > 0,
      (requests, bytes) => {
        this.#release(requests, bytes)
      },
    )
    this.#terms = {
      size: options.export.device.size,
      readOnly: isReadOnly(options.export),
      structuredReplies: options.structuredReplies,
      payloadMax: PAYLOAD_MAX,
    }
  }

  /** Requests from the header to the moment when the kernel has the whole reply. */
  get requestsInFlight(): number {
    return this.#requests
  }

  /** Takes what it can from the reader. @throws ProtocolError when the client does not speak the protocol */
  advance(): TransmissionState {
    for (;;) {
      if (this.#ended) return 'ended'
      const step = this.#step()
      if (step !== 'next') return step
    }
  }

  /** No request follows; those begun are finished and answered. */
  end(): void {
    this.#ended = true
    this.#options.budget.stopWaiting(this.#options.onProgress)
    this.#awaited = this.#refused = undefined
  }

  #step(): TransmissionState | 'next' {
    const { reader } = this.#options
    if (this.#awaited !== undefined) return this.#takePayload(this.#awaited)
    if (this.#refused !== undefined) return this.#skipPayload(this.#refused)
    if (reader.available < REQUEST_HEADER_LENGTH) return 'hungry'
    if (!this.#admitsRequest()) return 'blocked'
    this.#begin(decodeRequest(reader.consume(REQUEST_HEADER_LENGTH)))
    return 'next'
  }

  #admitsRequest(): boolean {
    const { limits, budget, onProgress } = this.#options
    if (this.#requests >= limits.requestsInFlightMax || this.#bytes >= limits.bytesInFlightMax) return false
    if (this.#bytes === 0 || !budget.exhausted) return true
    budget.wait(onProgress)
    return false
  }

  #begin(request: Request): void {
    if (request.type === NBD_CMD_DISC) {
      this.end()
      return
    }
    const error = validate(request, this.#terms)
    if (error !== 0) {
      this.#refuse(request, error)
    } else if (request.type === NBD_CMD_CACHE || (request.length === 0 && request.type !== NBD_CMD_FLUSH)) {
      // Nothing to do: the range is empty, or it is a hint for which there is no cache to fill.
      this.#hold(0)
      this.#replies.push(this.#success(request), 0)
    } else if (request.type === NBD_CMD_WRITE) {
      // Held only once it is there: a client that announces payloads and never sends them takes nothing from others.
      this.#awaited = request
    } else {
      this.#hold(bytesHeld(request))
      this.#run(request, [])
    }
  }

  #takePayload(request: Request): TransmissionState | 'next' {
    const { reader } = this.#options
    if (reader.available < request.length) return 'hungry'
    this.#awaited = undefined
    this.#hold(request.length)
    this.#run(request, reader.consumeChunks(request.length))
    return 'next'
  }

  #refuse(request: Request, error: number): void {
    const payload = request.type === NBD_CMD_WRITE ? request.length : 0
    if (payload > this.#options.limits.refusedPayloadMax) throw new ProtocolError(`absurd ${describe(request)}`)
    this.#refused = { request, error, rest: payload }
  }

  /** The answer to a refused request comes after its payload, or the next header would be looked for inside it. */
  #skipPayload(refused: {
    readonly request: Request
    readonly error: number
    rest: number
  }): TransmissionState | 'next' {
    const { reader } = this.#options
    const skipped = Math.min(refused.rest, reader.available)
    reader.skip(skipped)
    refused.rest -= skipped
    if (refused.rest > 0) return 'hungry'
    this.#refused = undefined
    this.#hold(0)
    this.#replies.push(this.#failure(refused.request, { error: refused.error }), 0)
    return 'next'
  }

  /** A request that the device is done with at once is answered before this returns. */
  #run(request: Request, payload: readonly Buffer[]): void {
    const head = this.#terms.structuredReplies ? READ_CHUNK_HEAD : SIMPLE_REPLY_LENGTH
    const reply = request.type === NBD_CMD_READ ? this.#slab.allocate(head + request.length) : undefined
    let pending: Completion
    try {
      pending =
        reply === undefined
          ? this.#change(request, payload)
          : this.#options.export.device.read(request.offset, reply.subarray(head))
    } catch (error) {
      this.#fail(request, error)
      return
    }
    if (pending === undefined) this.#answer(request, reply)
    else void this.#answerLater(request, reply, pending)
  }

  async #answerLater(request: Request, reply: Buffer | undefined, pending: Promise<void>): Promise<void> {
    this.#inDevice++
    try {
      await pending
    } catch (error) {
      this.#inDevice--
      this.#fail(request, error)
      return
    }
    this.#inDevice--
    this.#answer(request, reply)
  }

  /** @param read the reply to READ, complete but for its head */
  #answer(request: Request, read: Buffer | undefined): void {
    if (read !== undefined) this.#encodeReadHead(request, read)
    this.#replies.push(read ?? this.#success(request), bytesHeld(request))
  }

  /** Everything that goes to the device except READ. */
  #change(request: Request, payload: readonly Buffer[]): Completion {
    const { device } = this.#options.export
    const { offset, length } = request
    const options = isFua(request) ? FUA : undefined
    switch (request.type) {
      case NBD_CMD_WRITE:
        return device.write(offset, payload, options)
      case NBD_CMD_FLUSH:
        return device.flush()
      case NBD_CMD_TRIM:
        return device.trim(offset, length, options)
      case NBD_CMD_WRITE_ZEROES:
        return device.writeZeroes(offset, length, zeroOptions(request))
      default:
        throw new InvariantError(`invariant broken: ${describe(request)} was let through`)
    }
  }

  #fail(request: Request, error: unknown): void {
    this.#replies.push(this.#failure(request, this.#judge(request, error)), bytesHeld(request))
  }

  /** The one place where what a device call threw becomes an answer. */
  #judge(request: Request, error: unknown): Omit<ErrorChunk, 'message'> {
    const { log, client } = this.#options
    if (error instanceof InvariantError) crash(error)
    if (!(error instanceof DeviceError)) {
      const stack = error instanceof Error ? error.stack : undefined
      log.error(`${client}: ${describe(request)} failed with a bug: ${stack ?? String(error)}`)
      return { error: wireError(error) }
    }
    log.debug(`${client}: ${describe(request)}: ${error.message}`)
    const inside = error.offset >= request.offset && error.offset < request.offset + request.length
    return { error: wireError(error), ...(request.type === NBD_CMD_READ && inside ? { offset: error.offset } : {}) }
  }

  #encodeReadHead({ cookie, offset, length }: Request, reply: Buffer): void {
    if (!this.#terms.structuredReplies) {
      encodeSimpleReply(reply, { error: 0, cookie })
      return
    }
    const type = NBD_REPLY_TYPE_OFFSET_DATA
    encodeChunkHeader(reply, { flags: NBD_REPLY_FLAG_DONE, type, cookie, length: DATA_OFFSET_LENGTH + length })
    encodeDataOffset(reply, offset, CHUNK_HEADER_LENGTH)
  }

  /** Without data. Only to READ does the specification demand a chunk. */
  #success({ type, cookie }: Request): Buffer {
    if (this.#terms.structuredReplies && type === NBD_CMD_READ) {
      const reply = Buffer.allocUnsafe(CHUNK_HEADER_LENGTH)
      encodeChunkHeader(reply, { flags: NBD_REPLY_FLAG_DONE, type: NBD_REPLY_TYPE_NONE, cookie, length: 0 })
      return reply
    }
    const reply = this.#slab.allocate(SIMPLE_REPLY_LENGTH)
    encodeSimpleReply(reply, { error: 0, cookie })
    return reply
  }

  #failure(request: Request, { error, offset }: Omit<ErrorChunk, 'message'>): Buffer {
    const { cookie } = request
    if (!this.#terms.structuredReplies) {
      const reply = this.#slab.allocate(SIMPLE_REPLY_LENGTH)
      encodeSimpleReply(reply, { error, cookie })
      return reply
    }
    const message = `${describe(request)}: ${errorName(error)}`
    const payload = encodeErrorChunk(offset === undefined ? { error, message } : { error, message, offset })
    const type = offset === undefined ? NBD_REPLY_TYPE_ERROR : NBD_REPLY_TYPE_ERROR_OFFSET
    const header = Buffer.allocUnsafe(CHUNK_HEADER_LENGTH)
    encodeChunkHeader(header, { flags: NBD_REPLY_FLAG_DONE, type, cookie, length: payload.length })
    return Buffer.concat([header, payload])
  }

  #hold(bytes: number): void {
    this.#requests++
    this.#bytes += bytes
    this.#options.budget.take(bytes)
  }

  #release(requests: number, bytes: number): void {
    this.#requests -= requests
    this.#bytes -= bytes
    this.#options.budget.giveBack(bytes)
    this.#options.onProgress()
  }
}

/** By NBD_CMD_FLAG_FUA and NBD_CMD_FLAG_NO_HOLE, the only flags that WRITE_ZEROES can have here. */
const ZERO_OPTIONS: readonly (ZeroOptions | undefined)[] = [
  undefined,
  { fua: true },
  { noHole: true },
  { fua: true, noHole: true },
]
const zeroOptions = ({ flags }: Request): ZeroOptions | undefined => ZERO_OPTIONS[flags]

/** The state of the disk is not known any more: no handler of rejections may keep the process alive. */
function crash(error: InvariantError): void {
  process.nextTick(() => {
    throw error
  })
}
