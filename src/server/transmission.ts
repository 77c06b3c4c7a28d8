/**
 * The server's side of the transmission phase: requests in, device calls, replies out in whatever order the device
 * answers. It parses all requests that a chunk of bytes holds before it returns, and stops parsing (`blocked`) while
 * too much is in flight; the connection then stops reading, and the client feels it.
 */

import type { Socket } from 'node:net'
import {
  DeviceError,
  NoSpareError,
  type Completion,
  type DeviceErrorCode,
  type WriteOptions,
  type ZeroOptions,
} from '../device/device.js'
import type { ByteReader } from '../nbd/byte-reader.js'
import { commandName, errorName } from '../nbd/names.js'
import {
  EXTENDED_REQUEST_HEADER_LENGTH,
  NBD_CMD_BLOCK_STATUS,
  NBD_CMD_CACHE,
  NBD_CMD_DISC,
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EXTENDED_REQUEST_MAGIC,
  NBD_REQUEST_MAGIC,
  ProtocolError,
  REQUEST_HEADER_LENGTH,
  decodeBlockStatusPayload,
  decodeExtendedRequest,
  decodeRequest,
  expectMagic,
  type ErrorChunk,
  type Request,
} from '../nbd/protocol.js'
import { InvariantError } from '../util/assert.js'
import type { Log } from '../util/log.js'
import { blockStatuses, statusCost } from './block-status.js'
import type { Account, Budget } from './budget.js'
import type { BufferPool } from './buffer-pool.js'
import { wireError } from './errors.js'
import { PAYLOAD_MAX, isReadOnly, type Export } from './export.js'
import { Express } from './express.js'
import { HOT_SIZE, type HotBuffers } from './hot-buffers.js'
import type { IdlePoll } from './idle-poll.js'
import type { Limits } from './limits.js'
import type { SelectedContext } from './meta-context.js'
import type { PipePool } from './pipe-pool.js'
import type { Negotiated } from './negotiation.js'
import { repliesFor, type Replies } from './replies.js'
import { ReplyQueue } from './reply-queue.js'
import { Stall } from './stall.js'
import { payloadLength, validate, validateRange, type Terms } from './validate.js'

/** What `advance` stopped for: more bytes, fewer requests in flight, or nothing, because no request will follow. */
export type TransmissionState = 'hungry' | 'blocked' | 'ended'

export interface TransmissionOptions {
  readonly export: Export
  readonly negotiated: Negotiated
  readonly socket: Socket
  readonly reader: ByteReader
  readonly limits: Limits
  readonly budget: Budget
  readonly pool: BufferPool
  readonly buffers: HotBuffers
  readonly pipes: PipePool
  readonly idlePoll: IdlePoll
  readonly log: Log
  /** For log lines: `client 7`. */
  readonly client: string
  /** The client is about to be told that the disk failed its request. */
  readonly onFailure?: ((failure: RequestFailure) => void) | undefined
  /** Called when a request is done and `advance` may get further, or the last one is done. */
  readonly onProgress: () => void
}

/** A request that the device failed, as the client asked it: not the part of it that was bad. */
export interface RequestFailure {
  /** `READ`, `WRITE`, ... */
  readonly operation: string
  readonly offset: number
  readonly length: number
  /** What the device failed with. */
  readonly code: DeviceErrorCode
  /** Bad blocks of it found no place on a spare; so many would have to be free. */
  readonly blocksNeeded?: number
  /** What the client is told, `EIO` or `ENOSPC` for example. */
  readonly reply: string
  /** The number of the injected fault, if it was one. */
  readonly fault?: number | undefined
}

/** What becomes an error on the wire; `fault` is told in words alone. */
type WireFailure = Omit<ErrorChunk, 'message'> & { readonly fault?: number }

/** A request on its way from its header to the device. */
interface Incoming {
  readonly request: Request
  /** Bytes that it holds from now until its reply is gone. */
  readonly cost: number
  /** Whether they are held, or somebody else holds what is missing. */
  payment: 'none' | 'awaited' | 'done'
}

