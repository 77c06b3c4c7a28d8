/** From samples to verdicts: medians, ratios, and whether a goal is met. Pure; the result is what `--json` writes. */
import { CONTROL_P99_GOAL_MS, type BoundJob, type CompareJob, type Job, type Measured, type ServerName } from './job.js'
import type { Rounds, Sample, ServerSamples } from './rounds.js'

export interface Range {
  readonly median: number
  readonly min: number
  readonly max: number
}

export interface ServerSummary {
  readonly server: ServerName
  readonly requestsPerSecond: Range
  readonly bytesPerSecond: Range
  readonly p99Us: Range
  readonly cpuUsPerRequest: Range
  readonly clientCpuUsPerRequest: Range
  /** In the order of the rounds. */
  readonly samples: readonly Sample[]
}

export interface JobSummary {
  readonly name: string
  readonly title: string
  readonly kind: Job['kind']
  /** `x` is a ratio, of which at least the goal is wanted; of every other unit at most the goal. */
  readonly unit: string
  readonly goal: number
  /** The ratio of medians, or the figure; null when the job did not run to its end. */
  readonly value: number | null
  /** Of the ratios of the single rounds. */
  readonly range: Range | null
  readonly met: boolean | null
  /** The peer that the ratio is to. */
  readonly best: ServerName | null
  /** Ours first; empty for jobs that compare nothing. */
  readonly servers: readonly ServerSummary[]
  /** Time that queries on the control socket took meanwhile, 99th percentile. */
  readonly control: { readonly p99Ms: number; readonly goalMs: number; readonly met: boolean } | null
  readonly note: string | null
  /** What this machine lacks. */
  readonly notRun: string | null
  /** The error that ended the job. */
  readonly failed: string | null
}

/** Nearest rank. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)] ?? NaN
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const upper = sorted[Math.floor(sorted.length / 2)] ?? NaN
  const lower = sorted[Math.ceil(sorted.length / 2) - 1] ?? NaN
  return (lower + upper) / 2
}

export const rangeOf = (values: readonly number[]): Range => ({
  median: median(values),
  min: Math.min(...values),
  max: Math.max(...values),
})

export function summarizeRounds(job: CompareJob, { servers, controlLatenciesMs }: Rounds): JobSummary {
  const summaries = servers.map(summarizeServer)
  const [ours, ...peers] = summaries
  if (ours === undefined) throw new RangeError(`${job.name} was run without a server`)
  const best = peers.reduce<ServerSummary | undefined>((a, b) => (a && speedOf(a) >= speedOf(b) ? a : b), undefined)
  if (best === undefined) throw new RangeError(`${job.name} was run without a peer`)
  const value = speedOf(ours) / speedOf(best)
  return {
    ...unfinished(job),
    value,
    range: rangeOf(ratiosOfRounds(ours, peers)),
    met: value >= job.goal,
    best: best.server,
    servers: summaries,
    control: summarizeControl(controlLatenciesMs),
  }
}

export function summarizeBound(job: BoundJob, { value, controlLatenciesMs, note }: Measured): JobSummary {
  return { ...unfinished(job), value, met: value <= job.goal, control: summarizeControl(controlLatenciesMs), note }
}

export const summarizeNotRun = (job: Job, reason: string): JobSummary => ({ ...unfinished(job), notRun: reason })
export const summarizeFailed = (job: Job, reason: string): JobSummary => ({ ...unfinished(job), failed: reason })

/** Whether a job that ran missed its goal or the one of the control socket. */
export const missesGoal = ({ met, control }: JobSummary): boolean => met === false || control?.met === false

const speedOf = ({ requestsPerSecond }: ServerSummary): number => requestsPerSecond.median

function unfinished({ name, title, kind, goal, ...rest }: Job): JobSummary {
  return {
    name,
    title,
    kind,
    unit: 'unit' in rest ? rest.unit : 'x',
    goal,
    value: null,
    range: null,
    met: null,
    best: null,
    servers: [],
    control: null,
    note: null,
    notRun: null,
    failed: null,
  }
}

function summarizeServer({ server, samples }: ServerSamples): ServerSummary {
  const range = (key: keyof Sample): Range => rangeOf(samples.map((sample) => sample[key]))
  return {
    server,
    requestsPerSecond: range('requestsPerSecond'),
    bytesPerSecond: range('bytesPerSecond'),
    p99Us: range('p99Us'),
    cpuUsPerRequest: range('cpuUsPerRequest'),
    clientCpuUsPerRequest: range('clientCpuUsPerRequest'),
    samples,
  }
}

/** In each round, to the peer that was best in that round. */
const ratiosOfRounds = (ours: ServerSummary, peers: readonly ServerSummary[]): number[] =>
  ours.samples.map(({ requestsPerSecond }, round) => {
    const theirs = peers.map(({ samples }) => samples[round]?.requestsPerSecond ?? NaN)
    return requestsPerSecond / Math.max(...theirs)
  })

function summarizeControl(latenciesMs: readonly number[]): JobSummary['control'] {
  if (latenciesMs.length === 0) return null
  const p99Ms = percentile(latenciesMs, 99)
  return { p99Ms, goalMs: CONTROL_P99_GOAL_MS, met: p99Ms <= CONTROL_P99_GOAL_MS }
}
