/**
 * What the header of a spare remembers of the errors of the main disk: the totals, and the worst blocks, each as one list of
 * numbers. A checksum does not say who wrote it: what does not look right counts as nothing.
 */
import { ERROR_KINDS } from './error-counts.js'

/** What became of the block when it was last heard of. Headers hold their numbers: new ones come last. */
export const ERROR_OUTCOMES = [
  /** Nothing failed: it took its time. */
  'late',
  /** It is on the spare, with all its content. */
  'remapped',
  /** It is on the spare, without the sectors that were lost. */
  'lost',
  /** All its content was had in the end, and it stays where it is. */
  'recovered',
  /** The client got the error. */
  'reported',
] as const
export type ErrorOutcome = (typeof ERROR_OUTCOMES)[number]

export interface BlockErrors {
  /** Of the main disk. */
  readonly block: number
  /** In the order of `ERROR_KINDS`. */
  readonly counts: number[]
  /** Since 1970. */
  readonly firstMs: number
  lastMs: number
  outcome: ErrorOutcome
}

export interface KnownErrors {
  readonly totals: readonly number[]
  readonly dropped: number
  /** The worst first. */
  readonly worst: readonly BlockErrors[]
}

/** So many blocks of some 30 bytes each; where a header has no room for them, the less bad half is left out. */
export const NOTED_MAX = 48

/** That a `Date` can be. */
const LATEST_MS = 8.64e15

const NOTHING: KnownErrors = { totals: [], dropped: 0, worst: [] }

/** @param moves how often the pair has moved to another main disk */
export function errorsNote({ totals, dropped, worst }: KnownErrors, moves: number): unknown {
  const noted = worst.slice(0, NOTED_MAX)
  const rows = noted.map(({ block, firstMs, lastMs, outcome, counts }) => [
    block,
    Math.floor(firstMs / 1000),
    Math.floor(lastMs / 1000),
    ERROR_OUTCOMES.indexOf(outcome),
    ...counts,
  ])
  return { moves, dropped: dropped + worst.length - noted.length, totals, worst: rows }
}

/** @param note the member `errors` of the header's notes */
export function errorsFrom(note: unknown, moves: number): KnownErrors {
  const { moves: notedAfter, dropped, totals, worst } = (note ?? {}) as Readonly<Record<string, unknown>>
  if (notedAfter !== moves || !isCount(dropped) || !isCounts(totals) || !Array.isArray(worst)) return NOTHING
  return { totals, dropped, worst: worst.filter(isCounts).slice(0, NOTED_MAX).map(blockFrom) }
}

function blockFrom([block = 0, first = 0, last = 0, outcome = 0, ...counts]: readonly number[]): BlockErrors {
  return {
    block,
    counts: ERROR_KINDS.map((_, n) => counts[n] ?? 0),
    firstMs: Math.min(first * 1000, LATEST_MS),
    lastMs: Math.min(last * 1000, LATEST_MS),
    outcome: ERROR_OUTCOMES[outcome] ?? 'reported',
  }
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0
const isCounts = (value: unknown): value is number[] => Array.isArray(value) && value.every(isCount)
