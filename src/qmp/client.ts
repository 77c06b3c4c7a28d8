/**
 * `QmpClient`: one connection to a QMP server, negotiated and ready. Commands may be pipelined; replies are matched by
 * id, so that out-of-band commands may overtake. A command that timed out here may still be carried out there.
 *
 * QEMU's own monitors serve one client at a time: a second one connects but gets no greeting until the first leaves.
 */

import type { QmpConnection } from './connection.js'
import { QmpCommandError, QmpConnectionError, type QmpError, QmpProtocolError, QmpTimeoutError } from './error.js'
import { EventQueue, eventFilter, type EventFilter } from './events.js'
import { JsonSplitter } from './framing.js'
import {
  formatCommand,
  formatRawCommand,
  parseServerMessage,
  type JsonObject,
  type QmpEvent,
  type QmpGreeting,
  type ServerMessage,
} from './message.js'
import { formatAddress, openConnection, type QmpAddress } from './transport.js'

export const CONNECT_TIMEOUT_MS = 10_000
export const EXECUTE_TIMEOUT_MS = 60_000
/** QEMU's longest reply, to query-qmp-schema, has 200 KiB; a long remap table has more. */
export const REPLY_BYTES_MAX = 64 * 1024 * 1024
export const REPLY_DEPTH_MAX = 1024
/** QEMU's has 150 bytes. Whoever sends more before it is not worth the memory. */
export const GREETING_BYTES_MAX = 64 * 1024

export interface ConnectOptions {
  /** Until the connection is negotiated, not only accepted. Default `CONNECT_TIMEOUT_MS`. */
  readonly connectTimeoutMs?: number
  readonly signal?: AbortSignal
  /** Ask for out-of-band execution if the server offers it. */
  readonly oob?: boolean
  /** Called with each event, and the text that it came as, before the queues have it. */
  readonly onEvent?: (event: QmpEvent, text: string) => void
}

export interface ExecuteOptions {
  /** Default `EXECUTE_TIMEOUT_MS`; `Infinity` waits for ever. */
  readonly timeoutMs?: number
  /** Send as `exec-oob`: the server runs it at once, even while another command hangs. */
  readonly oob?: boolean
}

/** A command as text, to be passed on: see `relay`. */
export interface RawCommand {
  readonly key: 'execute' | 'exec-oob'
  /** JSON, with its quotes. */
  readonly name: string
  /** JSON. */
  readonly arguments: string | undefined
}

interface Pending {
  readonly command: string
  /** Wants the text of the reply, and nothing else. */
  readonly onText?: (text: string) => void
  resolve(value: unknown): void
  reject(error: QmpError): void
}

export class QmpClient {
  /** Resolves when the connection has ended: with the reason, or undefined after `close()`. Never rejects. */
  readonly closed: Promise<QmpConnectionError | undefined>
  readonly #socket: QmpConnection
  readonly #where: string
  readonly #splitter = new JsonSplitter({ messageBytesMax: GREETING_BYTES_MAX, depthMax: REPLY_DEPTH_MAX })
  readonly #pending = new Map<number, Pending>()
  readonly #queues = new Set<EventQueue>()
  readonly #onEvent: ConnectOptions['onEvent']
  #greeting: QmpGreeting | undefined
  #onGreeting: Pending | undefined
  #nextId = 1
  #end: QmpConnectionError | undefined
  #closing = false

