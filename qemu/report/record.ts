/**
 * What a run leaves behind: plain JSON, from which every report is written, at once or later. Times are milliseconds since
 * the run began, on a clock that only goes forward; `startedAt` alone is a date. Texts may hold anything, a guest's output
 * included: it is the writers who escape.
 */

/** What `outcomeOf` says. `broken`: the stage itself fell over, so that nothing is known about what was to be shown. */
export const OUTCOMES = ['passed', 'failed', 'broken'] as const
export type Outcome = (typeof OUTCOMES)[number]

export interface RunRecord {
  /** A short word, as the scenario's file is called: `server-killed`. */
  readonly name: string
  /** A sentence: what was to be shown. */
  readonly title: string
  /** Repeats the run. */
  readonly seed: string
  /** ISO 8601. */
  readonly startedAt: string
  readonly durationMs: number
  readonly outcome: Outcome
  /** Why it is broken or failed, where the checks do not say it. */
  readonly error?: string
  readonly checks: readonly Check[]
  readonly measurements: readonly Measurement[]
  readonly series: readonly Series[]
  readonly marks: readonly Mark[]
  /** The same run without nbd-remap's part: what happens then. It is expected to fail. */
  readonly control?: RunRecord
}

export interface Check {
  /** What should hold, as a sentence: `the guest sees no I/O error`. */
  readonly name: string
  readonly ok: boolean
  /** What was found. */
  readonly detail?: string
  readonly atMs: number
}

export interface Measurement {
  readonly name: string
  /** NaN when it could not be measured, which is `null` in JSON and over every limit. */
  readonly value: number
  /** As printed behind the value: `ms`, `MiB/s`, or nothing for a count. */
  readonly unit: string
  /** The most that is allowed. */
  readonly limit?: number
}

/** `null` as a value ends the line: from there on nothing is known, until the next point. */
export type Point = readonly [atMs: number, value: number | null]

export interface Series {
  /** Series of one lane share an axis, and therefore a unit: `throughput`, `latency`. */
  readonly lane: string
  readonly name: string
  readonly unit: string
  /** In the order of their times. */
  readonly points: readonly Point[]
}

export const MARK_KINDS = ['step', 'fault', 'remap', 'kill', 'restart', 'event', 'check', 'note'] as const
export type MarkKind = (typeof MARK_KINDS)[number]

/** Something that happened at a moment, or that lasted. */
export interface Mark {
  readonly atMs: number
  readonly kind: MarkKind
  readonly text: string
  readonly durationMs?: number
}

export const isWithinLimit = ({ value, limit }: Measurement): boolean => limit === undefined || value <= limit

/**
 * The verdict on a run that came to its end: all checks hold, all limits are kept, and the control run, if there is one,
 * failed. A control run that passes means that the run shows nothing.
 */
export const outcomeOf = (run: Pick<RunRecord, 'checks' | 'measurements' | 'control'>): Outcome => {
  const holds = run.checks.every(({ ok }) => ok) && run.measurements.every(isWithinLimit)
  if (run.control?.outcome === 'broken') return 'broken'
  return holds && run.control?.outcome !== 'passed' ? 'passed' : 'failed'
}
