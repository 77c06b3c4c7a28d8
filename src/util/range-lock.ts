/**
 * Orders overlapping requests: any number of shared holders of a range, or one exclusive holder. First come, first
 * served: a request never overtakes an earlier one that it overlaps, unless both are shared, so nobody starves.
 *
 * Ranges are half-open [start, end) in any unit. The number of holders is bounded by the requests in flight, which the
 * server limits, so a linear scan beats every tree here.
 */

interface Claim {
  readonly start: number
  readonly end: number
  readonly exclusive: boolean
}

interface Waiter {
  readonly claim: Claim
  readonly grant: (release: Release) => void
}

/** Gives the range back. Called exactly once. */
export type Release = () => void

const conflicts = (a: Claim, b: Claim): boolean => a.start < b.end && b.start < a.end && (a.exclusive || b.exclusive)

export class RangeLock {
  readonly #held = new Set<Claim>()
  #waiting: Waiter[] = []

  /** Number of claims that hold or wait for a range. */
  get size(): number {
    return this.#held.size + this.#waiting.length
  }

  /** Whether the range could be had at once. */
  isFree(start: number, end: number, mode: 'shared' | 'exclusive'): boolean {
    if (this.#held.size === 0 && this.#waiting.length === 0) return true
    return !this.#isBlocked({ start, end, exclusive: mode === 'exclusive' })
  }

  shared(start: number, end: number): Release | Promise<Release> {
    return this.#acquire({ start, end, exclusive: false })
  }

  exclusive(start: number, end: number): Release | Promise<Release> {
    return this.#acquire({ start, end, exclusive: true })
  }

  #acquire(claim: Claim): Release | Promise<Release> {
    if (!this.#isBlocked(claim)) return this.#hold(claim)
    return new Promise((grant) => this.#waiting.push({ claim, grant }))
  }

  #isBlocked(claim: Claim): boolean {
    return this.#conflictsWithHeld(claim) || this.#waiting.some((waiter) => conflicts(waiter.claim, claim))
  }

  #conflictsWithHeld(claim: Claim): boolean {
    for (const held of this.#held) if (conflicts(held, claim)) return true
    return false
  }

  #hold(claim: Claim): Release {
    this.#held.add(claim)
    return () => {
      this.#held.delete(claim)
      if (this.#waiting.length > 0) this.#grantWaiting()
    }
  }

  #grantWaiting(): void {
    const stillWaiting: Waiter[] = []
    for (const waiter of this.#waiting) {
      const blocked =
        this.#conflictsWithHeld(waiter.claim) || stillWaiting.some((earlier) => conflicts(earlier.claim, waiter.claim))
      if (blocked) stillWaiting.push(waiter)
      else waiter.grant(this.#hold(waiter.claim))
    }
    this.#waiting = stillWaiting
  }
}
