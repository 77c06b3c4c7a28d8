/**
 * `EventHook`: runs a command of the operator for each event. The event is in its environment and, as JSON, on its standard
 * input, never in its arguments. In the control thread, so that requests for the disk do not wait for it.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import type { JsonObject } from '../qmp/message.js'
import type { Log } from '../util/log.js'

export interface HookLimits {
  /** Commands that run at the same time. */
  readonly runningMax: number
  /** Events that wait for their turn; further ones are dropped, and told in the log. */
  readonly waitingMax: number
  /** A command that takes longer is killed, with all that it has started. */
  readonly msMax: number
}

export const HOOK_LIMITS: HookLimits = { runningMax: 4, waitingMax: 64, msMax: 30_000 }

export interface HookChoice {
  readonly command: string
  /** All events if absent. */
  readonly events: readonly string[] | undefined
}

interface HookedEvent {
  readonly event: string
  readonly data: JsonObject
  readonly timeMs: number
}

export class EventHook {
  readonly #choice: HookChoice
  readonly #log: Log
  readonly #limits: HookLimits
  readonly #waiting: HookedEvent[] = []
  readonly #running = new Set<ChildProcess>()
  #dropped = 0
  #isClosed = false

  constructor(choice: HookChoice, log: Log, limits: HookLimits = HOOK_LIMITS) {
    this.#choice = choice
    this.#log = log
    this.#limits = limits
  }

  /** Returns at once. */
  offer(event: string, data: JsonObject): void {
    const { events } = this.#choice
    if (this.#isClosed || (events && !events.includes(event))) return
    if (this.#waiting.length >= this.#limits.waitingMax) {
      if (this.#dropped++ === 0) this.#log.warn('--on-event: the command is too slow, events are dropped')
      return
    }
    this.#waiting.push({ event, data, timeMs: Date.now() })
    this.#next()
  }

  /** Kills what runs. */
  close(): void {
    this.#isClosed = true
    this.#waiting.length = 0
    for (const child of this.#running) kill(child)
  }

  #next(): void {
    if (this.#isClosed || this.#running.size >= this.#limits.runningMax) return
    const event = this.#waiting.shift()
    if (event) this.#run(event)
    else if (this.#dropped > 0) {
      this.#log.warn(`--on-event: ${this.#dropped} events were dropped`)
      this.#dropped = 0
    }
  }

  #run(hooked: HookedEvent): void {
    const { event, data, timeMs } = hooked
    const env = { ...process.env, NBD_REMAP_EVENT: event, ...variables(data) }
    // A group of its own, to be killed as one.
    const child = spawn('/bin/sh', ['-c', this.#choice.command], {
      env,
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    this.#running.add(child)
    const timer = setTimeout(() => {
      this.#log.warn(
        `--on-event: the command for ${event} took longer than ${this.#limits.msMax / 1000} s, and is killed`,
      )
      kill(child)
    }, this.#limits.msMax)
    const done = (how: string | undefined): void => {
      clearTimeout(timer)
      if (!this.#running.delete(child)) return
      if (how !== undefined && !this.#isClosed) this.#log.warn(`--on-event: the command for ${event} ${how}`)
      this.#next()
    }
    child.once('error', (error) => {
      done(`cannot be run: ${error.message}`)
    })
    child.once('exit', (code, signal) => {
      done(code === 0 ? undefined : `ended with ${signal ?? `exit code ${String(code)}`}`)
    })
    // It need not read.
    child.stdin.on('error', () => undefined)
    child.stdin.end(`${JSON.stringify({ event, data, time: new Date(timeMs).toISOString() })}\n`)
  }
}

/** `main-sector` is NBD_REMAP_MAIN_SECTOR. What is no plain value is JSON. */
const variables = (data: JsonObject): Record<string, string> =>
  Object.fromEntries(
    Object.entries(data).map(([name, value]) => [
      `NBD_REMAP_${name.replaceAll('-', '_').toUpperCase()}`,
      typeof value === 'string' ? value : JSON.stringify(value),
    ]),
  )

function kill(child: ChildProcess): void {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch {
    // It has ended meanwhile.
  }
}
