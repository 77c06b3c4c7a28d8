/**
 * `LogRing`: the last lines of the log and the last events, for those who come later. Bounded in number and in bytes; what
 * falls out is counted by the numbers of the entries, which have no gaps.
 */
import { KEPT_LEVELS, type KeptLevel } from '../util/log.js'

export interface LogEntry {
  /** 1, 2, 3, ... in the order in which they came. */
  readonly number: number
  readonly time: string
  readonly level: KeptLevel
  readonly message: string
  /** The name of the event that it tells of, if it is one. */
  readonly event?: string
}

export interface LogQuery {
  /** Entries with higher numbers only. */
  readonly since: number
  /** The first so many of them. */
  readonly limit: number
  /** This level, and what is worse. */
  readonly level: KeptLevel
}

const ENTRIES_MAX = 10_000
const CHARACTERS_MAX = 4 * 1024 * 1024
const MESSAGE_MAX = 16 * 1024

export class LogRing {
  #entries: LogEntry[] = []
  /** Entries at the front of the array that have fallen out; they are cut off many at once. */
  #gone = 0
  #characters = 0
  #last = 0
  #waiting = new Set<() => void>()
  readonly #entriesMax: number
  readonly #charactersMax: number

  constructor(entriesMax = ENTRIES_MAX, charactersMax = CHARACTERS_MAX) {
    this.#entriesMax = entriesMax
    this.#charactersMax = charactersMax
  }

  /** The number of the newest entry; 0: there was none. */
  get last(): number {
    return this.#last
  }

  /** The number of the oldest entry that is still there. */
  get first(): number {
    return this.#last - (this.#entries.length - this.#gone) + 1
  }

  add(level: KeptLevel, message: string, event?: string): void {
    const kept = message.length > MESSAGE_MAX ? `${message.slice(0, MESSAGE_MAX)}...` : message
    const entry = { number: ++this.#last, time: new Date().toISOString(), level, message: kept }
    this.#entries.push(event === undefined ? entry : { ...entry, event })
    this.#characters += kept.length
    this.#trim()
    for (const wake of this.#waiting) wake()
  }

  query({ since, limit, level }: LogQuery): LogEntry[] {
    const least = KEPT_LEVELS.indexOf(level)
    const found: LogEntry[] = []
    for (let n = this.#gone + Math.max(0, since + 1 - this.first); n < this.#entries.length; n++) {
      const entry = this.#entries[n]
      if (entry === undefined || KEPT_LEVELS.indexOf(entry.level) < least) continue
      found.push(entry)
      if (found.length === limit) break
    }
    return found
  }

  /** Resolves when there is an entry after `since`, or after so many milliseconds, or when `release` is called. */
  async newer(since: number, ms: number): Promise<void> {
    if (this.#last > since || ms <= 0) return
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer)
        this.#waiting.delete(done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      this.#waiting.add(done)
    })
  }

  /** Nobody shall wait any more: the server stops. */
  release(): void {
    for (const wake of this.#waiting) wake()
  }

  #trim(): void {
    while (this.#entries.length - this.#gone > this.#entriesMax || this.#characters > this.#charactersMax) {
      this.#characters -= this.#entries[this.#gone]?.message.length ?? 0
      this.#gone++
    }
    if (this.#gone <= this.#entriesMax) return
    this.#entries = this.#entries.slice(this.#gone)
    this.#gone = 0
  }
}
