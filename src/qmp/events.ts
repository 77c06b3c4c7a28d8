/**
 * Events as queues. Open a queue BEFORE the command that causes the event and read it after: no race, no callback.
 * A queue that nobody reads forgets its oldest events, and the next read says how many with an `EVENTS_DROPPED` event.
 */

import { QmpError, QmpTimeoutError } from './error.js'
import { EVENTS_DROPPED, timestamp, type QmpEvent } from './message.js'

/** Which events a queue takes: all that are named, or all for which the predicate holds. */
export type EventFilter = (event: QmpEvent) => boolean

export interface NextOptions {
  /** How long to wait for an event; for ever when not given. */
  readonly timeoutMs?: number
}

export const QUEUED_EVENTS_MAX = 1000

/** No names: every event. */
export function eventFilter(names: readonly (string | EventFilter)[]): EventFilter {
  if (names.length === 0) return () => true
  return (event) => names.some((name) => (typeof name === 'string' ? name === event.event : name(event)))
}

interface Waiter {
  resolve(event: QmpEvent): void
  reject(error: Error): void
}

/** Made by `QmpClient.events()`. */
export class EventQueue implements AsyncIterable<QmpEvent> {
  readonly #filter: EventFilter
  readonly #eventsMax: number
  readonly #onClose: (queue: EventQueue) => void
  readonly #waiters = new Set<Waiter>()
  #events: QmpEvent[] = []
  #dropped = 0
  #end: Error | undefined
  #closed = false

  constructor(filter: EventFilter, onClose: (queue: EventQueue) => void, eventsMax = QUEUED_EVENTS_MAX) {
    this.#filter = filter
    this.#onClose = onClose
    this.#eventsMax = eventsMax
  }

  /**
   * The oldest event that was not taken yet.
   * @throws QmpTimeoutError when none comes in time
   * @throws QmpConnectionError when the connection has ended and nothing is left
   */
  next({ timeoutMs }: NextOptions = {}): Promise<QmpEvent> {
    const event = this.#shift()
    if (event !== undefined) return Promise.resolve(event)
    if (this.#end !== undefined) return Promise.reject(this.#end)
    return new Promise((resolve, reject) => {
      const timer =
        timeoutMs === undefined
          ? undefined
          : setTimeout(() => {
              waiter.reject(new QmpTimeoutError(`no event within ${timeoutMs} ms`))
            }, timeoutMs)
      const done = (): void => {
        clearTimeout(timer)
        this.#waiters.delete(waiter)
      }
      const waiter: Waiter = {
        resolve: (next) => {
          done()
          resolve(next)
        },
        reject: (error) => {
          done()
          reject(error)
        },
      }
      this.#waiters.add(waiter)
    })
  }

  /** Everything that has come so far, without waiting. */
  drain(): QmpEvent[] {
    const events = this.#dropped === 0 ? this.#events : [this.#takeMarker(), ...this.#events]
    this.#events = []
    return events
  }

  /** Ends when the queue is closed; throws as `next` does when the connection ends. */
  async *[Symbol.asyncIterator](): AsyncGenerator<QmpEvent, void, void> {
    while (!this.#closed || this.#events.length > 0) {
      try {
        yield await this.next()
      } catch (error) {
        if (this.#closed) return
        throw error
      }
    }
  }

  /** No more events are taken, and whoever waits is told so. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.fail(new QmpError('the event queue was closed'))
    this.#onClose(this)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  /** For the client: offers an event that has arrived. */
  offer(event: QmpEvent): void {
    if (this.#filter(event)) this.mark(event)
  }

  /** For the client: as `offer`, whatever the filter says. */
  mark(event: QmpEvent): void {
    if (this.#end !== undefined) return
    const [waiter] = this.#waiters
    if (waiter !== undefined) {
      waiter.resolve(event)
      return
    }
    this.#events.push(event)
    if (this.#events.length > this.#eventsMax) {
      this.#events.shift()
      this.#dropped++
    }
  }

  /** For the client: no event can come any more. */
  fail(error: Error): void {
    if (this.#end !== undefined) return
    this.#end = error
    for (const waiter of [...this.#waiters]) waiter.reject(error)
  }

  #shift(): QmpEvent | undefined {
    return this.#dropped > 0 ? this.#takeMarker() : this.#events.shift()
  }

  #takeMarker(): QmpEvent {
    const count = this.#dropped
    this.#dropped = 0
    return { event: EVENTS_DROPPED, data: { count }, timestamp: timestamp(Date.now()) }
  }
}
