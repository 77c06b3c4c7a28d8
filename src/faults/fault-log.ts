/**
 * `FaultLog`: what was done to which request, by which rule. Entries are numbered without gaps, and the number goes with the
 * error to wherever it is told. Bounded: the oldest entries fall out.
 */
import type { FaultEffect, FaultErrno, FaultOperation } from './vocabulary.js'

export const DISK_ROLES = ['main', 'spare', 'replica'] as const
export type DiskRole = (typeof DISK_ROLES)[number]

export interface FaultEntry {
  /** 1, 2, 3, ... since the server was started. */
  readonly number: number
  /** ISO 8601. The one thing of an entry that is another one in the next run. */
  readonly time: string
  readonly rule: string
  readonly disk: DiskRole
  /** As the user named the disk. */
  readonly name: string
  readonly operation: FaultOperation
  /** Bytes. */
  readonly offset: number
  readonly length: number
  readonly effect: FaultEffect
  /** What the request failed with, if it did. */
  readonly error?: FaultErrno
  readonly 'delay-ms'?: number
  /** What else there is to know. */
  readonly detail?: string
}

export type FaultNote = Omit<FaultEntry, 'number' | 'time'>

export interface FaultLogQuery {
  /** Entries with higher numbers only. */
  readonly since: number
  readonly limit: number
  readonly rule?: string | undefined
  readonly disk?: DiskRole | undefined
  /** Requests that touch these bytes. */
  readonly within?: { readonly start: number; readonly end: number } | undefined
}

export const FAULT_ENTRIES_MAX = 10_000

export class FaultLog {
  readonly #entriesMax: number
  readonly #onEntry: (entry: FaultEntry) => void
  /** A ring: entry `number` stands at `number % entriesMax`. */
  readonly #entries: FaultEntry[] = []
  #last = 0

  constructor(onEntry: (entry: FaultEntry) => void = () => undefined, entriesMax = FAULT_ENTRIES_MAX) {
    this.#onEntry = onEntry
    this.#entriesMax = entriesMax
  }

  /** The number of the newest entry; 0: there was none. */
  get last(): number {
    return this.#last
  }

  /** The number of the oldest entry that is still there. */
  get first(): number {
    return Math.max(1, this.#last - this.#entriesMax + 1)
  }

  /** @returns its number */
  add(note: FaultNote): number {
    const entry = { number: ++this.#last, time: new Date().toISOString(), ...note }
    this.#entries[this.#last % this.#entriesMax] = entry
    this.#onEntry(entry)
    return entry.number
  }

  query({ since, limit, ...filter }: FaultLogQuery): FaultEntry[] {
    const found: FaultEntry[] = []
    for (let number = Math.max(since + 1, this.first); number <= this.#last && found.length < limit; number++) {
      const entry = this.#entries[number % this.#entriesMax]
      if (entry && isWanted(entry, filter)) found.push(entry)
    }
    return found
  }
}

function isWanted(entry: FaultEntry, { rule, disk, within }: Omit<FaultLogQuery, 'since' | 'limit'>): boolean {
  if (rule !== undefined && entry.rule !== rule) return false
  if (disk !== undefined && entry.disk !== disk) return false
  return within === undefined || (entry.offset < within.end && within.start < entry.offset + entry.length)
}
