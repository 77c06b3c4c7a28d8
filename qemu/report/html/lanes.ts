/** What a timeline shows, one lane below the other, from a record. Pure: no places yet, no markup. */
import type { Check, Mark, MarkKind, RunRecord, Series } from '../record.js'
import { thin } from '../thin.js'
import { axisOf, type Axis } from './scale.js'

/** Of one kind, in the drawing and in the list below it; what is left out is counted. */
export const MARKS_SHOWN_MAX = 2000
/** A line of more points would look the same. */
const LINE_POINTS_MAX = 4000

export interface SeriesLane {
  readonly name: string
  readonly unit: string
  readonly axis: Axis
  readonly series: readonly Series[]
}

export interface MarkLane {
  readonly kind: MarkKind
  readonly name: string
  readonly marks: readonly TimelineMark[]
  /** As many as there were. */
  readonly total: number
}

/** In this order; steps stand above everything, as the headings of the rest. */
const MARK_LANES: readonly (readonly [MarkKind, string])[] = [
  ['kill', 'Kills'],
  ['restart', 'Restarts'],
  ['fault', 'Faults'],
  ['remap', 'Remaps'],
  ['event', 'Events'],
  ['check', 'Checks'],
  ['note', 'Notes'],
]

/** @param beside runs that are compared with this one: the same lane has the same axis in all of them */
export function seriesLanes(run: RunRecord, beside: readonly RunRecord[] = []): SeriesLane[] {
  const all = [run, ...beside].flatMap(({ series }) => series)
  const lanes = new Map<string, Series[]>()
  for (const one of run.series) {
    const key = JSON.stringify([one.lane, one.unit])
    lanes.set(key, [...(lanes.get(key) ?? []), { ...one, points: thin(one.points, LINE_POINTS_MAX) }])
  }
  return [...lanes.values()].map((series) => {
    const { lane = '', unit = '' } = series[0] ?? {}
    return { name: lane, unit, axis: sharedAxis(all, lane, unit), series }
  })
}

function sharedAxis(all: readonly Series[], lane: string, unit: string): Axis {
  const values = all
    .filter((one) => one.lane === lane && one.unit === unit)
    .flatMap(({ points }) => points.flatMap(([, value]) => value ?? []))
  // Latencies differ by orders of magnitude, and the short ones matter as well; a throughput of nothing must look like nothing.
  return axisOf(values, /^(ns|[uµ]s|ms|s)$/.test(unit))
}

export function markLanes(run: RunRecord): MarkLane[] {
  const marks = allMarks(run)
  return MARK_LANES.flatMap(([kind, name]) => {
    const all = marks.filter((mark) => mark.kind === kind)
    return all.length === 0 ? [] : [{ kind, name, marks: everyNth(sorted(all)), total: all.length }]
  })
}

/** The marks, and the checks where no mark tells of them. */
export function allMarks({ marks, checks }: RunRecord): TimelineMark[] {
  const told = (name: string): boolean => marks.some(({ kind, text }) => kind === 'check' && text.includes(name))
  const untold = checks.filter(({ name }) => !told(name)).map(checkMark)
  const failed = checks.filter(({ ok }) => !ok)
  const isFailure = ({ kind, text }: Mark): boolean =>
    kind === 'check' && failed.some(({ name }) => text.includes(name))
  return sorted([...marks.map((mark) => (isFailure(mark) ? { ...mark, failed: true } : mark)), ...untold])
}

export type TimelineMark = Mark & { readonly failed?: boolean }

const checkMark = ({ name, ok, detail, atMs }: Check): TimelineMark => ({
  atMs,
  kind: 'check',
  text: detail === undefined ? name : `${name}: ${detail}`,
  ...(ok ? {} : { failed: true }),
})

/** Evenly, so that the density stays what it was. */
function everyNth<T extends Mark>(marks: readonly T[]): readonly T[] {
  const step = marks.length / MARKS_SHOWN_MAX
  if (step <= 1) return marks
  return Array.from({ length: MARKS_SHOWN_MAX }, (_, n) => marks[Math.floor(n * step)]).flatMap((mark) => mark ?? [])
}

const sorted = <T extends Mark>(marks: readonly T[]): T[] => [...marks].sort((a, b) => a.atMs - b.atMs)

export interface Step {
  readonly text: string
  readonly fromMs: number
  readonly toMs: number
}

/** A step lasts as long as it says, or until the next one begins. */
export function stepsOf({ marks, durationMs }: RunRecord): Step[] {
  const steps = sorted(marks.filter(({ kind }) => kind === 'step'))
  return steps.map(({ text, atMs, durationMs: lasted }, n) => {
    const nextMs = steps[n + 1]?.atMs ?? durationMs
    return { text, fromMs: atMs, toMs: lasted === undefined ? nextMs : Math.min(atMs + lasted, nextMs) }
  })
}

/** When the server was away: what shades the lanes of the series. */
export const outagesOf = ({ marks }: RunRecord): { fromMs: number; toMs: number }[] =>
  marks
    .filter(({ kind, durationMs = 0 }) => (kind === 'restart' || kind === 'kill') && durationMs > 0)
    .map(({ atMs, durationMs = 0 }) => ({ fromMs: atMs, toMs: atMs + durationMs }))

/** Stretches of which a series says that nothing is known: from the last value before a gap to the first after it. */
export function gapsOf({ points }: Series): { fromMs: number; toMs: number }[] {
  const gaps: { fromMs: number; toMs: number }[] = []
  let known: number | undefined
  let isOpen = false
  for (const [atMs, value] of points) {
    if (value !== null && isOpen && known !== undefined) gaps.push({ fromMs: known, toMs: atMs })
    isOpen = value === null
    if (value !== null) known = atMs
  }
  return gaps
}

/** How much of the time the timeline shows: all of it, and what a mark or a point tells of later. */
export const spanOf = (run: RunRecord): number =>
  [
    ...run.marks.map(({ atMs, durationMs = 0 }) => atMs + durationMs),
    ...run.series.flatMap(({ points }) => points.at(-1)?.[0] ?? 0),
  ].reduce((most, ms) => Math.max(most, ms), Math.max(run.durationMs, 1))
