/**
 * `RawClient`: an NBD client that sends and receives bare bytes, right or wrong. It knows what was negotiated, and nothing
 * is checked unless the caller does.
 */

import net from 'node:net'
import tls, { type ConnectionOptions } from 'node:tls'
import { ByteReader } from '../nbd/byte-reader.js'
import * as nbd from '../nbd/protocol.js'
import type { NbdAddress } from '../nbd/uri.js'
import { connectionProblem } from '../util/errors.js'

/** The server did not answer within the client's patience. */
export class SilenceError extends Error {
  override name = 'SilenceError'
}

const bytes = (part: Buffer | string): Buffer =>
  typeof part === 'string' ? Buffer.from(part.replaceAll(/\s/g, ''), 'hex') : part

/** There is no server, or none any more. */
export class NobodyListensError extends Error {
  override name = 'NobodyListensError'
}

/** For messages. */
function nameOf(to: NbdAddress | string | number): string {
  if (typeof to !== 'object') return typeof to === 'number' ? `port ${to}` : to
  return to.transport === 'unix' ? to.path : `${to.host}:${to.port}`
}

function endpoint(to: NbdAddress | string | number): net.NetConnectOpts {
  if (typeof to === 'string') return { path: to }
  if (typeof to === 'number') return { host: '127.0.0.1', port: to }
  return to.transport === 'unix' ? { path: to.path } : { host: to.host, port: to.port }
}

export class RawClient {
  readonly socket: net.Socket
  /** What `go` negotiated. */
  style: 'simple' | 'structured' | 'extended' = 'simple'
  readonly #reader = new ByteReader()
  #closed = false
  #wake: () => void = () => undefined

  readonly #patienceMs: number

  /** Takes over a connected socket. @param patienceMs for whatever is waited for */
  constructor(socket: net.Socket, patienceMs = Infinity) {
    this.socket = socket
    this.#patienceMs = patienceMs
    const ended = (): void => {
      this.#closed = true
      this.#wake()
    }
    socket.on('data', (chunk: Buffer) => {
      this.#reader.push(chunk)
      this.#wake()
    })
    socket.on('error', () => undefined)
    socket.once('end', ended)
    socket.once('close', ended)
  }

  /** @param to where the server listens; a text is a unix socket, a number a TCP port of this machine */
  static connect(to: NbdAddress | string | number, patienceMs = Infinity): Promise<RawClient> {
    return new Promise((resolve, reject) => {
      const socket = net.connect({ ...endpoint(to), allowHalfOpen: true }, () => {
        resolve(new RawClient(socket, patienceMs))
      })
      socket.once('error', (error) => {
        reject(new NobodyListensError(`nobody listens at ${nameOf(to)}: ${connectionProblem(error)}`, { cause: error }))
      })
    })
  }

  /**
   * After `greet`: NBD_OPT_STARTTLS and a TLS handshake, without looking at the server's certificate unless told to.
   * @throws when there is no TLS
   */
  async startTls(options: ConnectionOptions): Promise<RawClient> {
    this.send(nbd.encodeOption(nbd.NBD_OPT_STARTTLS))
    const { type } = await this.receiveOptionReply()
    if (type !== nbd.NBD_REP_ACK) throw new Error(`NBD_OPT_STARTTLS was answered by ${type}`)
    return this.secure(options)
  }

