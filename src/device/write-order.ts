/**
 * `WriteOrder`: runs tasks that change overlapping ranges one after the other, in the order they came, and all others
 * side by side. Without it a read-modify-write would write back what it read before another write changed it.
 */

interface Held {
  readonly start: number
  readonly end: number
  readonly done: Promise<void>
}

export class WriteOrder {
  readonly #held = new Set<Held>()

  /** Runs `task` once every earlier one that touches bytes of [start, end) has settled. */
  async run<T>(start: number, end: number, task: () => Promise<T>): Promise<T> {
    const before = [...this.#held].filter((other) => other.start < end && start < other.end).map(({ done }) => done)
    let release = (): void => undefined
    const mine = { start, end, done: new Promise<void>((resolve) => (release = resolve)) }
    this.#held.add(mine)
    try {
      await Promise.all(before)
      return await task()
    } finally {
      this.#held.delete(mine)
      release()
    }
  }
}
