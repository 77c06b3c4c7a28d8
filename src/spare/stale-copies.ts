/**
 * Copies of slot pages that missed an update, because they could not be written when the other copy could. Such a copy is
 * intact and says what was true once, so only a note in the header keeps it from being believed when the other one decays.
 */
import { SLOT_TABLE_COPIES, STALE_RUNS_MAX, type StaleRun } from './format.js'

export class StaleCopies {
  readonly #pages: readonly Set<number>[] = Array.from({ length: SLOT_TABLE_COPIES }, () => new Set<number>())
  #changes = 0

  constructor(runs: readonly StaleRun[] = []) {
    for (const [copy, first, count] of runs) {
      for (let page = first; page < first + count; page++) this.#pages[copy]?.add(page)
    }
  }

  /** Counts the changes, so that whoever wrote them down knows whether there are more. */
  get changes(): number {
    return this.#changes
  }

  has(copy: number, page: number): boolean {
    return this.#pages[copy]?.has(page) ?? false
  }

  add(copy: number, page: number): void {
    if (this.has(copy, page)) return
    this.#pages[copy]?.add(page)
    this.#changes++
  }

  delete(copy: number, page: number): void {
    if (this.#pages[copy]?.delete(page)) this.#changes++
  }

  /**
   * As the header keeps them. When there are more than fit, neighbours are joined: what lies between is distrusted, too,
   * unless it is all there is of a page.
   * @returns `undefined` when they do not fit all the same
   */
  runs(): StaleRun[] | undefined {
    const runs = this.#pages.flatMap((pages, copy) => joined(copy, pages))
    while (runs.length > STALE_RUNS_MAX) {
      const at = this.#closest(runs)
      const [first, second] = [runs[at - 1], runs[at]]
      if (!first || !second) return undefined
      runs.splice(at - 1, 2, [first[0], first[1], second[1] + second[2] - first[1]])
    }
    return runs
  }

  /** Where the run stands that is closest to the one before it and can be joined to it; 0: none. */
  #closest(runs: readonly StaleRun[]): number {
    let best = 0
    let shortest = Infinity
    for (const [at, [copy, page]] of runs.entries()) {
      const before = runs[at - 1]
      if (before?.[0] !== copy) continue
      const end = before[1] + before[2]
      if (page - end >= shortest || this.#isOnlyOther(copy, end, page)) continue
      best = at
      shortest = page - end
    }
    return best
  }

  /** Whether some page of [start, end) has no good copy but this one. */
  #isOnlyOther(copy: number, start: number, end: number): boolean {
    const others = this.#pages.filter((_, other) => other !== copy)
    return others.some((pages) => [...pages].some((page) => page >= start && page < end))
  }
}

function joined(copy: number, pages: ReadonlySet<number>): StaleRun[] {
  const runs: [number, number, number][] = []
  for (const page of [...pages].sort((a, b) => a - b)) {
    const last = runs.at(-1)
    if (last && last[1] + last[2] === page) last[2]++
    else runs.push([copy, page, 1])
  }
  return runs
}
