/**
 * `Budget`: the payload bytes that all connections together hold, from before the first byte of a payload is read until
 * the kernel has the last byte of the reply. It is never exceeded, but for one thing: a request that is larger than the
 * shared part is served when nobody holds anything of that, so such requests are served one at a time.
 *
 * Every connection has bytes of its own, which nobody can take from it; what it holds beyond them comes out of the shared
 * part, in the order in which connections asked. So whoever holds on to the shared part slows others down, but stops only
 * requests larger than their own bytes; and who waits for a large piece is not overtaken for ever by small ones.
 */

import { assert } from '../util/assert.js'

export interface BudgetLimits {
  /** Bytes that each connection has for itself. */
  readonly bytesOwnMax: number
  /** Bytes that all connections share. */
  readonly bytesSharedMax: number
}

interface State {
  readonly limits: BudgetLimits
  held: number
  shared: number
  /** In the order in which they get something. */
  readonly waiting: Account[]
}

export class Budget {
  readonly #state: State

  constructor(limits: BudgetLimits) {
    this.#state = { limits, held: 0, shared: 0, waiting: [] }
  }

  /** Bytes that all hold. */
  get held(): number {
    return this.#state.held
  }

  /** Somebody waits for bytes of the shared part. */
  get isContended(): boolean {
    return this.#state.waiting.length > 0
  }

  /** For a connection. `onTaken` hears that bytes which had to be waited for are taken now. */
  open(onTaken: () => void): Account {
    return new Account(this.#state, onTaken)
  }
}

/** What one connection holds. */
export class Account {
  readonly #all: State
  readonly #onTaken: () => void
  #held = 0
  #shared = 0
  #wanted = 0

  constructor(all: State, onTaken: () => void) {
    this.#all = all
    this.#onTaken = onTaken
  }

  /** Bytes. */
  get held(): number {
    return this.#held
  }

  /** It holds bytes that others could wait for. */
  get holdsShared(): boolean {
    return this.#shared > 0
  }

  /** @returns whether the bytes are taken now; otherwise `onTaken` is called when they are. One call at a time. */
  take(bytes: number): boolean {
    this.#wanted = bytes
    const isLast = this.#all.waiting.length > 0 && this.#missing > 0
    if (!isLast && this.#grant()) return true
    this.#all.waiting.push(this)
    return false
  }

  giveBack(bytes: number): void {
    assert(bytes <= this.#held, 'more bytes given back than taken')
    this.#change(-bytes)
    const { waiting } = this.#all
    if (waiting.length === 0) return
    // Its own bytes may be enough now, and those it need not wait for.
    if (this.#missing <= 0 && waiting.includes(this)) this.#grantWaiting()
    this.#grantOthers()
  }

  /** Nothing is waited for any more; what is held stays held. */
  stopWaiting(): void {
    this.#leaveQueue()
    this.#grantOthers()
  }

  /** Bytes of the shared part that would have to be free. */
  get #missing(): number {
    return this.#sharedOf(this.#held + this.#wanted) - this.#shared
  }

  #sharedOf(held: number): number {
    return Math.max(0, held - this.#all.limits.bytesOwnMax)
  }

  #grant(): boolean {
    const missing = this.#missing
    const { shared, limits } = this.#all
    if (missing > 0 && shared > 0 && shared + missing > limits.bytesSharedMax) return false
    this.#change(this.#wanted)
    return true
  }

  #grantWaiting(): boolean {
    if (!this.#grant()) return false
    this.#leaveQueue()
    this.#onTaken()
    return true
  }

  #grantOthers(): void {
    for (let [next] = this.#all.waiting; next !== undefined; [next] = this.#all.waiting) {
      if (!next.#grantWaiting()) return
    }
  }

  #leaveQueue(): void {
    const place = this.#all.waiting.indexOf(this)
    if (place >= 0) this.#all.waiting.splice(place, 1)
  }

  #change(bytes: number): void {
    const before = this.#shared
    this.#held += bytes
    this.#shared = this.#sharedOf(this.#held)
    this.#all.held += bytes
    this.#all.shared += this.#shared - before
  }
}
