/**
 * One client of a monitor. Its commands are answered one after the other; nothing more is read from it while a command
 * runs or while it does not read its replies, so that a client can fill no memory but its own few named limits.
 */

import { once } from 'node:events'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { InvariantError } from '../util/assert.js'
import type { QmpConnection } from './connection.js'
import { QmpReplyError } from './error.js'
import { JsonSplitter, type Frame, type FramingLimits } from './framing.js'
import { formatError, formatReturn, parseCommand, parseRequest } from './message.js'
import { Outlet } from './outlet.js'

export interface MonitorClientLimits extends FramingLimits {
  /** Bytes of replies and events that wait for the client to read them, before events are dropped. */
  readonly queuedBytesMax: number
}

/** One chunk can hold thousands of commands, or of garbage: others get a turn in between. */
const ANSWERS_AT_A_TIME = 32

/** Runs a command and returns its result. @throws QmpReplyError and what handlers throw */
export type Execute = (name: string, args: Readonly<Record<string, unknown>>, client: MonitorClient) => unknown

export class MonitorClient {
  readonly id: number
  /** Left capabilities negotiation mode: takes commands and gets events. */
  negotiated = false
  readonly #socket: QmpConnection
  readonly #outlet: Outlet
  readonly #execute: Execute
  readonly #splitter: JsonSplitter
  /** Web pages can send what they like to a TCP port, but not without an HTTP header before it. */
  readonly #mayBePage: boolean
  #isFirst = true
  #busy = false
  #closing = false

  constructor(
    id: number,
    socket: QmpConnection,
    limits: MonitorClientLimits,
    execute: Execute,
    { mayBePage = false }: { readonly mayBePage?: boolean } = {},
  ) {
    this.id = id
    this.#mayBePage = mayBePage
    this.#socket = socket
    this.#outlet = new Outlet(socket, limits.queuedBytesMax)
    this.#execute = execute
    this.#splitter = new JsonSplitter(limits)
    socket.on('error', () => {
      // What is lost with the connection is the client's; `close` follows.
    })
  }

  /** Greets, answers, and returns when the client is gone. @throws InvariantError when a handler did */
  async serve(greeting: string): Promise<void> {
    this.#socket.write(greeting)
    try {
      // Replies still go out after the client has said its last word, as `echo ... | socat` does.
      const chunks = this.#socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>
      for await (const chunk of chunks) {
        let answered = 0
        for (const frame of this.#splitter.push(chunk)) {
          if (this.#closing) break
          await this.#answer(frame)
          if (this.#isForeign(frame)) {
            this.#socket.destroySoon()
            return
          }
          if (++answered % ANSWERS_AT_A_TIME === 0) await nextTurn()
        }
      }
      const last = this.#splitter.end()
      if (last !== undefined) await this.#answer(last)
      this.#socket.destroySoon()
    } catch (error) {
      this.#socket.destroy()
      if (error instanceof InvariantError) throw error
    }
  }

  /** Sends an event that was formatted once for all clients, or counts it as dropped. */
  sendEvent(text: Buffer): void {
    if (!this.negotiated || this.#closing) return
    this.#outlet.sendEvent(text)
  }

  /** Lets the running command finish and its reply leave, for `graceMs` at most. */
  async close(graceMs: number): Promise<void> {
    this.#closing = true
    if (this.#socket.closed) return
    const closed = once(this.#socket, 'close')
    const timer = setTimeout(() => this.#socket.destroy(), graceMs)
    if (!this.#busy) this.#socket.destroySoon()
    await closed
    clearTimeout(timer)
  }

  /** Speaks another protocol, to judge by its first word. */
  #isForeign(frame: Frame): boolean {
    const isFirst = this.#isFirst
    this.#isFirst = false
    return isFirst && this.#mayBePage && (frame.kind === 'broken' || !frame.text.startsWith('{'))
  }

  async #answer(frame: Frame): Promise<void> {
    this.#busy = true
    const reply = await this.#reply(frame)
    this.#busy = false
    if (this.#socket.destroyed) return
    this.#socket.write(reply)
    if (this.#closing) this.#socket.destroySoon()
    else await this.#outlet.room()
  }

  async #reply(frame: Frame): Promise<string> {
    let id: unknown
    try {
      if (frame.kind === 'broken') throw new QmpReplyError(`JSON parse error, ${frame.reason}`)
      const request = parseRequest(frame.text)
      id = request['id']
      const { name, arguments: args } = parseCommand(request)
      return formatReturn(await this.#execute(name, args, this), id)
    } catch (error) {
      if (error instanceof InvariantError) throw error
      return formatError(error instanceof QmpReplyError ? error : new QmpReplyError(messageOf(error)), id)
    }
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