/** A refused request, and how much of its payload is still to come. */
interface Refused {
  readonly request: Request
  readonly error: number
  rest: number
}

const FUA: WriteOptions = { fua: true }
const NO_PAYLOAD: readonly Buffer[] = []

const isFua = ({ flags }: Request): boolean => (flags & NBD_CMD_FLAG_FUA) !== 0
/** `WRITE_ZEROES` of NBD_CMD_WRITE_ZEROES, `EIO` of NBD_EIO. */
const shortName = (name: string): string => name.replace(/^NBD_(CMD_)?/, '')
const describe = ({ type, length, offset }: Request): string =>
  `${commandName(type)} of ${length} bytes at offset ${offset}`

export class Transmission {
  readonly #options: TransmissionOptions
  readonly #terms: Terms
  readonly #contexts: readonly SelectedContext[]
  readonly #replies: Replies
  readonly #queue: ReplyQueue
  readonly #account: Account
  /** With simple and structured replies. */
  readonly #express: Express | undefined
  readonly #headerLength: number
  /** Of the payload of `#incoming`. */
  readonly #arrival: Stall
  #incoming: Incoming | undefined
  #refused: Refused | undefined
  #requests = 0
  #inDevice = 0
  #ended = false

  constructor(options: TransmissionOptions) {
    const { style, contexts } = options.negotiated
    this.#options = options
    this.#contexts = contexts
    this.#replies = repliesFor(style, options.pool)
    this.#queue = new ReplyQueue(
      options.socket,
      () => this.#inDevice > 0,
      (requests, bytes) => {
        this.#release(requests, bytes)
      },
      new Stall(options.limits),
      options.pool,
    )
    this.#account = options.budget.open(() => {
      if (this.#incoming !== undefined) this.#incoming.payment = 'done'
      options.onProgress()
    })
    this.#terms = {
      size: options.export.device.size,
      readOnly: isReadOnly(options.export),
      style,
      payloadMax: PAYLOAD_MAX,
      contextCount: contexts.length,
    }
    this.#express = this.#newExpress()
    this.#headerLength = style === 'extended' ? EXTENDED_REQUEST_HEADER_LENGTH : REQUEST_HEADER_LENGTH
    this.#arrival = new Stall(options.limits)
  }

  /** Requests from the header to the moment when the kernel has the whole reply. */
  get requestsInFlight(): number {
    return this.#requests + (this.#express?.requestsInFlight ?? 0)
  }

  /** The short way for requests, which may be used now: all that came before went somewhere. */
  get express(): Express | undefined {
    const isBetween = this.#incoming === undefined && this.#refused === undefined && !this.#ended
    return isBetween ? this.#express : undefined
  }

  #newExpress(): Express | undefined {
    const { socket, limits, buffers, pipes, idlePoll, onProgress } = this.#options
    const { readOnly, style } = this.#terms
    if (style === 'extended' || limits.bytesOwnMax < HOT_SIZE) return undefined
    const { device } = this.#options.export
    const structured = style === 'structured'
    return new Express({ device, readOnly, structured, socket, limits, buffers, pipes, idlePoll, onGone: onProgress })
  }

  /** The device works on requests. */
  get isInDevice(): boolean {
    return this.#inDevice > 0
  }

  /**
   * The client, and not the device, is why bytes are held that others could use: it does not send what it announced, or
   * does not take its replies.
   */
  get isStalled(): boolean {
    return this.#account.holdsShared && (this.#arrival.isTooLong || this.#queue.isStalled)
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
    if (this.#ended) return
    this.#ended = true
    const incoming = this.#incoming
    this.#incoming = this.#refused = undefined
    this.#arrival.end()
    this.#account.stopWaiting()
    if (incoming?.payment === 'done') this.#account.giveBack(incoming.cost)
  }

  #step(): TransmissionState | 'next' {
    const { reader, limits } = this.#options
    if (this.#refused !== undefined) return this.#skipPayload(this.#refused)
    if (this.#incoming !== undefined) return this.#receive(this.#incoming)
    if (reader.available < this.#headerLength) {
      this.#checkMagic()
      return 'hungry'
    }
    if (this.#requests >= limits.requestsInFlightMax) return 'blocked'
    const header = reader.consume(this.#headerLength)
    this.#begin(this.#terms.style === 'extended' ? decodeExtendedRequest(header) : decodeRequest(header))
    return 'next'
  }

  /** Who means headers of another kind may wait for an answer before it has sent enough for one of this kind. */
  #checkMagic(): void {
    const { reader } = this.#options
    const magic = this.#terms.style === 'extended' ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC
    if (reader.available >= 4) expectMagic(reader.peekUInt32(), magic, 'request')
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
      this.#requests++
      this.#queue.push(this.#replies.success(request), 0)
    } else {
      this.#incoming = { request, cost: this.#costOf(request), payment: 'none' }
    }
  }

  /** Bytes that a request holds. */
  #costOf(request: Request): number {
    switch (request.type) {
      case NBD_CMD_READ:
      case NBD_CMD_WRITE:
        return request.length
      case NBD_CMD_BLOCK_STATUS: {
        const length = payloadLength(request, this.#terms.style) === 0 ? request.length : Infinity
        return statusCost({ ...request, length }, this.#contexts.length)
      }
      default:
        return 0
    }
  }

  /** Nothing of a payload is asked for before the bytes for all of it are there. */
  #receive(incoming: Incoming): TransmissionState | 'next' {
    const { reader } = this.#options
    const { request, cost } = incoming
    if (!this.#pay(incoming)) return 'blocked'
    const length = payloadLength(request, this.#terms.style)
    if (reader.available < length) {
      if (!this.#arrival.isRunning) this.#arrival.begin(length)
      return 'hungry'
    }
    this.#arrival.end()
    this.#incoming = undefined
    this.#requests++
    this.#run(request, cost, length === 0 ? NO_PAYLOAD : reader.consumeChunks(length))
    return 'next'
  }

  /** @returns whether the bytes of the request are held now; else `advance` is called when it is worth another try */
  #pay(incoming: Incoming): boolean {
    if (incoming.payment === 'none') {
      const { held } = this.#account
      if (held > 0 && held + incoming.cost > this.#options.limits.bytesInFlightMax) return false
      incoming.payment = this.#account.take(incoming.cost) ? 'done' : 'awaited'
    }
    return incoming.payment === 'done'
  }

  #refuse(request: Request, error: number): void {
    const payload = payloadLength(request, this.#terms.style)
    // With extended headers the specification wants a payload above the maximum to cost the connection.
    const max = this.#terms.style === 'extended' ? this.#terms.payloadMax : this.#options.limits.refusedPayloadMax
    if (payload > max) throw new ProtocolError(`absurd ${describe(request)}`)
    this.#refused = { request, error, rest: payload }
  }

  /** The answer to a refused request comes after its payload, or the next header would be looked for inside it. */
  #skipPayload(refused: Refused): TransmissionState | 'next' {
    const { reader } = this.#options
    const skipped = Math.min(refused.rest, reader.available)
    reader.skip(skipped)
    refused.rest -= skipped
    if (refused.rest > 0) return 'hungry'
    this.#refused = undefined
    this.#requests++
    this.#queue.push(this.#failure(refused.request, { error: refused.error }), 0)
    return 'next'
  }

  /** A request that the device is done with at once is answered before this returns. */
  #run(request: Request, cost: number, payload: readonly Buffer[]): void {
    if (request.type === NBD_CMD_BLOCK_STATUS) {
      void this.#sendLater(request, cost, this.#blockStatus(request, payload))
      return
    }
    const reply = request.type === NBD_CMD_READ ? this.#replies.allocateRead(request) : undefined
    let pending: Completion
    try {
      pending = reply === undefined ? this.#change(request, payload) : this.#read(request, reply)
    } catch (error) {
      this.#queue.push(this.#failureOf(request, error), cost)
      return
    }
    if (pending === undefined) this.#queue.push(this.#successOf(request, reply), cost)
    else void this.#sendLater(request, cost, pending, reply)
  }

  /** @param answer of the device, or the reply itself */
  async #sendLater(
    request: Request,
    cost: number,
    answer: Promise<Buffer | undefined> | Promise<void>,
    read?: Buffer,
  ): Promise<void> {
    this.#inDevice++
    let reply: Buffer
    try {
      reply = (await answer) ?? this.#successOf(request, read)
    } catch (error) {
      reply = this.#failureOf(request, error)
    }
    this.#inDevice--
    this.#queue.push(reply, cost)
  }

  #read(request: Request, reply: Buffer): Completion {
    return this.#options.export.device.read(request.offset, reply.subarray(this.#replies.readHeadLength))
  }

  /** @param read the reply to READ, complete but for its head */
  #successOf(request: Request, read: Buffer | undefined): Buffer {
    if (read === undefined) return this.#replies.success(request)
    this.#replies.encodeReadHead(request, read)
    return read
  }

  async #blockStatus(request: Request, payload: readonly Buffer[]): Promise<Buffer> {
    let [asked, contexts] = [request, this.#contexts]
    if (payload.length > 0) {
      const { length, contextIds } = decodeBlockStatusPayload(Buffer.concat(payload))
      asked = { ...request, length }
      contexts = this.#contexts.filter(({ id }) => contextIds.includes(id))
      const error = contexts.length === contextIds.length ? validateRange(asked, this.#terms) : NBD_EINVAL
      if (error !== 0) return this.#failure(request, { error })
    }
    return this.#replies.blockStatus(request, await blockStatuses(asked, contexts))
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

  /** The one place where what a device call threw becomes an answer. */
  #judge(request: Request, error: unknown): WireFailure {
    const { log, client } = this.#options
    if (error instanceof InvariantError) crash(error)
    if (!(error instanceof DeviceError)) {
      const stack = error instanceof Error ? error.stack : undefined
      log.error(`${client}: ${describe(request)} failed with a bug: ${stack ?? String(error)}`)
      return { error: wireError(error, request) }
    }
    log.debug(`${client}: ${describe(request)}: ${error.message}`)
    this.#tellFailure(request, error)
    const inside = error.offset >= request.offset && error.offset < request.offset + request.length
    return {
      error: wireError(error, request),
      ...(request.type === NBD_CMD_READ && inside ? { offset: error.offset } : {}),
      ...(error.fault !== undefined && { fault: error.fault }),
    }
  }

  /** Zeros that were to be fast or not at all are no failure. */
  #tellFailure(request: Request, error: DeviceError): void {
    const { code } = error
    if (code === 'ENOTSUP') return
    const { type, offset, length } = request
    const reply = shortName(errorName(wireError(error, request)))
    const { fault } = error
    this.#options.onFailure?.({
      ...{ operation: shortName(commandName(type)), offset, length, code, reply, fault },
      ...(error instanceof NoSpareError && { blocksNeeded: error.blocksNeeded }),
    })
  }

  #failureOf(request: Request, error: unknown): Buffer {
    return this.#failure(request, this.#judge(request, error))
  }

  #failure(request: Request, { fault, ...error }: WireFailure): Buffer {
    const injected = fault === undefined ? '' : ` (injected, fault ${fault})`
    const message = `${describe(request)}: ${errorName(error.error)}${injected}`
    return this.#replies.failure(request, { ...error, message })
  }

  #release(requests: number, bytes: number): void {
    this.#requests -= requests
    this.#account.giveBack(bytes)
    this.#options.onProgress()
  }
}

const zeroOptions = ({ flags }: Request): ZeroOptions | undefined => {
  if (flags === 0) return undefined
  return {
    ...((flags & NBD_CMD_FLAG_FUA) !== 0 && { fua: true }),
    ...((flags & NBD_CMD_FLAG_NO_HOLE) !== 0 && { noHole: true }),
    ...((flags & NBD_CMD_FLAG_FAST_ZERO) !== 0 && { fast: true }),
  }
}

/** The state of the disk is not known any more: no handler of rejections may keep the process alive. */
function crash(error: InvariantError): void {
  process.nextTick(() => {
    throw error
  })
}
