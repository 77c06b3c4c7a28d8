/**
 * Orders overlapping requests: any number of shared holders of a range, or one exclusive holder. First come, first
 * served: a request never overtakes an earlier one that it overlaps, unless both are shared, so nobody starves.
 *
 * Ranges are half-open [start, end) in any unit. The number of holders is bounded by the requests in flight, which the
 * server limits, so a linear scan beats every tree here. A claim may also be for a set of ranges, which counts as one holder.
 */
import type { RangeSet } from './range-set.js'

interface Claim {
  readonly start: number
  readonly end: number
  readonly exclusive: boolean
  /** Of [start, end) only these. */
  readonly members?: RangeSet
}

/** Is told of every exclusive claim of a range, when it is granted, that overlaps `members`; not of claims of sets. */
interface Watcher {
  readonly members: RangeSet
  readonly told: (start: number, end: number) => void
}

/** Waits for the end of these claims, and holds up none. */
interface Settling {
  readonly left: Set<Claim>
  readonly resolve: () => void
}

interface Waiter {
  readonly claim: Claim
  readonly grant: (release: Release) => void
}

/** Gives the range back. Called exactly once. */
export type Release = () => void

/** Two sets conflict when one has members between the first and the last of the other. */
const conflicts = (a: Claim, b: Claim): boolean =>
  a.start < b.end &&
  b.start < a.end &&
  (a.exclusive || b.exclusive) &&
  (a.members?.overlaps(b.start, b.end) ?? true) &&
  (b.members?.overlaps(a.start, a.end) ?? true)

export class RangeLock {
  readonly #held = new Set<Claim>()
  readonly #watchers = new Set<Watcher>()
  readonly #settling = new Set<Settling>()
  #waiting: Waiter[] = []

  /** Number of claims that hold or wait for a range. */
  get size(): number {
    return this.#held.size + this.#waiting.length
  }

  /** Whether the range could be had at once, and nobody wants to be told of it. */
  isFree(start: number, end: number, mode: 'shared' | 'exclusive'): boolean {
    if (this.#held.size === 0 && this.#waiting.length === 0 && this.#watchers.size === 0) return true
    if (mode === 'exclusive' && this.#isWatched(start, end)) return false
    return !this.#isBlocked({ start, end, exclusive: mode === 'exclusive' })
  }

  shared(start: number, end: number): Release | Promise<Release> {
    return this.#acquire({ start, end, exclusive: false })
  }

  exclusive(start: number, end: number): Release | Promise<Release> {
    return this.#acquire({ start, end, exclusive: true })
  }

  /** Claims all members, together. */
  claim(members: RangeSet, mode: 'shared' | 'exclusive'): Release | Promise<Release> {
    return this.#acquire({ start: members.start, end: members.end, exclusive: mode === 'exclusive', members })
  }

  /** Resolves when all that hold a range now have given it back; nobody waits for that. */
  settled(): Promise<void> {
    if (this.#held.size === 0) return Promise.resolve()
    return new Promise((resolve) => this.#settling.add({ left: new Set(this.#held), resolve }))
  }

  /** Has `told` called with every exclusive claim of a range that touches `members`, as soon as it holds. @returns ends that */
  watch(members: RangeSet, told: (start: number, end: number) => void): Release {
    const watcher = { members, told }
    this.#watchers.add(watcher)
    return () => {
      this.#watchers.delete(watcher)
    }
  }

  #isWatched(start: number, end: number): boolean {
    for (const { members } of this.#watchers) if (members.overlaps(start, end)) return true
    return false
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
    if (claim.exclusive && claim.members === undefined) this.#tellWatchers(claim)
    return () => {
      this.#held.delete(claim)
      if (this.#settling.size > 0) this.#tellSettling(claim)
      if (this.#waiting.length > 0) this.#grantWaiting()
    }
  }

  #tellSettling(claim: Claim): void {
    for (const settling of this.#settling) {
      settling.left.delete(claim)
      if (settling.left.size > 0) continue
      this.#settling.delete(settling)
      settling.resolve()
    }
  }

  #tellWatchers({ start, end }: Claim): void {
    for (const { members, told } of this.#watchers) if (members.overlaps(start, end)) told(start, end)
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
