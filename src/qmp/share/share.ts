/**
 * `QmpShare`: one connection to a QMP server, shared by many clients. QEMU's monitors serve one client at a time.
 *
 * Commands of different clients take turns, one at the server at a time, so that none with a long queue keeps the others waiting.
 * Every client gets every event. What the server knows by connection (file descriptors) is not to be had through a share.
 */

import { silentLog, type Log } from '../../util/log.js'
import type { BackOff } from '../back-off.js'
import type { RawCommand } from '../client.js'
import type { QmpConnection } from '../connection.js'
import { QmpReplyError, type QmpConnectionError, type QmpError } from '../error.js'
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
import { StandingConnection } from '../standing-connection.js'
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
  readonly #connection: StandingConnection
  readonly #where: string
  readonly #limits: ShareLimits
  readonly #recording: Recording | undefined
  readonly #log: Log
  readonly #clients = new Set<ShareClient>()
  readonly #turns: Turn[] = []
  #isTaken = false
  #wasLost = false
  #nextClientId = 1

  constructor({ address, reconnect = false, backOff, limits, recording, log = silentLog }: ShareOptions) {
    this.#where = formatAddress(address)
    this.#limits = { ...SHARE_LIMITS, ...limits }
    this.#recording = recording
    this.#log = log
    this.#connection = new StandingConnection({
      address,
      reconnect,
      backOff,
      oob: true,
      onEvent: (_, text) => {
        this.#broadcast(text)
      },
      onConnected: ({ greeting: { version } }) => {
        if (this.#wasLost) this.#emit(CONNECTION_RESTORED, { version })
      },
      onLost: ({ message }) => {
        this.#wasLost = true
        log.warn(`${message}; connecting again`)
        this.#emit(CONNECTION_LOST, { reason: message })
      },
      onFailure: ({ message }) => {
        if (reconnect) log.warn(`${message}; trying again`)
      },
    })
    this.closed = this.#connection.closed.then((reason) => {
      for (const client of this.#clients) client.close(CLOSE_GRACE_MS)
      return reason
    })
  }

  /** Resolves with the greeting of the server when it is connected; clients that come before wait for it. */
  get connected(): Promise<QmpGreeting> {
    return this.#connection.connected
  }

  get capabilities(): readonly string[] {
    return this.#connection.client?.greeting.capabilities ?? []
  }

  get clientCount(): number {
    return this.#clients.size
  }

  /**
   * Serves a client. Its connection should be `allowHalfOpen`.
   * @param mayBePage it comes over TCP, where a web page can pretend to be a client: whoever does not begin with JSON is left
   */
  accept(socket: QmpConnection, { mayBePage = false }: { readonly mayBePage?: boolean } = {}): void {
    if (this.#connection.isClosed || this.#clients.size >= this.#limits.clientsMax) {
      const reason = this.#connection.isClosed
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
    void client.serve(this.connected.then(formatGreeting))
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
    this.#recording?.add(direction, client.id, text)
  }

  /** Hangs up on the server and on all clients. */
  async close(): Promise<void> {
    await this.#connection.close()
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
    const { client: server } = this.#connection
    if (server === undefined) {
      onReply(formatError(new QmpReplyError(`${this.#where} is not connected: the command was not sent`)))
      return
    }
    server.relay(command, (reply) => {
      onReply(typeof reply === 'string' ? reply : formatError(lostReply(command, reply)))
    })
  }

  #emit(event: string, data: JsonObject): void {
    this.#broadcast(formatEvent({ event, data, timestamp: timestamp(Date.now()) }))
  }

  #broadcast(text: string): void {
    this.#recording?.add('event', undefined, text)
    const line = Buffer.from(`${text.trimEnd()}\r\n`)
    for (const client of this.#clients) client.sendEvent(line)
  }
}

const lostReply = ({ name }: RawCommand, error: QmpError): QmpReplyError =>
  new QmpReplyError(`${error.message}: whether ${name} was carried out is not known`)
