/**
 * One client: its socket, and the phase it is in. The connection alone reads, pauses and closes the socket; handshake
 * and transmission only see bytes.
 *
 * It outlives its socket: while the device still works on requests of a client that is gone, their buffers are in use.
 * `settled` says when the last one is done.
 */

import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { ByteReader } from '../nbd/byte-reader.js'
import { ProtocolError } from '../nbd/protocol.js'
import { TlsError } from '../nbd/tls.js'
import type { Log } from '../util/log.js'
import type { Budget } from './budget.js'
import type { BufferPool } from './buffer-pool.js'
import { readDirectly } from './direct-socket.js'
import type { Export } from './export.js'
import { Handshake, type HandshakeResult } from './handshake.js'
import type { HotBuffers } from './hot-buffers.js'
import type { IdlePoll } from './idle-poll.js'
import { Inlet } from './inlet.js'
import type { Limits } from './limits.js'
import type { PipePool } from './pipe-pool.js'
import type { ServerTls } from './starttls.js'
import { Transmission, type RequestFailure } from './transmission.js'

/** A client as status commands and events show it. */
export interface ClientInfo {
  readonly id: number
  /** `192.0.2.1:40000`, or `unix`. */
  readonly address: string
  readonly exportName: string
  readonly since: Date
  readonly requestsInFlight: number
}

export interface ConnectionOptions {
  readonly id: number
  readonly exports: readonly Export[]
  readonly limits: Limits
  readonly budget: Budget
  readonly pool: BufferPool
  readonly buffers: HotBuffers
  readonly pipes: PipePool
  readonly idlePoll: IdlePoll
  readonly log: Log
  readonly tls: ServerTls | undefined
  /** The handshake is done. */
  readonly onTransmission: (connection: Connection) => void
  /** The client is about to be told that the disk failed its request. */
  readonly onFailure: (connection: Connection, failure: RequestFailure) => void
  /** The socket is closed. */
  readonly onClosed: (connection: Connection) => void
}

const addressOf = ({ remoteAddress, remotePort }: Socket): string =>
  remoteAddress === undefined ? 'unix' : `${remoteAddress}:${remotePort ?? 0}`

export class Connection {
  readonly id: number
  readonly address: string
  readonly since = new Date()
  /** Resolves when the socket is closed and the device works on nothing of this client any more. Never rejects. */
  readonly settled: Promise<void>
  readonly #settle: () => void
  /** Another one, which encrypts, from NBD_OPT_STARTTLS on. */
  #socket: Socket
  readonly #options: ConnectionOptions
  readonly #reader = new ByteReader()
  /** What reads the socket in the transmission phase, where that is possible. */
  #inlet: Inlet | undefined
  #handshake: Handshake
  /** Of the handshake, or of the last replies. */
  #deadline: NodeJS.Timeout | undefined
  #transmission: Transmission | undefined
  #exportName: string | undefined
  #reading = true
  /** The client will send nothing more. */
  #sawEnd = false
  /** Only the last replies are still to be sent. */
  #onlyRepliesLeft = false
  #ending = false
  #closed = false

