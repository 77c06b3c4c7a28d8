/**
 * `Pace`: whether requests of one kind go to a local disk synchronously or through the thread pool. A synchronous read
 * from the page cache costs a tenth of one through the pool, but while the disk is slow nothing else is served. Pure: the
 * times come from the caller, and what the scheduler did from a function.
 *
 * What counts is the share of time that is lost in slow calls, not any single one: on a busy machine the scheduler takes
 * the processor away in the middle of a call now and then, and a disk that answers a thousand requests from memory for
 * each one that it has to fetch is still faster without the pool. So slow calls draw on an allowance that refills with
 * time, and when it is used up the disk is in doubt: for a while, the scheduler is asked what it did during slow calls, and
 * only those count in which the thread slept of its own. When they use up a small allowance, the pool takes over. From
 * there the disk is tried again, in doubt, after a pause, which doubles for as long as it turns out to be slow soon after.
 */
import type { Scheduling } from '../util/scheduling.js'

/** A call longer than this, and a nanosecond more for each byte, waited for the disk and not for memory. */
const SLOW_MS = 0.05
const SLOW_MS_PER_BYTE = 1e-6
/** Half of the time may be lost in slow calls, and this much at once. */
const ALLOWANCE_SHARE = 0.5
const ALLOWANCE_MAX_MS = 8
/** What a disk in doubt has: one call that waits for a device uses it up. */
const ALLOWANCE_IN_DOUBT_MS = 0.5
const DOUBT_MS = 1000
/** A call as long as this leaves no doubt. */
const HANG_MS = 100
export const PAUSE_MIN_MS = 100
export const PAUSE_MAX_MS = 10_000
/** While the pool has had no answer for this long, trying the disk would mean waiting with it. */
const ANSWER_OVERDUE_MS = 20

export class Pace {
  #isSynchronous = true
  #allowanceMs = ALLOWANCE_MAX_MS
  /** When the allowance was last brought up to date. */
  #accountedMs = 0
  #pauseMs = PAUSE_MIN_MS
  /** Of the last change between synchronous and pool. */
  #changedMs = 0
  #inPool = 0
  /** When the pool last answered, or had nothing to do. */
  #answeredMs = 0
  /** Of the synchronous call that goes on. */
  #startMs = 0
  #before: Scheduling | undefined
  #isInDoubt = false
  #doubtEndMs = 0
  readonly #scheduling: () => Scheduling | undefined

  /** @param scheduling of the calling thread. Asked in doubt only: it may take a microsecond */
  constructor(scheduling: () => Scheduling | undefined = () => undefined) {
    this.#scheduling = scheduling
  }

  /**
   * Whether the next call should be a synchronous one; then it begins now, and `end` follows. Times are in milliseconds,
   * on any steady clock.
   */
  begin(nowMs: number): boolean {
    if (!this.#isSynchronous && !this.#mayTry(nowMs)) return false
    this.#startMs = nowMs
    if (this.#isInDoubt) this.#lookAround(nowMs)
    return true
  }

  /** The synchronous call, of so many bytes, is done. @returns how long it took */
  end(nowMs: number, bytes: number): number {
    const startMs = this.#startMs
    const limitMs = SLOW_MS + bytes * SLOW_MS_PER_BYTE
    if (nowMs - startMs > limitMs && this.#hasWaited(nowMs - startMs - limitMs)) this.#spend(startMs, nowMs)
    return nowMs - startMs
  }

  /** A call goes through the pool. */
  sent(nowMs: number): void {
    if (this.#inPool++ === 0) this.#answeredMs = nowMs
  }

  /** A call has come back from the pool. */
  answered(nowMs: number): void {
    this.#inPool--
    this.#answeredMs = nowMs
  }

  #mayTry(nowMs: number): boolean {
    if (nowMs - this.#changedMs < this.#pauseMs) return false
    if (this.#inPool > 0 && nowMs - this.#answeredMs > ANSWER_OVERDUE_MS) return false
    this.#isSynchronous = true
    this.#changedMs = nowMs
    this.#doubt(nowMs)
    return true
  }

  #doubt(nowMs: number): void {
    this.#isInDoubt = true
    this.#doubtEndMs = nowMs + DOUBT_MS
    this.#allowanceMs = ALLOWANCE_IN_DOUBT_MS
    this.#accountedMs = nowMs
  }

  #lookAround(nowMs: number): void {
    this.#isInDoubt = nowMs < this.#doubtEndMs
    this.#before = this.#isInDoubt ? this.#scheduling() : undefined
  }

  /** Whether the call took so much too long, or a part of that, for another reason than that the processor was taken away. */
  #hasWaited(lateMs: number): boolean {
    const now = this.#isInDoubt ? this.#scheduling() : undefined
    if (this.#before === undefined || now === undefined) return true
    return now.turns > this.#before.turns && now.queuedMs - this.#before.queuedMs < lateMs
  }

  #spend(startMs: number, endMs: number): void {
    const refilled = this.#allowanceMs + (startMs - this.#accountedMs) * ALLOWANCE_SHARE
    this.#allowanceMs = Math.min(ALLOWANCE_MAX_MS, refilled) - (endMs - startMs)
    this.#accountedMs = endMs
    if (this.#allowanceMs >= 0) return
    if (!this.#isInDoubt && endMs - startMs < HANG_MS) {
      this.#doubt(endMs)
      return
    }
    this.#isSynchronous = false
    const lastedMs = endMs - this.#changedMs
    this.#pauseMs = lastedMs < this.#pauseMs ? Math.min(this.#pauseMs * 2, PAUSE_MAX_MS) : PAUSE_MIN_MS
    this.#changedMs = endMs
  }
}
