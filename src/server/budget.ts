/**
 * `Budget`: the payload bytes that all connections together hold. A connection that finds it exhausted waits, and is
 * woken when bytes come back; one that holds nothing never waits, so greedy clients slow others down but cannot stop them.
 */

import { assert } from '../util/assert.js'

export class Budget {
  readonly #bytesMax: number
  readonly #waiting = new Set<() => void>()
  #held = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  /** Bytes. */
  get held(): number {
    return this.#held
  }

  get exhausted(): boolean {
    return this.#held >= this.#bytesMax
  }

  take(bytes: number): void {
    this.#held += bytes
  }

  /** Wakes those who wait, the longest waiting first, for as long as there is something to have. */
  giveBack(bytes: number): void {
    this.#held -= bytes
    assert(this.#held >= 0, 'more bytes given back than taken')
    for (const wake of this.#waiting) {
      if (this.exhausted) return
      this.#waiting.delete(wake)
      wake()
    }
  }

  /** Calls `wake` once. The same function waits only once however often it is given. */
  wait(wake: () => void): void {
    this.#waiting.add(wake)
  }

  stopWaiting(wake: () => void): void {
    this.#waiting.delete(wake)
  }
}
