/**
 * One client of a shared monitor. Its commands go to the server one after the other, in its order, and no more of them are read than
 * a few: what it sends beyond that waits in its socket. Out-of-band commands overtake, as they do at the server.
 *
 * Nothing of a command but its frame is looked at, and its arguments pass as the text that they are.
 */

import { setImmediate as nextTurn } from 'node:timers/promises'
import { InvariantError } from '../../util/assert.js'
import type { RawCommand } from '../client.js'
import type { QmpConnection } from '../connection.js'
import { QmpReplyError } from '../error.js'
import { JsonSplitter, type Frame, type FramingLimits } from '../framing.js'
import { formatRawError, formatRawReply, parseCommand, parseRequest } from '../message.js'
import { Outlet } from '../outlet.js'
import { rawMembers } from '../raw-members.js'
import { abbreviate } from '../schema.js'

export interface ShareClientLimits extends FramingLimits {
  /** Bytes of replies and events that wait for the client to read them, before events are dropped. */
  readonly queuedBytesMax: number
  /** Commands of one client that wait for their turn; QEMU has as many. */
  readonly commandsQueuedMax: number
}

/** What the share does for its clients. */
export interface ShareHost {
  /** Of the server that is connected now. */
  readonly capabilities: readonly string[]
  /** Calls back once, when it is the command's turn and the server has answered, with the text of a reply. */
  relay(command: RawCommand, client: ShareClient, onReply: (text: string) => void): void
  record(direction: 'command' | 'reply', client: ShareClient, text: string): void
}

const NOT_NEGOTIATED = "Expecting capabilities negotiation with 'qmp_capabilities'"
const NEGOTIATED_ALREADY = 'Capabilities negotiation is already complete, command ignored'

/** What is done for a frame when its turn comes. */
type Step = (done: () => void) => void

export class ShareClient {
  readonly id: number
  readonly #socket: QmpConnection
  readonly #limits: ShareClientLimits
  readonly #host: ShareHost
  readonly #outlet: Outlet
  readonly #splitter: JsonSplitter
  readonly #mayBePage: boolean
  #steps: Step[] = []
  #onIdle: (() => void)[] = []
  #busy = false
  #negotiated = false
  #oob = false
  #isFirst = true
  #closing = false

  constructor(id: number, socket: QmpConnection, limits: ShareClientLimits, host: ShareHost, mayBePage: boolean) {
    this.id = id
    this.#socket = socket
    this.#limits = limits
    this.#host = host
    this.#outlet = new Outlet(socket, limits.queuedBytesMax)
    this.#splitter = new JsonSplitter(limits)
    this.#mayBePage = mayBePage
    socket.on('error', () => {
      // `close` follows.
    })
    socket.once('close', () => {
      this.#wake()
    })
  }

  get isGone(): boolean {
    return this.#socket.destroyed
  }

