/**
 * `QmpShare`: one connection to a QMP server, shared by many clients. QEMU's monitors serve one client at a time.
 *
 * Commands of different clients take turns, one at the server at a time, so that none with a long queue keeps the others waiting.
 * Every client gets every event. What the server knows by connection (file descriptors) is not to be had through a share.
 */

import { setTimeout as pause } from 'node:timers/promises'
import { messageOf } from '../../util/errors.js'
import { silentLog, type Log } from '../../util/log.js'
import { BACK_OFF, backOffMs, type BackOff } from '../back-off.js'
import { QmpClient, type RawCommand } from '../client.js'
import type { QmpConnection } from '../connection.js'
import { QmpConnectionError, QmpReplyError, type QmpError } from '../error.js'
import {
  CONNECTION_LOST,
  CONNECTION_RESTORED,
  formatError,
  formatEvent,
  formatGreeting,
  timestamp,
  type JsonObject,
  type QmpGreeting,
} from '../message.js'
import { formatAddress, type QmpAddress } from '../transport.js'
import type { Recording } from './recording.js'
import { ShareClient, type ShareClientLimits, type ShareHost } from './share-client.js'

export interface ShareLimits extends ShareClientLimits {
  /** Connections at the same time; further ones are told so and closed. */
  readonly clientsMax: number
}

export const SHARE_LIMITS: ShareLimits = {
  messageBytesMax: 4 * 1024 * 1024,
  depthMax: 64,
  queuedBytesMax: 1024 * 1024,
  commandsQueuedMax: 8,
  clientsMax: 32,
}

const CLOSE_GRACE_MS = 1000

export interface ShareOptions {
  readonly address: QmpAddress
  /** Connect again when the server hangs up, and keep trying when it is not there at first. */
  readonly reconnect?: boolean
  readonly backOff?: BackOff
  readonly limits?: Partial<ShareLimits>
  readonly recording?: Recording | undefined
  readonly log?: Log
}

interface Turn {
  readonly command: RawCommand
  readonly client: ShareClient
  onReply(text: string): void
}

export class QmpShare implements ShareHost {
  /** Resolves when there will be no server any more: with the reason, or undefined after `close()`. Never rejects. */
  readonly closed: Promise<QmpConnectionError | undefined>
  readonly #options: ShareOptions
  readonly #where: string
  readonly #limits: ShareLimits
  readonly #log: Log
  readonly #clients = new Set<ShareClient>()
  readonly #stop = new AbortController()
  readonly #turns: Turn[] = []
  #isTaken = false
  #nextClientId = 1
  #wasLost = false
  #server: QmpClient | undefined
  #connected = deferred<QmpGreeting>()
  #resolveClosed: (reason: QmpConnectionError | undefined) => void = () => undefined

