/**
 * `Lifetime`: counters since the pair was formatted. What was counted before this start is in the headers of the spares; it
 * is written with every update of a header, and by itself every few minutes, so a crash loses some minutes at most.
 */
import type { SparePool } from '../spare/pool.js'
import { COUNTERS, type Statistics } from './statistics.js'

export class Lifetime {
  readonly #pool: SparePool
  readonly #statistics: Statistics
  #startedMs = performance.now()
  #noted = ''

  constructor(pool: SparePool, statistics: Statistics) {
    this.#pool = pool
    this.#statistics = statistics
    statistics.before.set(newest(pool.lifetimes))
    this.#noted = this.#counted
  }

  /** Writes it down, if something was counted since it last was. @throws DeviceError */
  async note(): Promise<void> {
    const counted = this.#counted
    if (counted === this.#noted) return
    await this.#pool.noteCounts()
    this.#noted = counted
  }

  /**
   * Lets the counters since the start begin anew; what they have counted stays in the lifetime.
   * @param all the lifetime begins anew, too
   */
  reset(all: boolean): void {
    const { before, latencies } = this.#statistics
    const { total } = this
    this.#startedMs = performance.now()
    for (const counter of COUNTERS) this.#statistics[counter] = 0
    for (const latency of Object.values(latencies)) latency.clear()
    before.set(all ? total.map(() => 0) : total)
    this.#statistics.resetAtMs = Date.now()
  }

  /** Seconds served, and then each counter. */
  get total(): number[] {
    const { before } = this.#statistics
    const servedSeconds = (performance.now() - this.#startedMs) / 1000
    const counts = COUNTERS.map((counter) => this.#statistics[counter])
    return [Math.round(servedSeconds), ...counts].map((count, n) => (before[n] ?? 0) + count)
  }

  get #counted(): string {
    return COUNTERS.map((counter) => this.#statistics[counter]).join()
  }
}

/** Spares that missed an update know less. A checksum does not say who wrote it: what is no list of counts is nothing. */
function newest(notes: readonly unknown[]): number[] {
  const known = notes.filter(isCounts).sort((a, b) => (b[0] ?? 0) - (a[0] ?? 0))
  return (known[0] ?? []).slice(0, 1 + COUNTERS.length)
}

const isCounts = (note: unknown): note is number[] =>
  Array.isArray(note) && note.every((count) => Number.isSafeInteger(count) && Number(count) >= 0)