  private constructor(socket: QmpConnection, where: string, onEvent: ConnectOptions['onEvent']) {
    this.#socket = socket
    this.#where = where
    this.#onEvent = onEvent
    let reason: Error | undefined
    socket.on('data', (chunk: Buffer) => {
      this.#receive(chunk)
    })
    socket.on('error', (error) => (reason = error))
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.#fail(new QmpConnectionError(this.#endMessage(reason), { cause: reason }))
        resolve(this.#closing ? undefined : this.#end)
      })
    })
  }

  /**
   * Connects, waits for the greeting, and leaves capabilities negotiation mode.
   * @throws QmpConnectionError when nobody listens, the server hangs up or refuses, or `signal` fires
   * @throws QmpTimeoutError when that takes longer than `connectTimeoutMs`
   * @throws QmpProtocolError when the peer does not speak QMP
   */
  static async connect(address: QmpAddress, options: ConnectOptions = {}): Promise<QmpClient> {
    const { connectTimeoutMs = CONNECT_TIMEOUT_MS, signal } = options
    const startedMs = performance.now()
    const limits = { timeoutMs: connectTimeoutMs, signal, messageBytesMax: REPLY_BYTES_MAX }
    const socket = await openConnection(address, limits)
    const spentMs = performance.now() - startedMs
    return QmpClient.attach(socket, formatAddress(address), {
      ...options,
      connectTimeoutMs: Math.max(0, connectTimeoutMs - spentMs),
    })
  }

  /**
   * As `connect`, over a socket that is connected already: QEMU can dial its client (a chardev without `server=on`),
   * and then there is no moment at which its socket exists but nobody listens yet.
   * @param name of the server, for messages
   */
  static async attach(socket: QmpConnection, name: string, options: ConnectOptions = {}): Promise<QmpClient> {
    const { connectTimeoutMs = CONNECT_TIMEOUT_MS, signal, oob = false, onEvent } = options
    const deadline = performance.now() + connectTimeoutMs
    const client = new QmpClient(socket, name, onEvent)
    const onAbort = (): void => {
      client.#fail(new QmpConnectionError(`connecting to ${client.#where} was aborted`, { cause: signal?.reason }))
    }
    if (signal?.aborted === true) onAbort()
    else signal?.addEventListener('abort', onAbort, { once: true })
    try {
      const greeting = await client.#awaitGreeting(deadline - performance.now())
      const enable = oob && greeting.capabilities.includes('oob') ? { enable: ['oob'] } : undefined
      await client.execute('qmp_capabilities', enable, { timeoutMs: deadline - performance.now() })
      return client
    } catch (error) {
      await client.close()
      throw error
    } finally {
      signal?.removeEventListener('abort', onAbort)
    }
  }

  /** Neither closed nor lost. */
  get isOpen(): boolean {
    return this.#end === undefined
  }

  /** What the server said of itself. */
  get greeting(): QmpGreeting {
    if (this.#greeting === undefined) throw new QmpProtocolError(`${this.#where} has sent no greeting`)
    return this.#greeting
  }

  /**
   * Sends a command and waits for its reply. Calls need not wait for one another.
   * @returns the `return` member of the reply
   * @throws QmpCommandError when the server answers with an error
   * @throws QmpTimeoutError when no reply comes in time; a later one is ignored
   * @throws QmpConnectionError when the connection ends first
   */
  execute(command: string, args?: JsonObject, options: ExecuteOptions = {}): Promise<unknown> {
    const { timeoutMs = EXECUTE_TIMEOUT_MS, oob = false } = options
    if (this.#end !== undefined) return Promise.reject(this.#end)
    const id = this.#nextId++
    const text = formatCommand(oob ? 'exec-oob' : 'execute', command, args, id)
    const reply = new Promise<unknown>((resolve, reject) => {
      this.#pending.set(id, this.#withDeadline(id, command, timeoutMs, resolve, reject))
    })
    this.#socket.write(text)
    return reply
  }

  /**
   * Sends a command as it is. Numbers beyond 2^53, in it or in the reply, stay what they are.
   * @param onReply gets the text of the reply, error or not, in the order of replies and events; or why there will be none
   */
  relay(command: RawCommand, onReply: (reply: string | QmpError) => void): void {
    if (this.#end !== undefined) {
      onReply(this.#end)
      return
    }
    const id = this.#nextId++
    this.#pending.set(id, {
      command: command.name,
      onText: onReply,
      resolve: () => undefined,
      reject: (error) => {
        onReply(error)
      },
    })
    this.#socket.write(formatRawCommand(command.key, command.name, command.arguments, id))
  }

  /** A queue of the events with these names, or for which a predicate holds; of all events when called without. */
  events(...names: (string | EventFilter)[]): EventQueue {
    const queue = new EventQueue(eventFilter(names), (closed) => this.#queues.delete(closed))
    if (this.#end === undefined) this.#queues.add(queue)
    else queue.fail(this.#end)
    return queue
  }

  /** Hangs up. Commands still waiting for a reply fail with `QmpConnectionError`. */
  async close(): Promise<void> {
    this.#closing ||= this.#end === undefined
    this.#fail(new QmpConnectionError(`the connection to ${this.#where} was closed`))
    await this.closed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  #withDeadline(
    id: number,
    command: string,
    timeoutMs: number,
    resolve: (value: unknown) => void,
    reject: (error: Error) => void,
  ): Pending {
    if (!Number.isFinite(timeoutMs)) return { command, resolve, reject }
    const timer = setTimeout(() => {
      this.#pending.delete(id)
      reject(new QmpTimeoutError(`${command}: no reply from ${this.#where} within ${Math.round(timeoutMs)} ms`))
    }, timeoutMs)
    return {
      command,
      resolve: (value) => {
        clearTimeout(timer)
        resolve(value)
      },
      reject: (error) => {
        clearTimeout(timer)
        reject(error)
      },
    }
  }

  #awaitGreeting(timeoutMs: number): Promise<QmpGreeting> {
    return new Promise((resolve, reject) => {
      if (this.#greeting !== undefined) {
        resolve(this.#greeting)
        return
      }
      const timer = setTimeout(() => {
        reject(new QmpTimeoutError(`no greeting from ${this.#where} (is another client connected to it?)`))
      }, timeoutMs)
      this.#onGreeting = {
        command: 'greeting',
        resolve: () => {
          clearTimeout(timer)
          resolve(this.greeting)
        },
        reject: (error) => {
          clearTimeout(timer)
          reject(error)
        },
      }
      if (this.#end !== undefined) this.#onGreeting.reject(this.#end)
    })
  }

  #receive(chunk: Buffer): void {
    try {
      for (const frame of this.#splitter.push(chunk)) {
        if (this.#end !== undefined) return
        if (frame.kind === 'broken') throw new QmpProtocolError(frame.reason)
        this.#dispatch(parseServerMessage(frame.text), frame.text)
      }
    } catch (error) {
      if (!(error instanceof QmpConnectionError)) throw error
      this.#fail(new QmpProtocolError(`${this.#where} does not speak QMP: ${error.message}`, { cause: error }))
    }
  }

  #dispatch(message: ServerMessage, text: string): void {
    switch (message.kind) {
      case 'greeting':
        this.#greeting = message.greeting
        this.#splitter.limits = { messageBytesMax: REPLY_BYTES_MAX, depthMax: REPLY_DEPTH_MAX }
        this.#onGreeting?.resolve(message.greeting)
        return
      case 'event':
        this.#onEvent?.(message.event, text)
        for (const queue of this.#queues) queue.offer(message.event)
        return
      case 'return': {
        const pending = this.#take(message.id)
        if (pending?.onText) pending.onText(text)
        else pending?.resolve(message.value)
        return
      }
      case 'error': {
        if (message.id === undefined && this.#greeting !== undefined && this.#answerOldestRelay(text)) return
        if (message.id === undefined) {
          // Instead of a greeting, or to a command that the server could not even parse: nobody's reply.
          this.#fail(new QmpConnectionError(`${this.#where} refuses: ${message.desc}`))
          return
        }
        const pending = this.#take(message.id)
        if (pending?.onText) pending.onText(text)
        else pending?.reject(new QmpCommandError(pending.command, message.errorClass, message.desc))
      }
    }
  }

  /** What is passed on may be JSON to us and not to the server, which then does not know its id: replies come in order. */
  #answerOldestRelay(text: string): boolean {
    const [oldest] = this.#pending
    if (oldest?.[1].onText === undefined) return false
    this.#pending.delete(oldest[0])
    oldest[1].onText(text)
    return true
  }

  #take(id: unknown): Pending | undefined {
    if (typeof id !== 'number') return undefined
    const pending = this.#pending.get(id)
    this.#pending.delete(id)
    return pending
  }

  #endMessage(reason: Error | undefined): string {
    return reason === undefined ? `${this.#where} hung up` : `connection to ${this.#where} lost: ${reason.message}`
  }

  #fail(error: QmpConnectionError): void {
    if (this.#end !== undefined) return
    this.#end = error
    this.#onGreeting?.reject(error)
    for (const pending of this.#pending.values()) pending.reject(error)
    this.#pending.clear()
    for (const queue of this.#queues) queue.fail(error)
    this.#queues.clear()
    this.#socket.destroy()
  }
}
