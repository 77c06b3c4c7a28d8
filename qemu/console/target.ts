/**
 * One server that the console talks to: its name, its connection while there is one, and what it says of itself. A connection
 * that was lost stays lost until somebody asks for it again.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { QmpClient } from '../../src/qmp/client.js'
import { QmpCommandError, QmpConnectionError, QmpProtocolError, QmpTimeoutError } from '../../src/qmp/error.js'
import type { EventQueue } from '../../src/qmp/events.js'
import type { JsonObject, QmpEvent } from '../../src/qmp/message.js'
import { loadSchema } from '../../src/qmp/schema-cache.js'
import type { QmpSchema } from '../../src/qmp/schema-model.js'
import { formatAddress, type QmpAddress } from '../../src/qmp/transport.js'
import { abortable } from '../../src/util/abortable.js'
import { messageOf } from '../../src/util/errors.js'
import { questionsFor, type LiveKind } from './live-names.js'

export type Program = 'qemu' | 'qsd' | 'nbd-remap'

/** Somebody pressed Ctrl-C. */
export class InterruptedError extends Error {
  override name = 'InterruptedError'
}

export interface TargetListener {
  event(target: Target, event: QmpEvent): void
  /** The connection that there was is lost. */
  lost(target: Target, reason: string, redials: boolean): void
  back(target: Target): void
}

export interface TargetOptions {
  readonly name?: string | undefined
  readonly address: QmpAddress
  /** Dial again by itself when the connection is lost. */
  readonly redial: boolean
  /** For a reply; `Infinity`: no limit. */
  readonly timeoutMs: number
}

const REDIAL_PAUSE_MS = 500
/** Completion that takes longer is none. */
const LOOKUP_TIMEOUT_MS = 1000
/** Events that no `wait` has looked at; older ones are forgotten. */
const UNSEEN_EVENTS_MAX = 10_000

export class Target {
  /** The address, until all are known and have names. */
  name: string
  program: Program = 'qemu'
  version = ''
  schema: QmpSchema | undefined
  readonly #options: TargetOptions
  readonly #listener: TargetListener
  readonly #unseen: QmpEvent[] = []
  readonly #left = new AbortController()
  #client: QmpClient | undefined
  #away: string | undefined = 'it was never there'
  #wake: () => void = () => undefined
  #redialing: Promise<void> | undefined

  constructor(options: TargetOptions, listener: TargetListener) {
    this.#options = options
    this.name = options.name ?? formatAddress(options.address)
    this.#listener = listener
  }

