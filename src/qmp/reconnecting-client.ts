/**
 * `ReconnectingQmpClient`: as `QmpClient`, for servers that are restarted. Its event queues live on; `CONNECTION_LOST` and
 * `CONNECTION_RESTORED` stand in each of them, whatever its filter, where events were missed. Commands are never sent again by
 * themselves: whether the server has carried out the first one is not known.
 */

import type { BackOff } from './back-off.js'
import type { ConnectOptions, ExecuteOptions } from './client.js'
import { QmpConnectionError, QmpDisconnectedError } from './error.js'
import { EventQueue, eventFilter, type EventFilter } from './events.js'
import {
  CONNECTION_LOST,
  CONNECTION_RESTORED,
  timestamp,
  type JsonObject,
  type QmpEvent,
  type QmpGreeting,
} from './message.js'
import type { QmpPeer } from './peer.js'
import { StandingConnection } from './standing-connection.js'
import { formatAddress, type QmpAddress } from './transport.js'

export interface ReconnectOptions extends Omit<ConnectOptions, 'onEvent'> {
  readonly backOff?: BackOff
}

export class ReconnectingQmpClient implements QmpPeer {
  readonly #connection: StandingConnection
  readonly #where: string
  readonly #queues = new Set<EventQueue>()
  #greeting: QmpGreeting | undefined

  private constructor(address: QmpAddress, options: ReconnectOptions) {
    this.#where = formatAddress(address)
    this.#connection = new StandingConnection({
      ...options,
      address,
      reconnect: true,
      onEvent: (event) => {
        for (const queue of this.#queues) queue.offer(event)
      },
      onConnected: ({ greeting }) => {
        const isAgain = this.#greeting !== undefined
        this.#greeting = greeting
        if (isAgain) this.#mark(CONNECTION_RESTORED, { version: greeting.version })
      },
      onLost: (reason) => {
        this.#mark(CONNECTION_LOST, { reason: reason.message })
      },
    })
  }

  /**
   * Resolves when the server is there, however long that takes: `signal` ends the waiting.
   * @throws QmpConnectionError when `signal` fires
   */
  static async connect(address: QmpAddress, options: ReconnectOptions = {}): Promise<ReconnectingQmpClient> {
    const { signal } = options
    const client = new ReconnectingQmpClient(address, options)
    const onAbort = (): void => void client.close()
    if (signal?.aborted === true) onAbort()
    else signal?.addEventListener('abort', onAbort, { once: true })
    try {
      await client.connected
      return client
    } catch (cause) {
      throw signal?.aborted === true
        ? new QmpConnectionError(`connecting to ${client.#where} was aborted`, { cause: signal.reason })
        : cause
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  /** Of the server that is, or was last, connected. */
  get greeting(): QmpGreeting {
    if (this.#greeting === undefined) throw new QmpDisconnectedError(`${this.#where} was never connected`)
    return this.#greeting
  }

  get isConnected(): boolean {
    return this.#connection.client !== undefined
  }

  /** Resolves when there is a connection, at once if there is one. @throws QmpConnectionError after `close()` */
  get connected(): Promise<QmpGreeting> {
    return this.#connection.connected
  }

  /**
   * As `QmpClient.execute`.
   * @throws QmpDisconnectedError while there is no connection: the command was not sent
   */
  execute(command: string, args?: JsonObject, options?: ExecuteOptions): Promise<unknown> {
    const { client, isClosed } = this.#connection
    if (client !== undefined) return client.execute(command, args, options)
    const why = isClosed ? 'the client was closed' : 'the connection is being made again'
    return Promise.reject(new QmpDisconnectedError(`${command}: ${this.#where} is not connected: ${why}`))
  }

  /** As `QmpClient.events`; the queue gets `CONNECTION_LOST` and `CONNECTION_RESTORED`, too. */
  events(...names: (string | EventFilter)[]): EventQueue {
    const queue = new EventQueue(eventFilter(names), (closed) => this.#queues.delete(closed))
    if (this.#connection.isClosed) queue.fail(this.#closedError())
    else this.#queues.add(queue)
    return queue
  }

  async close(): Promise<void> {
    await this.#connection.close()
    for (const queue of this.#queues) queue.fail(this.#closedError())
    this.#queues.clear()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #mark(event: string, data: JsonObject): void {
    const marker: QmpEvent = { event, data, timestamp: timestamp(Date.now()) }
    for (const queue of this.#queues) queue.mark(marker)
  }

  #closedError(): QmpConnectionError {
    return new QmpConnectionError(`the connection to ${this.#where} was closed`)
  }
}
