/** What the line-by-line reports say of a run: each thing that was to hold, with what was found. Pure. */
import { formatMs, formatQuantity } from './quantity.js'
import { isWithinLimit, type Measurement, type RunRecord } from './record.js'

/** `error`: nothing is known, because the run broke down before it could be found out. */
export type VerdictStatus = 'ok' | 'failure' | 'error'

export interface Verdict {
  readonly name: string
  readonly status: VerdictStatus
  /** What was found, in a sentence or less. */
  readonly found: string
  /** More, by name. */
  readonly facts: Readonly<Record<string, string | number>>
  readonly atMs: number
}

/** The checks, the measurements that have a limit, the control run, and the error if there is one: never an empty list. */
export function verdictsOf(run: RunRecord): Verdict[] {
  const verdicts = [
    ...checkVerdicts(run),
    ...run.measurements.filter(({ limit }) => limit !== undefined).map((one) => limitVerdict(one, run.durationMs)),
    ...controlVerdicts(run),
  ]
  const saidWhy = verdicts.some(({ status }) => status !== 'ok')
  if (run.outcome === 'passed' && verdicts.length > 0) return verdicts
  if (run.outcome === 'failed' && saidWhy && run.error === undefined) return verdicts
  return [...verdicts, wholeVerdict(run)]
}

function checkVerdicts(run: RunRecord): Verdict[] {
  return run.checks.map(({ name, ok, detail = '', atMs }) => {
    const without = run.control?.checks.find((check) => check.name === name)
    const facts = without === undefined ? {} : { 'without nbd-remap': phrase(without.ok, without.detail) }
    return { name, status: ok ? 'ok' : 'failure', found: detail, facts, atMs }
  })
}

function limitVerdict(measurement: Measurement, atMs: number): Verdict {
  const { name, value, unit, limit = Infinity } = measurement
  return {
    name: `${name}: at most ${formatQuantity(limit, unit)}`,
    status: isWithinLimit(measurement) ? 'ok' : 'failure',
    found: formatQuantity(value, unit),
    facts: {},
    atMs,
  }
}

function controlVerdicts({ control, durationMs }: RunRecord): Verdict[] {
  if (control === undefined) return []
  const found = control.checks.filter(({ ok }) => !ok).map(({ name, detail }) => phrase(false, firstLine(detail), name))
  const status = { passed: 'failure', failed: 'ok', broken: 'error' } as const
  const facts = { ...(control.error === undefined ? {} : { error: control.error }) }
  return [
    {
      name: 'without nbd-remap it fails',
      status: status[control.outcome],
      found: found.length > 0 ? found.join('; ') : control.outcome,
      facts,
      atMs: durationMs,
    },
  ]
}

/** Without the colon that announces the next one. */
const firstLine = (text = ''): string => (text.split('\n')[0] ?? '').replace(/:$/, '')

const phrase = (ok: boolean, detail = '', name = ''): string =>
  [name, ok ? 'holds' : 'does not hold', detail].filter((part) => part !== '').join(': ')

function wholeVerdict({ outcome, error, durationMs }: RunRecord): Verdict {
  const status = { passed: 'ok', failed: 'failure', broken: 'error' } as const
  const found = error ?? (outcome === 'passed' ? `ended after ${formatMs(durationMs)}` : outcome)
  return { name: 'the run itself', status: status[outcome], found, facts: {}, atMs: durationMs }
}