  /** Takes the socket over, paused or flowing, from now on. */
  constructor(socket: Socket, options: ConnectionOptions) {
    this.id = options.id
    this.address = addressOf(socket)
    this.#socket = socket
    this.#options = options
    const { promise, resolve } = deferred()
    this.settled = promise
    this.#settle = resolve
    socket.setNoDelay(true)
    // Otherwise the place of a client whose machine is gone would be taken for ever.
    socket.setKeepAlive(true, options.limits.keepAliveDelayMs)
    const tls = options.tls === undefined ? 'off' : options.tls.required ? 'required' : 'on'
    this.#handshake = new Handshake(options.exports, options.limits, (data) => this.#socket.write(data), tls)
    this.#deadline = setTimeout(() => {
      this.#drop(`no end of the handshake within ${options.limits.handshakeTimeoutMs} ms`)
    }, options.limits.handshakeTimeoutMs)
    this.#attach(socket)
  }

  #attach(socket: Socket): void {
    // A client that shuts down its sending side still gets the replies to what it sent.
    socket.allowHalfOpen = true
    this.#reading = true
    socket.on('error', (error) => {
      this.#options.log.debug(`${this.label}: ${error.message}`)
    })
    socket.once('close', this.#onClose)
    socket.once('end', this.#onEnd)
    socket.on('data', this.#onData)
    socket.on('drain', this.#onDrain)
    socket.resume()
  }

  readonly #onEnd = (): void => {
    this.#sawEnd = true
    this.#awaitLastReplies()
    this.#pump()
  }

  /**
   * Written over TLS to a client that is gone without a word, a reply in Node.js neither leaves nor fails. So a client that
   * has ended its side, or has said NBD_CMD_DISC, is given up when it takes none of its last replies any more.
   */
  #awaitLastReplies(): void {
    if (this.#onlyRepliesLeft || !(this.#socket instanceof TLSSocket)) return
    this.#onlyRepliesLeft = true
    this.#dropUnlessMoving(this.#socket, 0)
  }

  #dropUnlessMoving(socket: Socket, bytesBefore: number): void {
    clearTimeout(this.#deadline)
    this.#deadline = setTimeout(() => {
      const { bytesWritten } = socket
      if (this.#transmission?.isInDevice || bytesWritten > bytesBefore) this.#dropUnlessMoving(socket, bytesWritten)
      else this.#drop('it is gone, and did not say so')
    }, this.#options.limits.closeTimeoutMs)
  }

  readonly #onDrain = (): void => {
    if (this.#transmission === undefined) this.#pump()
  }

  readonly #onData = (chunk: Buffer): void => {
    if (this.#ending) return
    this.#reader.push(chunk)
    this.#pump()
  }

  get label(): string {
    return `client ${this.id} (${this.address})`
  }

  get isHandshaking(): boolean {
    return this.#transmission === undefined && !this.#ending
  }

  /** Its socket is being closed, and nothing else is left to do for it. */
  get isLeaving(): boolean {
    return this.#transmission === undefined && this.#socket.destroyed
  }

  /** The client is gone, though the device may still work for it. */
  get isClosed(): boolean {
    return this.#closed
  }

  /** Undefined before the transmission phase. */
  get info(): ClientInfo | undefined {
    const { id, address, since } = this
    if (this.#transmission === undefined || this.#exportName === undefined) return undefined
    return { id, address, exportName: this.#exportName, since, requestsInFlight: this.#transmission.requestsInFlight }
  }

  /** Closes the socket of a client that makes others wait. */
  dropIfStalled(): void {
    if (this.#ending || !this.#transmission?.isStalled) return
    this.#drop('others waited too long for it to send or take data')
  }

  /** Answers what has been received as a whole, then closes the socket. In the handshake, closes at once. */
  finish(): void {
    if (this.#transmission === undefined) {
      this.destroy()
      return
    }
    this.#transmission.end()
    this.#pump()
  }

  /** Closes the socket at once; requests that the device works on are finished, unanswered. */
  destroy(): void {
    this.#ending = true
    this.#socket.destroy()
  }

  /** Lets the phase take what it can, then sets the socket to what the phase is waiting for. */
  #pump(): void {
    if (this.#closed) {
      this.#settleIfDone()
      return
    }
    // A lost socket will say so with 'close'; until then nothing should be begun for it.
    if (this.#ending || this.#socket.destroyed) return
    try {
      if (this.#transmission === undefined) this.#shakeHands()
      if (this.#transmission !== undefined) this.#transmit(this.#transmission)
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error
      this.#drop(error.message)
    }
  }

  #shakeHands(): void {
    this.#socket.cork()
    const isFull = (): boolean => this.#socket.writableNeedDrain
    const result = this.#handshake.advance(this.#reader, isFull)
    this.#socket.uncork()
    if (result?.kind === 'transmission') {
      this.#beginTransmission(result)
    } else if (result?.kind === 'starttls') {
      void this.#startTls()
    } else if (result !== undefined) {
      this.#options.log.debug(`${this.label}: ${result.reason}`)
      this.#endSocket()
    } else {
      // A client that asks and does not read the answers gets no more of them.
      this.#setReading(!isFull())
      if (this.#sawEnd && !isFull()) this.#endSocket()
    }
  }

  async #startTls(): Promise<void> {
    const { tls, log } = this.#options
    // What arrived in the clear must never be read as if it had come over TLS.
    if (tls === undefined || this.#reader.available > 0) {
      this.#drop('it did not wait for the answer to NBD_OPT_STARTTLS')
      return
    }
    const unsecured = this.#socket.off('end', this.#onEnd).off('data', this.#onData).off('drain', this.#onDrain)
    try {
      const secured = await tls.secure(unsecured)
      if (this.#ending) return
      log.info(`${this.label} uses ${secured.getProtocol() ?? 'TLS'}`)
      this.#socket = secured
      this.#handshake = this.#handshake.secured()
      this.#attach(secured)
    } catch (error) {
      if (!(error instanceof TlsError)) throw error
      if (!this.#ending) this.#drop(error.message)
    }
  }

  #beginTransmission(result: HandshakeResult & { kind: 'transmission' }): void {
    clearTimeout(this.#deadline)
    const { limits, budget, pool, buffers, pipes, idlePoll, log } = this.#options
    this.#exportName = result.export.name
    this.#readDirectly()
    this.#transmission = new Transmission({
      export: result.export,
      negotiated: result.negotiated,
      socket: this.#socket,
      reader: this.#reader,
      limits,
      budget,
      pool,
      buffers,
      pipes,
      idlePoll,
      log,
      client: this.label,
      onFailure: (failure) => {
        this.#options.onFailure(this, failure)
      },
      onProgress: this.#onProgress,
    })
    // That it has ended its side may have been seen already, behind answers of the handshake that it was slow to take.
    this.#onlyRepliesLeft = false
    if (this.#sawEnd) this.#awaitLastReplies()
    this.#options.onTransmission(this)
  }

  #readDirectly(): void {
    const inlet = new Inlet({
      buffers: this.#options.buffers,
      reader: this.#reader,
      express: () => (this.#ending ? undefined : this.#transmission?.express),
      onProgress: () => {
        this.#pump()
      },
    })
    const direct = readDirectly(this.#socket, inlet)
    if (direct === undefined) return
    this.#socket
      .off('close', this.#onClose)
      .off('end', this.#onEnd)
      .off('data', this.#onData)
      .off('drain', this.#onDrain)
    this.#inlet = inlet
    this.#socket = direct
    this.#attach(direct)
  }

  /** Progress matters to a connection that waits for it, not to one that waits for bytes. */
  readonly #onProgress = (): void => {
    if (!this.#reading || this.#sawEnd || this.#closed) this.#pump()
  }

  #transmit(transmission: Transmission): void {
    this.#inlet?.goOn()
    let state = transmission.advance()
    if (this.#inlet?.isWaiting && state === 'hungry') state = 'blocked'
    if (state === 'hungry' && this.#sawEnd) {
      transmission.end()
      state = 'ended'
    }
    this.#setReading(state === 'hungry')
    if (state !== 'ended') return
    this.#awaitLastReplies()
    if (transmission.requestsInFlight === 0) this.#endSocket()
  }

  #setReading(reading: boolean): void {
    if (reading === this.#reading) return
    this.#reading = reading
    if (reading) this.#socket.resume()
    else this.#socket.pause()
  }

  /** Closes once everything written has left. */
  #endSocket(): void {
    this.#ending = true
    this.#socket.destroySoon()
  }

  #drop(reason: string): void {
    this.#options.log.warn(`${this.label}: dropped: ${reason}`)
    this.destroy()
  }

  readonly #onClose = (): void => {
    if (this.#closed) return
    this.#closed = true
    this.#inlet?.close()
    clearTimeout(this.#deadline)
    this.#transmission?.end()
    this.#options.onClosed(this)
    this.#settleIfDone()
  }

  #settleIfDone(): void {
    if ((this.#transmission?.requestsInFlight ?? 0) === 0) this.#settle()
  }
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve: () => void = () => undefined
  const promise = new Promise<void>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}
