/**
 * `EventLog`: the events of all servers, machines and storage daemons of a lab in one list, kept from the beginning: who
 * waits for one says from which moment on it counts, so there is no race between a command and the event that it causes.
 */
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { QmpClient, QmpConnectionError, QmpTimeoutError, type QmpEvent } from '../../src/qmp/index.js'
import type { Timeline } from './timeline.js'

export interface LabEvent {
  readonly atMs: number
  /** Name of the server, machine or disk. */
  readonly from: string
  readonly event: string
  readonly data: Readonly<Record<string, unknown>>
}

/** A moment in the log. */
export type Moment = number

/** Beyond this the report says how many there were: a guest that writes to 10,000 bad blocks has as many events. */
const MARKS_PER_EVENT_MAX = 1000
const RECONNECT_MS = 20

interface Waiter {
  readonly wanted: (event: LabEvent) => boolean
  resolve(event: LabEvent): void
  reject(error: Error): void
}

export class EventLog {
  readonly #timeline: Timeline
  readonly #events: LabEvent[] = []
  readonly #waiters = new Set<Waiter>()
  readonly #counts = new Map<string, number>()

  constructor(timeline: Timeline) {
    this.#timeline = timeline
  }

  /** Events that come from now on are after it. */
  get now(): Moment {
    return this.#events.length
  }

  since(moment: Moment): readonly LabEvent[] {
    return this.#events.slice(moment)
  }

  add(from: string, { event, data }: Pick<QmpEvent, 'event' | 'data'>): void {
    const entry = { atMs: this.#timeline.now(), from, event, data }
    this.#events.push(entry)
    this.#mark(entry)
    for (const waiter of [...this.#waiters]) if (waiter.wanted(entry)) waiter.resolve(entry)
  }

  /**
   * The first event after `since` that is wanted, past or future.
   * @throws QmpTimeoutError that says what came instead
   */
  wait(wanted: (event: LabEvent) => boolean, since: Moment, timeoutMs: number, what: string): Promise<LabEvent> {
    const past = this.#events.slice(since).find(wanted)
    if (past !== undefined) return Promise.resolve(past)
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        done()
        const others = [...new Set(this.#events.slice(since).map(({ event }) => event))]
        const came = others.length === 0 ? 'no event came at all' : `these came: ${others.join(', ')}`
        reject(new QmpTimeoutError(`no event ${what} within ${timeoutMs} ms; ${came}`))
      }, timeoutMs)
      const done = (): void => {
        clearTimeout(timer)
        this.#waiters.delete(waiter)
      }
      const waiter: Waiter = {
        wanted,
        resolve: (event) => {
          done()
          resolve(event)
        },
        reject: (error) => {
          done()
          reject(error)
        },
      }
      this.#waiters.add(waiter)
    })
  }

  /** Milliseconds since the run began. */
  get nowMs(): number {
    return this.#timeline.now()
  }

  /** Who was away since then answers again. */
  isBack(from: string, sinceMs: number): void {
    const durationMs = this.nowMs - sinceMs
    this.#timeline.marks.push({ atMs: sinceMs, kind: 'restart', text: `${from}: answers again`, durationMs })
  }

  /** Whoever waits is told so. */
  close(): void {
    for (const waiter of [...this.#waiters]) waiter.reject(new QmpConnectionError('the lab was closed'))
  }

  #mark({ from, event, data, atMs }: LabEvent): void {
    const count = (this.#counts.get(event) ?? 0) + 1
    this.#counts.set(event, count)
    if (count > MARKS_PER_EVENT_MAX) return
    const kind = event === 'REMAP_ADDED' ? 'remap' : 'event'
    const more = count === MARKS_PER_EVENT_MAX ? ' (and more, which are not shown)' : ''
    this.#timeline.mark(kind, `${from}: ${eventText(event, data)}${more}`, atMs)
  }
}

/** A remap as a sentence: there are many, and they are what a reader looks for. Everything else as it came. */
function eventText(event: string, data: Readonly<Record<string, unknown>>): string {
  if (event !== 'REMAP_ADDED') return `${event}${details(data)}`
  const said = (key: string): string => String(data[key])
  return `sectors ${said('main-sector')}+${said('sectors')} are on ${path.basename(said('spare'))} (${said('reason')})`
}

const DETAILS_MAX = 120

function details(data: Readonly<Record<string, unknown>>): string {
  const words = Object.entries(data).map(([key, value]) => `${key}=${JSON.stringify(value)}`)
  const text = words.join(' ')
  return text === '' ? '' : ` ${text.length > DETAILS_MAX ? `${text.slice(0, DETAILS_MAX)}...` : text}`
}

/** Puts the events of one connection into the log until it ends. */
export async function follow(log: EventLog, from: string, client: QmpClient): Promise<void> {
  try {
    for await (const event of client.events()) log.add(from, event)
  } catch (error) {
    if (!(error instanceof QmpConnectionError)) throw error
  }
}

/** Puts the events of a control socket into the log, which is served by one worker after the other. */
export async function followAgain(log: EventLog, from: string, address: string, signal: AbortSignal): Promise<void> {
  let goneMs: number | undefined
  while (!signal.aborted) {
    try {
      const client = await QmpClient.connect(address, { signal })
      if (goneMs !== undefined) log.isBack(from, goneMs)
      const hangUp = (): void => void client.close()
      signal.addEventListener('abort', hangUp)
      await follow(log, from, client)
      goneMs = log.nowMs
      signal.removeEventListener('abort', hangUp)
      await client.close()
    } catch {
      // Nobody there at the moment.
    }
    await pause(RECONNECT_MS)
  }
}