  /** Greets when the server has, and returns when the client has said its last word and has all its replies. */
  async serve(greeting: Promise<string>): Promise<void> {
    try {
      this.#socket.write(await greeting)
      const chunks = this.#socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>
      for await (const chunk of chunks) {
        for (const frame of this.#splitter.push(chunk)) {
          if (this.#closing || !(await this.#take(frame))) return
        }
        await nextTurn()
      }
      const last = this.#splitter.end()
      if (last !== undefined) await this.#take(last)
      await this.#room(0)
      this.#socket.destroySoon()
    } catch (error) {
      this.#socket.destroy()
      if (error instanceof InvariantError) throw error
    }
  }

  sendEvent(text: Buffer): void {
    if (this.#negotiated && !this.#closing) this.#outlet.sendEvent(text)
  }

  /** Hangs up when what was sent has left; after `graceMs` in any case. */
  close(graceMs: number): void {
    this.#closing = true
    this.#steps = []
    if (this.#socket.destroyed) return
    const timer = setTimeout(() => this.#socket.destroy(), graceMs).unref()
    this.#socket.once('close', () => {
      clearTimeout(timer)
    })
    this.#socket.destroySoon()
  }

  /** @returns false when the client speaks another protocol and was left */
  async #take(frame: Frame): Promise<boolean> {
    const isForeign = this.#isFirst && this.#mayBePage && (frame.kind === 'broken' || !frame.text.startsWith('{'))
    this.#isFirst = false
    const step = this.#understand(frame)
    if (step !== undefined) this.#steps.push(step)
    this.#work()
    if (isForeign) this.#socket.destroySoon()
    await this.#room(this.#limits.commandsQueuedMax)
    await this.#outlet.room()
    return !isForeign
  }

  /** @returns what to do in its turn; undefined when nothing is left to do */
  #understand(frame: Frame): Step | undefined {
    let id: string | undefined
    try {
      if (frame.kind === 'broken') throw new QmpReplyError(`JSON parse error, ${frame.reason}`)
      const request = parseRequest(frame.text)
      this.#host.record('command', this, frame.text)
      const members = rawMembers(frame.text)
      id = members.get('id')
      const key = this.#oob && 'exec-oob' in request ? 'exec-oob' : 'execute'
      const { name, arguments: args } = parseCommand(request, key)
      const command = { key, name: JSON.stringify(name), arguments: members.get('arguments') } as const
      const relay = (done: () => void): void => {
        this.#relay(command, id, done)
      }
      if (key === 'execute') {
        return (done) => {
          this.#execute(name, args, id, relay, done)
        }
      }
      relay(() => undefined)
      return undefined
    } catch (error) {
      const refusal = error instanceof QmpReplyError ? error : new QmpReplyError(String(error))
      return (done) => {
        this.#reply(formatRawError(refusal, id))
        done()
      }
    }
  }

  #execute(
    name: string,
    args: Readonly<Record<string, unknown>>,
    id: string | undefined,
    relay: Step,
    done: () => void,
  ): void {
    if (this.#negotiated && name !== 'qmp_capabilities') {
      relay(done)
      return
    }
    try {
      if (name !== 'qmp_capabilities') throw new QmpReplyError(NOT_NEGOTIATED, 'CommandNotFound')
      if (this.#negotiated) throw new QmpReplyError(NEGOTIATED_ALREADY, 'CommandNotFound')
      this.#negotiate(args['enable'] ?? [])
      this.#reply(formatRawReply('{"return": {}}', id))
    } catch (error) {
      if (!(error instanceof QmpReplyError)) throw error
      this.#reply(formatRawError(error, id))
    }
    done()
  }

  #negotiate(enable: unknown): void {
    if (!Array.isArray(enable)) throw new QmpReplyError("Invalid parameter type for 'enable', expected: array")
    for (const capability of enable as unknown[]) {
      if (typeof capability !== 'string' || !this.#host.capabilities.includes(capability)) {
        throw new QmpReplyError(`Capability '${abbreviate(String(capability))}' is not available`)
      }
    }
    this.#oob = enable.includes('oob')
    this.#negotiated = true
  }

  #relay(command: RawCommand, id: string | undefined, done: () => void): void {
    this.#host.relay(command, this, (reply) => {
      this.#reply(formatRawReply(reply, id))
      done()
    })
  }

  #reply(text: string): void {
    if (this.#socket.destroyed || this.#closing) return
    this.#host.record('reply', this, text)
    this.#socket.write(text)
  }

  /** One step at a time; the next one begins when the one before is answered. */
  #work(): void {
    if (this.#busy) return
    const step = this.#steps.shift()
    this.#wake()
    if (step === undefined) return
    this.#busy = true
    step(() => {
      this.#busy = false
      this.#work()
    })
  }

  #wake(): void {
    for (const resolve of this.#onIdle.splice(0)) resolve()
  }

  /** Resolves when fewer than `most` steps wait, or when none is left; or when the client is gone. */
  async #room(most: number): Promise<void> {
    while (!this.#socket.destroyed && (most === 0 ? this.#busy : this.#steps.length >= most)) {
      await new Promise<void>((resolve) => {
        this.#onIdle.push(resolve)
      })
    }
  }
}
