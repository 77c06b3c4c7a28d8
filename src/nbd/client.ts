/**
 * `NbdClient`: one connection to one export of an NBD server, in the transmission phase.
 *
 * Requests are pipelined and their replies matched by cookie, in any order. The client never reconnects: once the
 * connection is lost every request, in flight or new, rejects with the reason, and `lost` resolves with it.
 */

import { assert } from '../util/assert.js'
import { type ConnectOptions, openConnection } from './client-connect.js'
import { NbdConnectionError, NbdProtocolError, NbdServerError } from './client-errors.js'
import type { NbdBlockSizes, NbdExport } from './client-handshake.js'
import type { ClientSocket } from './client-socket.js'
import { commandName, errorName } from './names.js'
import {
  NBD_CMD_CACHE,
  NBD_CMD_DISC,
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
  NBD_FLAG_CAN_MULTI_CONN,
  NBD_FLAG_HAS_FLAGS,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_ROTATIONAL,
  NBD_FLAG_SEND_CACHE,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_FUA,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
  ProtocolError,
  type SimpleReply,
  encodeRequest,
} from './protocol.js'
import { ReplyReader } from './reply-reader.js'
import { type NbdUri, formatNbdUri, parseNbdUri } from './uri.js'

export const DEFAULT_REQUESTS_IN_FLIGHT_MAX = 128
/** How long `disconnect` waits for the server to close after NBD_CMD_DISC before it closes the socket itself. */
const DISCONNECT_TIMEOUT_MS = 1000
/** The length field of a request has 32 bits. */
export const NBD_REQUEST_LENGTH_MAX = 2 ** 32 - 1

export interface NbdClientOptions extends ConnectOptions {
  /** Further requests wait for their turn in the order they came. */
  readonly requestsInFlightMax?: number
}

/** What the server can do: its transmission flags. Commands whose flag is not set must not be sent. */
export interface NbdFlags {
  readonly readOnly: boolean
  readonly sendFlush: boolean
  readonly sendFua: boolean
  readonly sendTrim: boolean
  readonly sendWriteZeroes: boolean
  readonly sendCache: boolean
  readonly canMultiConn: boolean
  readonly rotational: boolean
}

interface Request {
  readonly command: number
  readonly flags: number
  readonly offset: number
  readonly length: number
  readonly payload: readonly Buffer[]
  readonly into: Buffer | undefined
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

interface RequestParts {
  readonly offset?: number
  readonly length?: number
  readonly flags?: number
  readonly payload?: readonly Buffer[]
  readonly into?: Buffer
}

export class NbdClient {
  /** Normalised. */
  readonly uri: string
  readonly exportName: string
  /** In bytes. */
  readonly size: number
  readonly flags: NbdFlags
  readonly blockSizes: NbdBlockSizes
  /** Resolves with the reason when the connection is gone, whichever side ended it; never rejects. */
  readonly lost: Promise<Error>
  readonly #socket: ClientSocket
  readonly #inFlight = new Map<number, Request>()
  readonly #inFlightMax: number
  readonly #waiting: Request[] = []
  readonly #replies: ReplyReader
  #nextCookie = 1
  /** Whose reply is being received. */
  #current: { request: Request; error: number } | undefined
  #disconnecting = false
  #idle: () => void = () => undefined

