/**
 * `Pace`: whether requests of one kind go to a local disk synchronously or through the thread pool. A synchronous read
 * from the page cache costs a tenth of one through the pool, but while the disk is slow nothing else is served. Pure: the
 * times come from the caller.
 *
 * What counts is the share of time that is lost in slow calls, not any single one: on a busy machine the scheduler takes
 * the processor away in the middle of a call now and then, and a disk that answers a thousand requests from memory for
 * each one that it has to fetch is still faster without the pool. So slow calls draw on an allowance that refills with
 * time, and when it is used up the pool takes over. From there the disk is tried again after a pause, which doubles for
 * as long as the disk turns out to be slow soon after.
 */

/** A call longer than this, and a nanosecond more for each byte, waited for the disk and not for memory. */
const SLOW_MS = 0.05
const SLOW_MS_PER_BYTE = 1e-6
/** Half of the time may be lost in slow calls, and this much at once. */
const ALLOWANCE_SHARE = 0.5
const ALLOWANCE_MAX_MS = 8
/** What a disk has that is tried again: one call that waits for a device uses it up. */
const ALLOWANCE_ON_TRIAL_MS = 0.5
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

  /** Whether the next call should be a synchronous one. Times are in milliseconds, on any steady clock. */
  isSynchronous(nowMs: number): boolean {
    return this.#isSynchronous || this.#mayTry(nowMs)
  }

  /** A synchronous call of `bytes` took this long. */
  called(startMs: number, endMs: number, bytes: number): void {
    if (endMs - startMs > SLOW_MS + bytes * SLOW_MS_PER_BYTE) this.#spend(startMs, endMs)
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
    this.#changedMs = this.#accountedMs = nowMs
    this.#allowanceMs = ALLOWANCE_ON_TRIAL_MS
    return true
  }

  #spend(startMs: number, endMs: number): void {
    const refilled = this.#allowanceMs + (startMs - this.#accountedMs) * ALLOWANCE_SHARE
    this.#allowanceMs = Math.min(ALLOWANCE_MAX_MS, refilled) - (endMs - startMs)
    this.#accountedMs = endMs
    if (this.#allowanceMs >= 0) return
    this.#isSynchronous = false
    const lastedMs = endMs - this.#changedMs
    this.#pauseMs = lastedMs < this.#pauseMs ? Math.min(this.#pauseMs * 2, PAUSE_MAX_MS) : PAUSE_MIN_MS
    this.#changedMs = endMs
  }
}
