/** An `NbdServer` on a socket of its own for one test, and a client that sends and receives bare bytes. */

import { mkdtemp, rm } from 'node:fs/promises'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import tls, { type ConnectionOptions } from 'node:tls'
import type { Test } from 'tap'
import { ByteReader } from '../../src/nbd/byte-reader.js'
import * as nbd from '../../src/nbd/protocol.js'
import { NbdServer, type NbdServerOptions } from '../../src/server/server.js'
import type { Log } from '../../src/util/log.js'
import { MiB } from '../../src/util/units.js'
import { MemoryDevice } from './memory-device.js'

/** Removed when the test ends. Short enough for a unix socket. */
export async function temporaryDirectory(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'nbd-'))
  t.teardown(() => rm(directory, { recursive: true }))
  return directory
}

/** Collects lines instead of printing them. */
export function recordingLog(): { log: Log; lines: string[] } {
  const lines: string[] = []
  const at = (level: string) => (message: string) => void lines.push(`${level} ${message}`)
  return { log: { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }, lines }
}

export interface Served {
  readonly server: NbdServer
  readonly device: MemoryDevice
  readonly path: string
  readonly lines: readonly string[]
  readonly connect: () => Promise<RawClient>
}

export async function serve(t: Test, options: Partial<NbdServerOptions> = {}, size = MiB): Promise<Served> {
  const device = new MemoryDevice(size)
  const { log, lines } = recordingLog()
  const exports = [{ name: 'main', description: 'the disk', device, readOnly: false }]
  const server = new NbdServer({ exports, log, ...options })
  const path = join(await temporaryDirectory(t), 's')
  await server.listen({ path })
  t.teardown(() => server.close())
  const connect = async (): Promise<RawClient> => {
    const client = await RawClient.connect(path)
    t.teardown(() => {
      client.socket.destroy()
    })
    return client
  }
  return { server, device, path, lines, connect }
}

const bytes = (part: Buffer | string): Buffer =>
  typeof part === 'string' ? Buffer.from(part.replaceAll(/\s/g, ''), 'hex') : part

export class RawClient {
  readonly socket: net.Socket
  readonly #reader = new ByteReader()
  #closed = false
  #wake: () => void = () => undefined

  /** Takes over a connected socket. */
  constructor(socket: net.Socket) {
    this.socket = socket
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

  static connect(path: string): Promise<RawClient> {
    return new Promise((resolve, reject) => {
      const socket = net.connect({ path, allowHalfOpen: true }, () => {
        resolve(new RawClient(socket))
      })
      socket.once('error', reject)
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
    return new RawClient(socket)
  }

  /** Strings are hex, and may contain spaces. */
  send(...parts: (Buffer | string)[]): void {
    this.socket.write(Buffer.concat(parts.map(bytes)))
  }

  /** @throws when the server closes before */
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
    return new Promise((resolve) => {
      this.#wake = resolve
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

  /** From the greeting to the transmission phase. */
  async go(options: { structured?: boolean; name?: string } = {}): Promise<this> {
    await this.greet()
    return this.choose(options)
  }

  /** From the greeting to the transmission phase, with TLS. */
  async goSecurely(tlsOptions: ConnectionOptions = {}): Promise<RawClient> {
    await this.greet()
    const secured = await this.startTls(tlsOptions)
    return secured.choose()
  }

  /** The options alone. */
  async choose({ structured = false, name = 'main' } = {}): Promise<this> {
    if (structured) {
      this.send(nbd.encodeOption(nbd.NBD_OPT_STRUCTURED_REPLY))
      await this.receiveOptionReply()
    }
    this.send(nbd.encodeOption(nbd.NBD_OPT_GO, nbd.encodeInfoRequest({ name, infos: [] })))
    while ((await this.receiveOptionReply()).type !== nbd.NBD_REP_ACK);
    return this
  }

  request(type: number, fields: Partial<nbd.Request> = {}, payload: Buffer | string = ''): void {
    const request = { flags: 0, type, cookie: 1n, offset: 0, length: 0, ...fields }
    this.send(nbd.encodeRequest(request), payload)
  }
}

/** Turns of the event loop until `condition` holds; the test's own timeout is the deadline. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve))
}
