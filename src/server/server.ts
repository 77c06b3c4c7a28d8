/**
 * `NbdServer`: exports, where it listens, and the clients. Many clients may share an export; a client that misbehaves
 * costs its own connection and no other.
 */

import type { Socket } from 'node:net'
import { InvariantError } from '../util/assert.js'
import { canSplice } from '../util/pipe.js'
import { silentLog, type Log } from '../util/log.js'
import { Budget } from './budget.js'
import { BufferPool } from './buffer-pool.js'
import { Connection, type ClientInfo } from './connection.js'
import type { Export } from './export.js'
import { HotBuffers } from './hot-buffers.js'
import { IdlePoll } from './idle-poll.js'
import { DEFAULT_LIMITS, type Limits } from './limits.js'
import { Listener, type BoundAddress, type ListenAddress } from './listener.js'
import { PipePool } from './pipe-pool.js'
import type { ServerTls } from './starttls.js'
import type { RequestFailure } from './transmission.js'

export interface NbdServerOptions {
  /** At least one. The first is also the default export. */
  readonly exports: readonly Export[]
  readonly limits?: Partial<Limits>
  /** See `IdlePoll`; not at all when not given. */
  readonly pollMs?: number
  readonly log?: Log
  /** Without, clients that want TLS are refused. */
  readonly tls?: ServerTls
  /** A client has finished its handshake. */
  readonly onClientConnected?: (client: ClientInfo) => void
  /** A client is about to be told that the disk failed its request. Called on the data path: it must only pass on. */
  readonly onClientError?: (client: ClientInfo, failure: RequestFailure) => void
  /** The same client's socket is closed. */
  readonly onClientDisconnected?: (client: ClientInfo) => void
}

type Mutable<T> = { -readonly [Name in keyof T]: T[Name] }

export class NbdServer {
  readonly #options: NbdServerOptions
  readonly #limits: Mutable<Limits>
  readonly #log: Log
  readonly #budget: Budget
  readonly #pool = new BufferPool()
  readonly #buffers = new HotBuffers(this.#pool)
  readonly #pipes: PipePool
  readonly #idlePoll: IdlePoll
  readonly #listeners: Listener[] = []
  /** In order of arrival. Those whose socket is closed stay until they are settled. */
  readonly #connections = new Set<Connection>()
  #lastId = 0
  readonly #watch: NodeJS.Timeout
  #closing: Promise<void> | undefined

  constructor(options: NbdServerOptions) {
    if (options.exports.length === 0) throw new InvariantError('invariant broken: a server without exports')
    this.#options = options
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits }
    this.#log = options.log ?? silentLog
    this.#budget = new Budget(this.#limits)
    this.#pipes = new PipePool(this.#limits)
    // Asked now: to load what it needs takes longer than a request may.
    if (this.#limits.pipesMax > 0 && !canSplice()) {
      this.#log.info('long requests are copied: the optional package koffi cannot be loaded here')
    }
    this.#idlePoll = new IdlePoll(options.pollMs ?? 0)
    this.#watch = setInterval(() => {
      if (this.#budget.isContended) for (const connection of this.#connections) connection.dropIfStalled()
    }, this.#limits.stallTimeoutMs / 4)
    this.#watch.unref()
  }

  /** May be called several times. @returns the address as clients reach it. @throws ListenError */
  async listen(address: ListenAddress): Promise<BoundAddress> {
    const listener = await Listener.open(
      address,
      (socket) => {
        this.accept(socket)
      },
      this.#log,
    )
    if (this.#closing === undefined) this.#listeners.push(listener)
    else listener.close()
    return listener.address
  }

  /**
   * Serves a connected socket that somebody else accepted. Nothing may have been consumed of what the client sent; the
   * socket may be paused.
   */
  accept(socket: Socket): void {
    if (socket.destroyed) return
    if (this.#closing !== undefined || !this.#hasRoom()) {
      // Its errors, too, are nobody's business any more.
      socket.on('error', () => undefined)
      socket.destroy()
      return
    }
    const connection = new Connection(socket, {
      id: ++this.#lastId,
      exports: this.#options.exports,
      limits: this.#limits,
      budget: this.#budget,
      pool: this.#pool,
      buffers: this.#buffers,
      pipes: this.#pipes,
      idlePoll: this.#idlePoll,
      log: this.#log,
      tls: this.#options.tls,
      onTransmission: ({ info, label }) => {
        if (info === undefined) return
        this.#log.info(`${label} connected to export ${JSON.stringify(info.exportName)}`)
        this.#options.onClientConnected?.(info)
      },
      onFailure: ({ info }, failure) => {
        if (info !== undefined) this.#options.onClientError?.(info, failure)
      },
      onClosed: ({ info, label }) => {
        if (info === undefined) return
        this.#log.info(`${label} disconnected`)
        this.#options.onClientDisconnected?.(info)
      },
    })
    this.#connections.add(connection)
    void connection.settled.then(() => this.#connections.delete(connection))
  }

  /**
   * Other limits from now on; what is absent is back at its default. What a connection has begun it ends by the old ones:
   * its handshake, and how its requests are read.
   */
  setLimits(limits: Partial<Limits>): void {
    Object.assign(this.#limits, DEFAULT_LIMITS, limits)
  }

  /** Closes all connections, as if the network had; their requests are carried out and not answered. */
  dropClients(): void {
    for (const connection of this.#connections) connection.destroy()
  }

  /** Where it listens. */
  get addresses(): readonly BoundAddress[] {
    return this.#listeners.map(({ address }) => address)
  }

  /** Clients that have finished their handshake and are connected. */
  get clients(): readonly ClientInfo[] {
    return [...this.#connections].flatMap(({ isClosed, info }) => (isClosed ? [] : (info ?? [])))
  }

  /** Payload bytes that requests hold, as `bytesOwnMax` and `bytesSharedMax` bound them. */
  get bytesInFlight(): number {
    return this.#budget.held
  }

  /**
   * Accepts no more, finishes the requests that were received as a whole, answers them, and closes the sockets: a client
   * that finds its socket closed reconnects, while one that is told ESHUTDOWN fails. Resolves when the device works on
   * nothing any more, which a device that hangs can delay without end.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    for (const listener of this.#listeners) listener.close()
    const connections = [...this.#connections]
    for (const connection of connections) connection.finish()
    const deadline = setTimeout(() => {
      for (const connection of connections) connection.destroy()
    }, this.#limits.closeTimeoutMs)
    await Promise.all(connections.map(({ settled }) => settled))
    clearTimeout(deadline)
    clearInterval(this.#watch)
    this.#pipes.close()
  }

  /** When all places are taken, the oldest client still in its handshake makes room: it may never finish. */
  #hasRoom(): boolean {
    const leaving = [...this.#connections].filter(({ isLeaving }) => isLeaving).length
    if (this.#connections.size - leaving < this.#limits.clientsMax) return true
    const oldest = [...this.#connections].find(({ isHandshaking }) => isHandshaking)
    this.#log.warn(`more than ${this.#limits.clientsMax} clients: one ${oldest ? 'in its handshake ' : ''}is dropped`)
    oldest?.destroy()
    return oldest !== undefined
  }
}