  get address(): string {
    return formatAddress(this.#options.address)
  }

  /** Why there is no connection; undefined while there is one. */
  get away(): string | undefined {
    return this.#away
  }

  /** `QEMU 7.2.22`, for people. */
  get description(): string {
    return `${{ qemu: 'QEMU', qsd: 'QEMU storage daemon', 'nbd-remap': 'nbd-remap' }[this.program]} ${this.version}`
  }

  /** @throws QmpError when nobody answers, with the reason in words */
  async connect(signal?: AbortSignal): Promise<void> {
    await this.#client?.close()
    const aborted = signal === undefined ? this.#left.signal : AbortSignal.any([signal, this.#left.signal])
    let client: QmpClient
    try {
      client = await QmpClient.connect(this.#options.address, { oob: true, signal: aborted })
    } catch (error) {
      this.#away = messageOf(error)
      throw error
    }
    // Before the first command, so that none of the events is missed.
    const events = client.events()
    await this.#introduce(client)
    this.#client = client
    this.#away = undefined
    void this.#listen(client, events)
  }

  /** As `connect`; a target that is being dialled already is waited for. */
  async reconnect(signal?: AbortSignal): Promise<void> {
    if (this.#redialing === undefined) await this.connect(signal)
    else await interruptible(this.#redialing, signal)
  }

  /**
   * @throws QmpCommandError when it refuses
   * @throws QmpConnectionError when it is away, or goes away before the reply
   * @throws QmpTimeoutError, InterruptedError when the reply is not waited for any longer
   */
  async execute(
    command: string,
    args: JsonObject,
    { oob = false, signal }: { oob?: boolean; signal?: AbortSignal } = {},
  ) {
    const client = await this.#present(signal)
    try {
      return await interruptible(client.execute(command, args, { timeoutMs: this.#options.timeoutMs, oob }), signal)
    } catch (error) {
      if (error instanceof QmpConnectionError) this.#lose(client, error.message)
      throw uncertain(
        error,
        `${this.name} may still carry ${command} out`,
        `whether it carried ${command} out is not known`,
      )
    }
  }

  /** The first event that came since the last wait, or comes. @throws QmpTimeoutError, QmpConnectionError, InterruptedError */
  async wait(matches: (event: QmpEvent) => boolean, timeoutMs: number, signal?: AbortSignal): Promise<QmpEvent> {
    const deadline = performance.now() + timeoutMs
    for (;;) {
      const index = this.#unseen.findIndex(matches)
      const event = this.#unseen[index]
      if (event !== undefined) {
        this.#unseen.splice(0, index + 1)
        return event
      }
      if (this.#away !== undefined) throw new QmpConnectionError(`${this.name} is away: ${this.#away}`)
      const leftMs = deadline - performance.now()
      const seconds = timeoutMs / 1000
      if (!(leftMs > 0)) throw new QmpTimeoutError(`no such event came within ${seconds} s`)
      await interruptible(this.#nextEvent(leftMs), signal)
    }
  }

  /** Names for completion; none when it does not answer at once. */
  async lookUp(kind: LiveKind, prefix: string): Promise<string[]> {
    const client = this.#client
    if (client === undefined || this.#away !== undefined) return []
    const ask = async (command: string, args: JsonObject, pick: (answer: unknown) => string[]): Promise<string[]> => {
      try {
        return pick(await client.execute(command, args, { timeoutMs: LOOKUP_TIMEOUT_MS }))
      } catch {
        return []
      }
    }
    const questions = questionsFor(kind, prefix).filter(({ command }) => this.schema?.commands.has(command) ?? true)
    const answers = await Promise.all(
      questions.map(({ command, arguments: args = {}, pick }) => ask(command, args, pick)),
    )
    return answers.flat()
  }

  async close(): Promise<void> {
    this.#left.abort()
    await this.#client?.close()
    await this.#redialing
  }

  async #introduce(client: QmpClient): Promise<void> {
    const { qemu, package: name } = client.greeting.version
    try {
      this.schema = await loadSchema(client)
    } catch (error) {
      // Without it there is no completion, and all the rest works.
      if (!(error instanceof QmpCommandError || error instanceof QmpProtocolError)) {
        await client.close()
        throw error
      }
      this.schema = undefined
    }
    this.program = programOf(name, this.schema)
    this.version = `${qemu.major}.${qemu.minor}.${qemu.micro}`
  }

  /** With `redial` a target that is away is waited for. */
  async #present(signal: AbortSignal | undefined): Promise<QmpClient> {
    if (this.#redialing !== undefined) await interruptible(this.#redialing, signal)
    if (this.#client === undefined || this.#away !== undefined)
      throw new QmpConnectionError(`${this.name} is away: ${this.#away ?? ''} (reconnect ${this.name} dials again)`)
    return this.#client
  }

  async #listen(client: QmpClient, events: EventQueue): Promise<void> {
    try {
      for await (const event of events) {
        this.#unseen.push(event)
        if (this.#unseen.length > UNSEEN_EVENTS_MAX) this.#unseen.shift()
        this.#listener.event(this, event)
        this.#wake()
      }
    } catch {
      // `closed` has the reason.
    }
    const reason = await client.closed
    if (reason !== undefined) this.#lose(client, reason.message)
  }

  /** Whoever notices first. */
  #lose(client: QmpClient, reason: string): void {
    if (client !== this.#client || this.#away !== undefined) return
    this.#away = reason
    this.#wake()
    this.#listener.lost(this, reason, this.#options.redial)
    if (this.#options.redial) this.#startRedial()
  }

  /** Dials until somebody answers. */
  #startRedial(): void {
    this.#redialing ??= this.#redial().finally(() => (this.#redialing = undefined))
  }

  async #redial(): Promise<void> {
    const { signal } = this.#left
    while (!signal.aborted) {
      try {
        await this.connect()
        this.#listener.back(this)
        return
      } catch {
        await pause(REDIAL_PAUSE_MS, undefined, { signal }).catch(() => undefined)
      }
    }
  }

  #nextEvent(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = Number.isFinite(timeoutMs) ? setTimeout(resolve, timeoutMs) : undefined
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}

/** Greetings are alike: QEMU's own programs differ in what they can do. */
function programOf(name: string, schema: QmpSchema | undefined): Program {
  if (name.startsWith('nbd-remap')) return 'nbd-remap'
  return schema !== undefined && !schema.commands.has('query-status') ? 'qsd' : 'qemu'
}

/** Of an error that leaves open what became of a command: the same, and saying so. */
function uncertain(error: unknown, mayHappen: string, mayHaveHappened: string): unknown {
  if (error instanceof InterruptedError) return new InterruptedError(`${error.message}; ${mayHappen}`)
  if (error instanceof QmpTimeoutError) return new QmpTimeoutError(`${error.message}; ${mayHappen}`)
  if (error instanceof QmpConnectionError) return new QmpConnectionError(`${error.message}; ${mayHaveHappened}`)
  return error
}

const interruptible = <T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> =>
  signal === undefined ? work : abortable(work, signal, () => new InterruptedError('interrupted'))
