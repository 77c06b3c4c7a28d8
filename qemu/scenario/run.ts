/** Runs a scenario, and its control run, and makes the record that reports are written from. */
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { messageOf } from '../../src/util/errors.js'
import { Random } from '../../src/util/random.js'
import { isBroken, Lab } from '../lab/lab.js'
import { LabError } from '../lab/error.js'
import type { Check, Mark, Measurement, Outcome, RunRecord } from '../report/record.js'
import { controlSetup } from './control.js'
import type { ScenarioFile } from './document.js'
import type { CheckSettings, MeasureSettings, Scenario, StageSetup, Step } from './format.js'
import { checks as checksShape } from './format-checks.js'
import { perform, StepError, titleOf, type Performance } from './perform.js'
import { readShape } from './shape.js'

export interface RunOptions {
  readonly seed?: string
  /** Default true: with its control run, if it has one. */
  readonly control?: boolean
  readonly signal?: AbortSignal
  /** Called for everything that happens. */
  readonly onMark?: (mark: Mark, control: boolean) => void
  /** Directories are not removed at the end. */
  readonly keep?: boolean
  /** Called with the directory that is kept. */
  readonly onKept?: (directory: string, control: boolean) => void
  /** Waits for its turn: each run, and each control run, goes through it. */
  readonly turn?: <T>(work: () => Promise<T>) => Promise<T>
}

/** What one run is to be: the run itself, or the control run. */
interface Part {
  readonly file: ScenarioFile
  readonly setup: StageSetup
  readonly steps: readonly Step[]
  readonly checks: CheckSettings
  readonly control: boolean
  readonly seed: string
  readonly title: string
}

/** The record, and what the control run is asked for. */
interface Played {
  readonly record: RunRecord
  /** What failed, by the names of checks, measurements and steps. */
  readonly failures: ReadonlyMap<string, string>
}

/** Rejects only with the reason of `signal`. */
export async function runScenario(file: ScenarioFile, options: RunOptions = {}): Promise<RunRecord> {
  const { scenario } = file
  const seed = new Random(options.seed ?? scenario.seed).seed
  const turn = options.turn ?? (<T>(work: () => Promise<T>) => work())
  const part = partOf(file, scenario, seed)
  if (scenario.control === undefined || options.control === false) return (await turn(() => play(part, options))).record
  const runs = [part, controlPartOf(file, scenario, seed)].map((it) => turn(() => play(it, options)))
  // Both, also when one is called off: nothing is left running when this one is done.
  await Promise.allSettled(runs)
  const [played, control] = (await Promise.all(runs)) as [Played, Played]
  return withControl(played.record, control, scenario)
}

const everyCheck = (): CheckSettings => readShape(checksShape, {}, false).value

const partOf = (file: ScenarioFile, scenario: Scenario, seed: string): Part => ({
  file,
  setup: scenario,
  steps: scenario.steps,
  checks: scenario.checks ?? everyCheck(),
  control: false,
  seed,
  title: scenario.title,
})

function controlPartOf(file: ScenarioFile, scenario: Scenario, seed: string): Part {
  const { control } = scenario
  return {
    file,
    setup: controlSetup(scenario).setup,
    steps: control?.steps ?? scenario.steps,
    checks: control?.checks ?? scenario.checks ?? everyCheck(),
    control: true,
    seed,
    title: control?.title ?? '',
  }
}

async function play(part: Part, options: RunOptions): Promise<Played> {
  const startedAt = new Date()
  const startMs = performance.now()
  const late = AbortSignal.timeout(part.file.scenario.timeout)
  const signal = options.signal === undefined ? late : AbortSignal.any([late, options.signal])
  let stage: Lab | undefined
  let outcome: Pick<Played, 'failures'> & Pick<RunRecord, 'outcome' | 'error'>
  try {
    stage = await Lab.open(part.setup, {
      seed: part.seed,
      signal,
      folder: path.dirname(part.file.path),
      keep: options.keep ?? false,
      onMark: (mark) => options.onMark?.(mark, part.control),
    })
    outcome = await perfect(part, stage)
  } catch (error) {
    options.signal?.throwIfAborted()
    outcome = { outcome: 'broken', error: explained(error, part, late), failures: new Map() }
  } finally {
    await stage?.close()
  }
  if (stage !== undefined && options.keep) options.onKept?.(stage.directory, part.control)
  options.signal?.throwIfAborted()
  const record = recordOf(part, stage, startedAt, startMs, outcome)
  if (stage === undefined) return { record, failures: outcome.failures }
  return withProcessesCheck({ record, failures: outcome.failures }, stage.directory)
}

