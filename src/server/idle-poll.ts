/**
 * `IdlePoll`: for a moment after a request the event loop goes on looking for the next one before it sleeps, for waking a
 * sleeping processor takes longer than a small request. A client that waits for each reply gets its next one sooner.
 *
 * That is worth something only while requests come one by one and soon after each other, which is why it is not done before
 * some have; and it costs something when others want the processor, which the scheduler tells, and ends it for a while.
 */
import { scheduling, type Scheduling } from '../util/scheduling.js'

/** Requests, each within so many windows of the one before: for as long as it sleeps, waking adds to the time between them. */
const STREAK_MIN = 16
const STREAK_WINDOWS = 4
/** So many windows in a row without a request end it for a while, which doubles until there is one. */
const MISSES_MAX = 4
const PAUSE_MIN_MS = 10
const PAUSE_MAX_MS = 1000
/** More at a time, and a reply for several leaves sooner if several can arrive. */
const REQUESTS_MAX = 2
/** How often the scheduler is asked, and from which share of the time on in its queue others want the processor. */
const LOOK_MS = 10
const QUEUED_SHARE_MAX = 0.1
const BUSY_PAUSE_MS = 200

export interface IdlePollParts {
  readonly nowMs: () => number
  readonly scheduling: () => Scheduling | undefined
  /** Calls back after one look for requests. */
  readonly next: (callback: () => void) => void
}

const PARTS: IdlePollParts = { nowMs: () => performance.now(), scheduling, next: setImmediate }

export class IdlePoll {
  readonly #windowMs: number
  readonly #parts: IdlePollParts
  #servedMs = -Infinity
  #streak = 0
  #isPolling = false
  #misses = 0
  #pauseMs = PAUSE_MIN_MS
  #pausedUntilMs = -Infinity
  #lookedMs = -Infinity
  #queuedMs = 0

  /** @param windowMs how long it polls; 0: never */
  constructor(windowMs: number, parts = PARTS) {
    this.#windowMs = windowMs
    this.#parts = parts
  }

  get isPolling(): boolean {
    return this.#isPolling
  }

  /** So many requests that had arrived together have been carried out. */
  served(requests: number): void {
    if (this.#windowMs === 0) return
    const nowMs = this.#parts.nowMs()
    const isSoon = requests <= REQUESTS_MAX && nowMs - this.#servedMs < this.#windowMs * STREAK_WINDOWS
    this.#streak = isSoon ? this.#streak + 1 : 0
    this.#servedMs = nowMs
    if (this.#isPolling) this.#hit()
    if (this.#streak < STREAK_MIN || this.#isPolling || nowMs < this.#pausedUntilMs || this.#isBusy(nowMs)) return
    this.#isPolling = true
    this.#parts.next(this.#poll)
  }

  readonly #poll = (): void => {
    const nowMs = this.#parts.nowMs()
    const isInTime = nowMs - this.#servedMs < this.#windowMs
    this.#isPolling = isInTime && this.#streak > 0 && !this.#isBusy(nowMs)
    if (this.#isPolling) this.#parts.next(this.#poll)
    else if (!isInTime) this.#miss(nowMs)
  }

  #hit(): void {
    this.#misses = 0
    this.#pauseMs = PAUSE_MIN_MS
  }

  #miss(nowMs: number): void {
    if (++this.#misses < MISSES_MAX) return
    this.#misses = 0
    this.#pausedUntilMs = nowMs + this.#pauseMs
    this.#pauseMs = Math.min(this.#pauseMs * 2, PAUSE_MAX_MS)
  }

  /** Somebody else wants the processor. */
  #isBusy(nowMs: number): boolean {
    const elapsedMs = nowMs - this.#lookedMs
    if (elapsedMs < LOOK_MS) return false
    const queuedMs = this.#parts.scheduling()?.queuedMs ?? 0
    const isBusy = elapsedMs < 2 * LOOK_MS && queuedMs - this.#queuedMs > elapsedMs * QUEUED_SHARE_MAX
    if (isBusy) this.#pausedUntilMs = nowMs + BUSY_PAUSE_MS
    this.#lookedMs = nowMs
    this.#queuedMs = queuedMs
    return isBusy
  }
}
