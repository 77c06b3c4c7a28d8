/**
 * `npm run bench`: how fast the server is beside those that users would pick instead, and whether the goals are met.
 * Ctrl-C ends every process and removes every file that the benchmark made; a second one does not wait for that.
 */
import { constants } from 'node:os'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { JOBS } from './jobs.js'
import { describeMachine, describeNoise, formatMachine, type Machine } from './machine.js'
import { parseOptions, type BenchOptions } from './options.js'
import { plotCurves, plotRatios, type Curve } from './plot.js'
import { Progress } from './progress.js'
import { runJobs } from './run.js'
import { missesGoal, type JobSummary } from './summary.js'
import { formatTable } from './table.js'

const SIGNIFICANT_DIGITS = 5
/** Beside the other plot. */
const REMAP_PLOT = 'remap-table.svg'
const SIGNAL_EXIT_BASE = 128

class InterruptedError extends Error {
  override name = 'InterruptedError'
  constructor(readonly signal: NodeJS.Signals) {
    super(`interrupted by ${signal}`)
  }
}

function interruption(): AbortSignal {
  const abort = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (abort.signal.aborted) process.exit(SIGNAL_EXIT_BASE + constants.signals[signal])
      abort.abort(new InterruptedError(signal))
    })
  }
  return abort.signal
}

async function bench(options: BenchOptions): Promise<void> {
  const progress = new Progress(process.stderr)
  const jobs = JOBS.filter(({ name }) => options.jobs?.test(name) ?? true)
  if (jobs.length === 0) throw new RangeError(`no job matches; there are: ${JOBS.map(({ name }) => name).join(', ')}`)
  const machine = await describeMachine()
  const noise = describeNoise(machine)
  if (noise !== undefined) progress.warn(noise)
  try {
    const beganMs = performance.now()
    const summaries = await runJobs(jobs, { ...options, signal: interruption(), progress })
    const tookSeconds = Math.round((performance.now() - beganMs) / 1000)
    await report(summaries, machine, { ...options, tookSeconds })
    if (summaries.some(({ failed }) => failed !== null)) process.exitCode = 1
    if (options.check && summaries.some(missesGoal)) process.exitCode = 1
  } finally {
    progress.clear()
  }
}

interface Report extends BenchOptions {
  readonly tookSeconds: number
}

async function report(jobs: readonly JobSummary[], machine: Machine, options: Report): Promise<void> {
  const { rounds, seconds, size, tookSeconds, json: jsonFile, plot: plotFile } = options
  const command = ['npm run bench', ...(args.length > 0 ? ['--', ...args.map(quote)] : [])].join(' ')
  const date = new Date().toISOString()
  const json = `${JSON.stringify({ command, date, tookSeconds, rounds, seconds, size, machine, jobs }, roundNumber, 2)}\n`
  if (jsonFile === '-') process.stdout.write(json)
  else process.stdout.write(`${formatTable(jobs)}${formatMachine(machine)}; took ${tookSeconds} s\n`)
  if (jsonFile !== undefined && jsonFile !== '-') await writeFile(jsonFile, json)
  const subtitle = `Medians of ${rounds} rounds of ${seconds} s; thin line: range over the rounds; upright line: goal`
  const lines = [subtitle, describeNoise(machine) ?? formatMachine(machine)]
  if (plotFile === undefined) return
  await writeFile(plotFile, plotRatios(jobs, lines))
  const curves = [
    curve(jobs, 'lookup', 'Lookup over the number of remaps'),
    curve(jobs, 'pause', 'Longest pause while growing'),
  ]
  if (curves.every(({ points }) => points.length > 0))
    await writeFile(
      path.join(path.dirname(plotFile), REMAP_PLOT),
      plotCurves(curves, `${lines[1] ?? ''}; short lines: goals`),
    )
}

/** Of the jobs whose names are `name` and a number of remaps. */
function curve(jobs: readonly JobSummary[], name: string, title: string): Curve {
  const ours = jobs.filter((job) => new RegExp(`^${name}-\\d+$`).test(job.name))
  const points = ours.flatMap(({ name: full, value, goal }) =>
    value === null ? [] : [{ remaps: Number(full.slice(name.length + 1)), value: Math.max(value, 0.01), goal }],
  )
  return { title, unit: ours[0]?.unit ?? '', points }
}

/** More digits than were measured would only make every run look different. */
const roundNumber = (_: string, value: unknown): unknown =>
  typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(SIGNIFICANT_DIGITS)) : value

/** For a shell. */
const quote = (arg: string): string => (/^[\w@%+=:,./-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`)

const args = process.argv.slice(2)
try {
  await bench(parseOptions(args))
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = error instanceof InterruptedError ? SIGNAL_EXIT_BASE + constants.signals[error.signal] : 1
}