function explained(error: unknown, part: Part, late: AbortSignal): string {
  if (late.aborted) return `it took longer than its timeout of ${part.file.scenario.timeout} ms: ${messageOf(error)}`
  return messageOf(error)
}

/** Carries out steps, checks and measurements. @throws only when the stage falls over */
async function perfect(
  part: Part,
  stage: Lab,
): Promise<Pick<Played, 'failures'> & Pick<RunRecord, 'outcome' | 'error'>> {
  const failures = new Map<string, string>()
  const performance: Performance = {
    lab: stage,
    control: part.control,
    where: ({ path: at }) => part.file.where(at),
    begun: new Map(),
    background: new Map(),
    ended: new AbortController(),
    onFinding: (step, error) => {
      failures.set(titleOf(step), error.message)
      stage.timeline.check(titleOf(step), false, error.message)
    },
  }
  let stepError: StepError | undefined
  let logs: ReadonlyMap<string, string> = new Map()
  try {
    await perform(performance, part.steps)
  } catch (error) {
    stage.signal.throwIfAborted()
    if (!(error instanceof StepError)) throw error
    stepError = error
    logs = logsOf(stage)
    failures.set(titleOf(error.step), error.message)
    stage.timeline.check(titleOf(error.step), false, error.message)
  }
  for (const [name, settings] of Object.entries(part.file.scenario.measure ?? {}))
    takeMeasure(stage, name, settings, performance.begun, failures)
  for (const { id, ok, detail } of await stage.runChecks(part.checks)) if (!ok) failures.set(id, detail)
  for (const workload of stage.workloads) stage.timeline.series.push(...workload.series(stage.timeline.now()))
  for (const server of stage.servers.values()) stage.timeline.series.push(...server.series)
  if (stepError === undefined) stage.signal.throwIfAborted()
  else return { outcome: brokenOr(stepError), error: withLogs(stepError, logs), failures }
  return { outcome: failures.size === 0 ? 'passed' : 'failed', failures }
}

const brokenOr = (error: StepError): Outcome => (isBroken(error.cause) ? 'broken' : 'failed')

const LOG_LENGTH_MAX = 6000

/** What the programs have printed last, and how they ended: a step is explained by them more often than by itself. */
function withLogs(error: StepError, logs: ReadonlyMap<string, string>): string {
  return [error.message, ...[...logs].map(([name, log]) => `${name}:\n${log}`)].join('\n')
}

function logsOf(stage: Lab): Map<string, string> {
  const logs = [...stage.servers, ...stage.machines, ...stage.disks].map(
    ([name, it]) => [name, it.log().trim()] as const,
  )
  return new Map(logs.filter(([, log]) => log !== '').map(([name, log]) => [name, shortened(log)]))
}

/** The command line stands at the beginning. */
const shortened = (log: string): string =>
  log.length <= LOG_LENGTH_MAX ? log : `${log.slice(0, LOG_LENGTH_MAX / 2)}\n[...]\n${log.slice(-LOG_LENGTH_MAX / 2)}`

function takeMeasure(
  stage: Lab,
  name: string,
  { of, value, limit, after }: MeasureSettings,
  begun: ReadonlyMap<string, number>,
  failures: Map<string, string>,
): void {
  const measurement = { name, ...measured(stage, of, value, after === undefined ? 0 : (begun.get(after) ?? 0)) }
  stage.timeline.measurements.push({ ...measurement, ...(limit === undefined ? {} : { limit }) })
  if (limit !== undefined && !(measurement.value <= limit))
    failures.set(name, `${measurement.value} ${measurement.unit}, and ${limit} is the limit`)
}

