/**
 * `StandingConnection`: a connection to a QMP server that is made again when it is lost, if that is wanted, with growing pauses between
 * the attempts. Who uses it asks for `client` each time, and knows that it may be gone.
 */

import { setTimeout as pause } from 'node:timers/promises'
import { messageOf } from '../util/errors.js'
import { BACK_OFF, backOffMs, type BackOff } from './back-off.js'
import { QmpClient, type ConnectOptions } from './client.js'
import { QmpConnectionError } from './error.js'
import type { QmpGreeting } from './message.js'
import { formatAddress, type QmpAddress } from './transport.js'

export interface StandingConnectionOptions extends Omit<ConnectOptions, 'signal'> {
  readonly address: QmpAddress
  readonly reconnect: boolean
  readonly backOff?: BackOff | undefined
  /** Each time that it is made, and before `connected` resolves. */
  readonly onConnected?: (client: QmpClient) => void
  /** It was made, and it will be tried to make it again. */
  readonly onLost?: (reason: QmpConnectionError) => void
  /** Of several attempts in a row that fail, the first one. */
  readonly onFailure?: (reason: QmpConnectionError) => void
}

export class StandingConnection {
  /** Resolves when there will be no connection any more: with the reason, or undefined after `close()`. Never rejects. */
  readonly closed: Promise<QmpConnectionError | undefined>
  readonly #options: StandingConnectionOptions
  readonly #stop = new AbortController()
  #client: QmpClient | undefined
  #connected = deferred<QmpGreeting>()

  constructor(options: StandingConnectionOptions) {
    this.#options = options
    this.closed = this.#stayConnected()
  }

  /** The one that is open now. */
  get client(): QmpClient | undefined {
    return this.#client?.isOpen === true ? this.#client : undefined
  }

  /** Resolves when there is a connection; rejects with QmpConnectionError when there will never be one again. */
  get connected(): Promise<QmpGreeting> {
    return this.#connected.promise
  }

  get isClosed(): boolean {
    return this.#stop.signal.aborted
  }

  async close(): Promise<void> {
    this.#stop.abort()
    await this.#client?.close()
    await this.closed
  }

  async #stayConnected(): Promise<QmpConnectionError | undefined> {
    const { reconnect, backOff = BACK_OFF, onFailure } = this.#options
    let reason: QmpConnectionError | undefined
    let failures = 0
    while (!this.#isStopping()) {
      try {
        reason = await this.#connectOnce()
        failures = 0
      } catch (error) {
        reason = connectionErrorOf(error)
        if (failures++ === 0 && !this.#isStopping()) onFailure?.(reason)
      }
      if (!reconnect) break
      await pause(backOffMs(failures, backOff), undefined, { signal: this.#stop.signal }).catch(() => undefined)
    }
    const end = this.#isStopping() ? undefined : reason
    this.#stop.abort()
    this.#connected.reject(end ?? new QmpConnectionError(`the connection to ${this.#where} was closed`))
    return end
  }

  /** @returns how the connection ended. @throws QmpError when there was none */
  async #connectOnce(): Promise<QmpConnectionError | undefined> {
    const { address, reconnect, onConnected, onLost, ...options } = this.#options
    const client = await QmpClient.connect(address, { ...options, signal: this.#stop.signal })
    this.#client = client
    onConnected?.(client)
    this.#connected.resolve(client.greeting)
    const reason = await client.closed
    this.#client = undefined
    if (reason === undefined || !reconnect || this.#isStopping()) return reason
    this.#connected = deferred()
    onLost?.(reason)
    return reason
  }

  /** A method, since it changes while others are waited for. */
  #isStopping(): boolean {
    return this.#stop.signal.aborted
  }

  get #where(): string {
    return formatAddress(this.#options.address)
  }
}

const connectionErrorOf = (error: unknown): QmpConnectionError =>
  error instanceof QmpConnectionError ? error : new QmpConnectionError(messageOf(error), { cause: error })

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