  private constructor(uri: NbdUri, found: NbdExport, socket: ClientSocket, inFlightMax: number) {
    this.uri = formatNbdUri(uri)
    this.exportName = uri.exportName
    this.size = found.size
    this.flags = decodeFlags(found.transmissionFlags)
    this.blockSizes = found.blockSizes
    this.#socket = socket
    this.#inFlightMax = inFlightMax
    this.#replies = new ReplyReader({
      replyBegins: (reply) => this.#replyBegins(reply),
      replyEnds: () => {
        this.#replyEnds()
      },
    })
    this.lost = socket.lost.then((reason) => {
      this.#rejectAll(reason)
      return this.#located(reason)
    })
    socket.receive((bytes) => {
      this.#receive(bytes)
    })
  }

  /**
   * Connects and negotiates.
   * @throws NbdUriError
   * @throws NbdConnectionError when the server cannot be reached, or does not finish the handshake in time
   * @throws NbdServerError when it refuses the export
   * @throws NbdProtocolError when it does not speak NBD
   */
  static async connect(to: string | NbdUri, options: NbdClientOptions = {}): Promise<NbdClient> {
    const uri = typeof to === 'string' ? parseNbdUri(to) : to
    const { found, socket } = await openConnection(uri, options)
    return new NbdClient(uri, found, socket, options.requestsInFlightMax ?? DEFAULT_REQUESTS_IN_FLIGHT_MAX)
  }

  /**
   * Fills `into` from `offset`.
   * @throws NbdServerError, NbdConnectionError, NbdProtocolError; the content of `into` is then undefined
   */
  async read(offset: number, into: Buffer): Promise<void> {
    if (into.length > 0) await this.#request(NBD_CMD_READ, { offset, length: into.length, into })
  }

  /**
   * Writes the concatenation of `chunks`, which must not change until the promise settles.
   * @throws as `read` does
   */
  async write(offset: number, chunks: readonly Buffer[], { fua = false } = {}): Promise<void> {
    const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
    if (length > 0) await this.#request(NBD_CMD_WRITE, { offset, length, flags: fuaFlag(fua), payload: chunks })
  }

  /** All writes answered before this call are durable when it resolves. @throws as `read` does */
  async flush(): Promise<void> {
    assert(this.flags.sendFlush, 'FLUSH to a server without NBD_FLAG_SEND_FLUSH')
    await this.#request(NBD_CMD_FLUSH, {})
  }

  /** @throws as `read` does */
  async trim(offset: number, length: number, { fua = false } = {}): Promise<void> {
    assert(this.flags.sendTrim, 'TRIM to a server without NBD_FLAG_SEND_TRIM')
    if (length > 0) await this.#request(NBD_CMD_TRIM, { offset, length, flags: fuaFlag(fua) })
  }

  /** @throws as `read` does */
  async writeZeroes(offset: number, length: number, { fua = false, noHole = false } = {}): Promise<void> {
    assert(this.flags.sendWriteZeroes, 'WRITE_ZEROES to a server without NBD_FLAG_SEND_WRITE_ZEROES')
    const flags = fuaFlag(fua) | (noHole ? NBD_CMD_FLAG_NO_HOLE : 0)
    if (length > 0) await this.#request(NBD_CMD_WRITE_ZEROES, { offset, length, flags })
  }

  /** Asks the server to have the range at hand. @throws as `read` does */
  async cache(offset: number, length: number): Promise<void> {
    assert(this.flags.sendCache, 'CACHE to a server without NBD_FLAG_SEND_CACHE')
    if (length > 0) await this.#request(NBD_CMD_CACHE, { offset, length })
  }

  /** Waits for what is in flight, says NBD_CMD_DISC, and resolves when the connection is closed. New requests reject. */
  async disconnect(): Promise<void> {
    if (!this.#disconnecting) {
      this.#disconnecting = true
      await this.#becomesIdle()
      this.#socket.write(
        encodeRequest({ type: NBD_CMD_DISC, flags: 0, cookie: BigInt(this.#nextCookie), offset: 0, length: 0 }),
      )
      this.#socket.end()
    }
    const timer = setTimeout(() => {
      this.destroy()
    }, DISCONNECT_TIMEOUT_MS)
    await this.lost
    clearTimeout(timer)
  }

  /** Closes the connection at once; requests in flight reject. */
  destroy(reason: Error = new NbdConnectionError(`NBD server at ${this.uri}: disconnected by this side`)): void {
    this.#socket.destroy(reason)
    this.#rejectAll(reason)
  }

  async #becomesIdle(): Promise<void> {
    if (this.#inFlight.size === 0 || this.#socket.lostReason) return
    await Promise.race([new Promise<void>((resolve) => (this.#idle = resolve)), this.lost])
  }

  #request(command: number, parts: RequestParts): Promise<void> {
    const { offset = 0, length = 0, flags = 0, payload = [], into } = parts
    assert(offset >= 0 && offset + length <= this.size, `${commandName(command)} beyond the export`)
    assert(length <= NBD_REQUEST_LENGTH_MAX, `${commandName(command)} of more than 32 bits`)
    return new Promise((resolve, reject) => {
      if (this.#socket.lostReason) {
        reject(this.#located(this.#socket.lostReason))
      } else if (this.#disconnecting) {
        reject(new NbdConnectionError(`NBD server at ${this.uri}: disconnecting`))
      } else {
        this.#submit({ command, flags, offset, length, payload, into, resolve, reject })
      }
    })
  }

  #submit(request: Request): void {
    if (this.#inFlight.size < this.#inFlightMax) this.#send(request)
    else this.#waiting.push(request)
  }

  #send(request: Request): void {
    const cookie = this.#nextCookie++
    this.#inFlight.set(cookie, request)
    const { command: type, flags, offset, length } = request
    this.#socket.write(encodeRequest({ type, flags, cookie: BigInt(cookie), offset, length }))
    for (const chunk of request.payload) if (chunk.length > 0) this.#socket.write(chunk)
  }

  #receive(bytes: Buffer): void {
    try {
      this.#replies.feed(bytes)
    } catch (error) {
      this.destroy(this.#located(error))
    }
  }

  #replyBegins({ error, cookie }: SimpleReply): Buffer | undefined {
    // Ours are small: a number that was rounded is never one of them.
    const key = Number(cookie)
    const request = this.#inFlight.get(key)
    if (!request) throw new ProtocolError(`a reply to a request that is not in flight (cookie ${cookie.toString()})`)
    this.#inFlight.delete(key)
    this.#current = { request, error }
    return error === 0 ? request.into : undefined
  }

  #replyEnds(): void {
    assert(this.#current !== undefined, 'a reply ends that began')
    const { request, error } = this.#current
    this.#current = undefined
    if (error === 0) request.resolve()
    else request.reject(this.#serverError(request, error))
    const next = this.#waiting.shift()
    if (next) this.#send(next)
    else if (this.#inFlight.size === 0) this.#idle()
  }

  #serverError({ command, offset, length }: Request, error: number): NbdServerError {
    const name = errorName(error)
    const range = length === 0 ? '' : ` of ${length} bytes at offset ${offset}`
    const what = `NBD server at ${this.uri}: ${commandName(command)}${range} failed: ${name} (${error})`
    return new NbdServerError(what, name, error)
  }

  #rejectAll(reason: Error): void {
    const requests = [...(this.#current ? [this.#current.request] : []), ...this.#inFlight.values(), ...this.#waiting]
    this.#current = undefined
    this.#inFlight.clear()
    this.#waiting.length = 0
    const error = this.#located(reason)
    for (const request of requests) request.reject(error)
  }

  /** Adds where to what happened. */
  #located(error: unknown): Error {
    const uri = this.uri
    if (error instanceof ProtocolError) {
      return new NbdProtocolError(`NBD server at ${uri} broke the protocol: ${error.message}`)
    }
    if (error instanceof NbdConnectionError && !error.message.includes(uri)) {
      return new NbdConnectionError(`lost the connection to NBD server at ${uri}: ${error.message}`, { cause: error })
    }
    return error instanceof Error ? error : new Error(String(error))
  }
}

const fuaFlag = (fua: boolean): number => (fua ? NBD_CMD_FLAG_FUA : 0)

function decodeFlags(bits: number): NbdFlags {
  const set = (bit: number): boolean => (bits & NBD_FLAG_HAS_FLAGS) !== 0 && (bits & bit) !== 0
  return {
    readOnly: set(NBD_FLAG_READ_ONLY),
    sendFlush: set(NBD_FLAG_SEND_FLUSH),
    sendFua: set(NBD_FLAG_SEND_FUA),
    sendTrim: set(NBD_FLAG_SEND_TRIM),
    sendWriteZeroes: set(NBD_FLAG_SEND_WRITE_ZEROES),
    sendCache: set(NBD_FLAG_SEND_CACHE),
    canMultiConn: set(NBD_FLAG_CAN_MULTI_CONN),
    rotational: set(NBD_FLAG_ROTATIONAL),
  }
}