function measured(stage: Lab, of: string, what: MeasureSettings['value'], afterMs: number): Omit<Measurement, 'name'> {
  const workload = stage.workloads.find(({ name }) => name === of)
  if (workload === undefined)
    throw new LabError(`the workload '${of}' was never started, so nothing can be measured of it`)
  const nowMs = stage.timeline.now()
  const latencies = workload.latencies(afterMs)
  const at = (share: number): number =>
    latencies[Math.min(latencies.length - 1, Math.floor(share * latencies.length))] ?? 0
  switch (what) {
    case 'longest-gap':
      return { value: workload.longestGap(nowMs, afterMs), unit: 'ms' }
    case 'latency-max':
      return { value: at(1), unit: 'ms' }
    case 'latency-p99':
      return { value: at(0.99), unit: 'ms' }
    case 'writes':
      return { value: latencies.length, unit: '' }
    case 'throughput':
      return { value: Number(workload.throughput(nowMs, afterMs).toFixed(3)), unit: 'MiB/s' }
  }
}

function recordOf(
  part: Part,
  stage: Lab | undefined,
  startedAt: Date,
  startMs: number,
  { outcome, error }: Pick<RunRecord, 'outcome' | 'error'>,
): RunRecord {
  return {
    name: part.file.name,
    title: part.title,
    seed: part.seed,
    startedAt: startedAt.toISOString(),
    durationMs: Math.round(performance.now() - startMs),
    outcome,
    ...(error === undefined ? {} : { error }),
    checks: stage?.timeline.checks ?? [],
    measurements: stage?.timeline.measurements ?? [],
    series: stage?.timeline.series ?? [],
    marks: [...(stage?.timeline.marks ?? [])].sort((a, b) => a.atMs - b.atMs),
  }
}

/** The processes of a lab have its directory in their command lines. */
export function processesIn(directory: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ')
      } catch {
        return ''
      }
    })
    .filter((commandLine) => commandLine.includes(directory))
}

const PROCESSES_WAIT_MS = 2000

/** What was killed in a group may take a moment to be gone. */
async function withProcessesCheck({ record, failures }: Played, directory: string): Promise<Played> {
  const deadline = performance.now() + PROCESSES_WAIT_MS
  while (processesIn(directory).length > 0 && performance.now() < deadline) await pause(10)
  const left = processesIn(directory)
  const ok = left.length === 0
  const check: Check = {
    name: 'no process is left',
    ok,
    atMs: record.durationMs,
    ...(ok ? {} : { detail: left.join('\n') }),
  }
  return {
    record: {
      ...record,
      outcome: ok || record.outcome === 'broken' ? record.outcome : 'failed',
      checks: [...record.checks, check],
    },
    failures: ok ? failures : new Map([...failures, ['processes', left.join('\n')]]),
  }
}

/** The control run has to fail, and as expected. */
function withControl(record: RunRecord, control: Played, { control: settings }: Scenario): RunRecord {
  const atMs = record.durationMs
  const checks: Check[] = (settings?.expect ?? []).map(({ check, detail: wanted }) => {
    const name = `control: fails '${check}'`
    const found = control.failures.get(check)
    if (control.record.outcome === 'broken')
      return { name, ok: false, detail: `the control run broke: ${control.record.error ?? ''}`, atMs }
    if (found === undefined) return { name, ok: false, detail: 'it does not fail there', atMs }
    const ok = wanted === undefined || wanted.test(found)
    return { name, ok, detail: ok ? found : `it fails otherwise than with ${String(wanted)}: ${found}`, atMs }
  })
  const ok = checks.every((check) => check.ok)
  const outcome: Outcome = record.outcome === 'passed' && !ok ? 'failed' : record.outcome
  return { ...record, outcome, checks: [...record.checks, ...checks], control: control.record }
}