  constructor(options: ShareOptions) {
    this.#options = options
    this.#where = formatAddress(options.address)
    this.#limits = { ...SHARE_LIMITS, ...options.limits }
    this.#log = options.log ?? silentLog
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve
    })
    void this.#stayConnected()
  }

  /** Resolves with the greeting of the server when it is connected; clients that come before wait for it. */
  get connected(): Promise<QmpGreeting> {
    return this.#connected.promise
  }

  get capabilities(): readonly string[] {
    return this.#server?.greeting.capabilities ?? []
  }

  get clientCount(): number {
    return this.#clients.size
  }

  /**
   * Serves a client. Its connection should be `allowHalfOpen`.
   * @param mayBePage it comes over TCP, where a web page can pretend to be a client: whoever does not begin with JSON is left
   */
  accept(socket: QmpConnection, { mayBePage = false }: { readonly mayBePage?: boolean } = {}): void {
    if (this.#stop.signal.aborted || this.#clients.size >= this.#limits.clientsMax) {
      const reason = this.#stop.signal.aborted
        ? 'shutting down'
        : `too many clients: ${this.#limits.clientsMax} is the limit`
      this.#log.warn(`a client was refused: ${reason}`)
      socket.on('error', () => undefined).write(formatError(new QmpReplyError(reason)))
      socket.destroySoon()
      return
    }
    const client = new ShareClient(this.#nextClientId++, socket, this.#limits, this, mayBePage)
    this.#clients.add(client)
    this.#log.debug(`client ${client.id} is there`)
    socket.once('close', () => {
      this.#clients.delete(client)
      this.#log.debug(`client ${client.id} is gone`)
    })
    // Rejects for a broken invariant only, which nobody should catch.
    void client.serve(this.#connected.promise.then(formatGreeting))
  }

  relay(command: RawCommand, client: ShareClient, onReply: (text: string) => void): void {
    if (command.key === 'exec-oob') {
      this.#send({ command, client, onReply }, onReply)
      return
    }
    this.#turns.push({ command, client, onReply })
    this.#takeTurn()
  }

  record(direction: 'command' | 'reply', client: ShareClient, text: string): void {
    this.#options.recording?.add(direction, client.id, text)
  }

  /** Hangs up on the server and on all clients. */
  async close(): Promise<void> {
    this.#stop.abort()
    await this.#server?.close()
    await this.closed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #takeTurn(): void {
    while (!this.#isTaken) {
      const turn = this.#turns.shift()
      if (turn === undefined) return
      // Nobody waits for it any more, so it is better not begun.
      if (turn.client.isGone) continue
      this.#isTaken = true
      this.#send(turn, (text) => {
        this.#isTaken = false
        turn.onReply(text)
        this.#takeTurn()
      })
    }
  }

  #send({ command }: Turn, onReply: (text: string) => void): void {
    if (this.#server?.isOpen !== true) {
      onReply(formatError(new QmpReplyError(`${this.#where} is not connected: the command was not sent`)))
      return
    }
    this.#server.relay(command, (reply) => {
      onReply(typeof reply === 'string' ? reply : formatError(lostReply(command, reply)))
    })
  }

  async #stayConnected(): Promise<void> {
    let reason: QmpConnectionError | undefined
    let failures = 0
    while (!this.#isStopping()) {
      try {
        reason = await this.#serveOnce()
        failures = 0
      } catch (error) {
        reason = connectionErrorOf(error)
        if (failures++ === 0 && this.#options.reconnect === true && !this.#isStopping())
          this.#log.warn(`${reason.message}; trying again`)
      }
      if (this.#options.reconnect !== true) break
      const waitMs = backOffMs(failures, this.#options.backOff ?? BACK_OFF)
      await pause(waitMs, undefined, { signal: this.#stop.signal }).catch(() => undefined)
    }
    this.#end(this.#isStopping() ? undefined : reason)
  }

  /** @returns how the connection ended. @throws QmpError when there was none */
  async #serveOnce(): Promise<QmpConnectionError | undefined> {
    const server = await QmpClient.connect(this.#options.address, {
      oob: true,
      signal: this.#stop.signal,
      onEventText: (text) => {
        this.#broadcast(text)
      },
    })
    this.#server = server
    const { version } = server.greeting
    if (this.#wasLost) this.#emit(CONNECTION_RESTORED, { version })
    this.#connected.resolve(server.greeting)
    const reason = await server.closed
    this.#server = undefined
    if (reason === undefined || this.#options.reconnect !== true) return reason
    this.#connected = deferred()
    this.#wasLost = true
    this.#log.warn(`${reason.message}; connecting again`)
    this.#emit(CONNECTION_LOST, { reason: reason.message })
    return reason
  }

  #isStopping(): boolean {
    return this.#stop.signal.aborted
  }

  #emit(event: string, data: JsonObject): void {
    this.#broadcast(formatEvent({ event, data, timestamp: timestamp(Date.now()) }))
  }

  #broadcast(text: string): void {
    this.#options.recording?.add('event', undefined, text)
    const line = Buffer.from(`${text.trimEnd()}\r\n`)
    for (const client of this.#clients) client.sendEvent(line)
  }

  #end(reason: QmpConnectionError | undefined): void {
    this.#stop.abort()
    this.#connected.reject(reason ?? new QmpConnectionError(`${this.#where} is not shared any more`))
    for (const client of this.#clients) client.close(CLOSE_GRACE_MS)
    this.#resolveClosed(reason)
  }
}

const connectionErrorOf = (error: unknown): QmpConnectionError =>
  error instanceof QmpConnectionError ? error : new QmpConnectionError(messageOf(error), { cause: error })

const lostReply = ({ name }: RawCommand, error: QmpError): QmpReplyError =>
  new QmpReplyError(`${error.message}: whether ${name} was carried out is not known`)

interface Deferred<T> {
  readonly promise: Promise<T>
  resolve(value: T): void
  reject(error: Error): void
}

/** A promise that may be rejected while nobody waits for it. */
function deferred<T>(): Deferred<T> {
  let resolve: (value: T) => void = () => undefined
  let reject: (error: Error) => void = () => undefined
  const promise = new Promise<T>((resolved, rejected) => {
    resolve = resolved
    reject = rejected
  })
  promise.catch(() => undefined)
  return { promise, resolve, reject }
}