  /** The TLS handshake alone. @throws when it fails */
  async secure(options: ConnectionOptions): Promise<RawClient> {
    this.socket.removeAllListeners('data').removeAllListeners('end')
    const socket = tls.connect({ rejectUnauthorized: false, ...options, socket: this.socket })
    await new Promise<void>((resolve, reject) => {
      socket.once('secureConnect', resolve)
      socket.once('error', reject)
      socket.once('close', () => {
        reject(new Error('closed during the TLS handshake'))
      })
    })
    return new RawClient(socket, this.#patienceMs)
  }

  /** Strings are hex, and may contain spaces. */
  send(...parts: (Buffer | string)[]): void {
    this.socket.write(Buffer.concat(parts.map(bytes)))
  }

  /** @throws when the server closes before; SilenceError */
  async receive(length: number): Promise<Buffer> {
    while (this.#reader.available < length) {
      if (this.#closed) throw new Error(`closed after ${this.#reader.available} of ${length} bytes`)
      await this.#event()
    }
    return this.#reader.consume(length)
  }

  /** Everything until the server closes. */
  async receiveAll(): Promise<Buffer> {
    while (!this.#closed) await this.#event()
    return this.#reader.consume(this.#reader.available)
  }

  #event(): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = Number.isFinite(this.#patienceMs)
        ? setTimeout(() => {
            reject(new SilenceError(`no answer within ${this.#patienceMs / 1000} s`))
          }, this.#patienceMs)
        : undefined
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  async receiveOptionReply(): Promise<nbd.OptionReplyHeader & { data: Buffer }> {
    const header = nbd.decodeOptionReplyHeader(await this.receive(nbd.OPTION_REPLY_HEADER_LENGTH))
    return { ...header, data: await this.receive(header.length) }
  }

  async receiveSimpleReply(): Promise<nbd.SimpleReply> {
    return nbd.decodeSimpleReply(await this.receive(nbd.SIMPLE_REPLY_LENGTH))
  }

  async receiveChunk(): Promise<nbd.ChunkHeader & { payload: Buffer }> {
    const header = nbd.decodeChunkHeader(await this.receive(nbd.CHUNK_HEADER_LENGTH))
    return { ...header, payload: await this.receive(header.length) }
  }

  /** Takes the greeting, sends flags. */
  async greet(clientFlags = 3): Promise<void> {
    nbd.decodeGreeting(await this.receive(nbd.GREETING_LENGTH))
    this.send(nbd.encodeClientFlags(clientFlags))
  }

  /** Sends an option and takes all that is answered; the last one is an acknowledgement or an error. */
  async option(option: number, data: Buffer = Buffer.alloc(0)): Promise<OptionReply[]> {
    this.send(nbd.encodeOption(option, data))
    const replies: OptionReply[] = []
    for (;;) {
      const reply = await this.receiveOptionReply()
      replies.push(reply)
      if (reply.type === nbd.NBD_REP_ACK || reply.type > nbd.NBD_REP_FLAG_ERROR) return replies
    }
  }

  /** From the greeting to the transmission phase. With `contexts` these are selected. */
  async go(options: GoOptions = {}): Promise<this> {
    await this.greet()
    return this.choose(options)
  }

  /** The same with TLS. */
  async goSecurely(tlsOptions: ConnectionOptions = {}, options: GoOptions = {}): Promise<RawClient> {
    await this.greet()
    const secured = await this.startTls(tlsOptions)
    return secured.choose(options)
  }

  /** From the options to the transmission phase. */
  async choose({ structured = false, extended = false, contexts = [], name = 'main' }: GoOptions = {}): Promise<this> {
    if (structured) await this.option(nbd.NBD_OPT_STRUCTURED_REPLY)
    if (extended) await this.option(nbd.NBD_OPT_EXTENDED_HEADERS)
    if (contexts.length > 0) {
      await this.option(nbd.NBD_OPT_SET_META_CONTEXT, nbd.encodeMetaContextRequest({ name, queries: contexts }))
    }
    await this.option(nbd.NBD_OPT_GO, nbd.encodeInfoRequest({ name, infos: [] }))
    this.style = extended ? 'extended' : structured ? 'structured' : 'simple'
    return this
  }

  /** With extended headers a payload is announced as such. */
  request(type: number, fields: Partial<nbd.Request> = {}, payload: Buffer | string = ''): void {
    const announced = this.style === 'extended' && payload.length > 0 ? nbd.NBD_CMD_FLAG_PAYLOAD_LEN : 0
    const request = { type, cookie: 1n, offset: 0, length: 0, ...fields, flags: (fields.flags ?? 0) | announced }
    this.send(this.style === 'extended' ? nbd.encodeExtendedRequest(request) : nbd.encodeRequest(request), payload)
  }

  /** Takes a whole reply, of one chunk or several. `dataLength` is what a simple reply without error brings. */
  async receiveReply(dataLength = 0): Promise<Reply> {
    const chunks: Chunk[] = []
    for (;;) {
      const start = await this.receive(4)
      const magic = nbd.decodeReplyMagic(start)
      const rest = (length: number) => this.receive(length - start.length).then((end) => Buffer.concat([start, end]))
      if (magic === nbd.NBD_SIMPLE_REPLY_MAGIC) {
        const { error, cookie } = nbd.decodeSimpleReply(await rest(nbd.SIMPLE_REPLY_LENGTH))
        return { magic, cookie, error, message: '', chunks, data: await this.receive(error === 0 ? dataLength : 0) }
      }
      const header =
        magic === nbd.NBD_EXTENDED_REPLY_MAGIC
          ? nbd.decodeExtendedChunkHeader(await rest(nbd.EXTENDED_CHUNK_HEADER_LENGTH))
          : nbd.decodeChunkHeader(await rest(nbd.CHUNK_HEADER_LENGTH))
      chunks.push({ ...header, payload: await this.receive(header.length) })
      if ((header.flags & nbd.NBD_REPLY_FLAG_DONE) === 0) continue
      return { magic, cookie: header.cookie, chunks, ...summary(chunks) }
    }
  }

  /** Sends a request and takes its reply. Nothing else may be under way. */
  async ask(type: number, fields: Partial<nbd.Request> = {}, payload: Buffer | string = ''): Promise<Reply> {
    this.request(type, fields, payload)
    return this.receiveReply(type === nbd.NBD_CMD_READ ? fields.length : 0)
  }
}

export type OptionReply = nbd.OptionReplyHeader & { readonly data: Buffer }

export interface GoOptions {
  readonly structured?: boolean
  readonly extended?: boolean
  readonly contexts?: readonly string[]
  readonly name?: string
}

export type Chunk = nbd.ChunkHeader & { readonly payload: Buffer; readonly offset?: bigint }

export interface Reply {
  readonly magic: number
  readonly cookie: bigint
  /** 0, or that of the first error. */
  readonly error: number
  /** That of the first error. */
  readonly message: string
  readonly chunks: readonly Chunk[]
  /** Of READ; holes are zeros. */
  readonly data: Buffer
}

function summary(chunks: readonly Chunk[]): { error: number; message: string; data: Buffer } {
  const failed = chunks.find(({ type }) => (type & nbd.NBD_REPLY_TYPE_FLAG_ERROR) !== 0)
  const { error, message } = failed ? nbd.decodeErrorChunk(failed.type, failed.payload) : { error: 0, message: '' }
  const data = chunks.filter(({ type }) => type === nbd.NBD_REPLY_TYPE_OFFSET_DATA)
  return { error, message, data: Buffer.concat(data.map(({ payload }) => payload.subarray(nbd.DATA_OFFSET_LENGTH))) }
}
