/** What `nbd-remap scenario` does, and what is shown of it meanwhile. */
import { availableParallelism } from 'node:os'
import path from 'node:path'
import ora, { type Ora } from 'ora'
import { isWithinLimit, type Mark, type RunRecord } from '../../qemu/report/index.js'
import { builtInScenarios, findScenario } from '../../qemu/scenario/built-in.js'
import { ScenarioFileError, type ScenarioFile } from '../../qemu/scenario/document.js'
import { runScenario } from '../../qemu/scenario/run.js'
import { UsageError } from '../util/errors.js'
import { EXIT } from './exit.js'
import { Interrupt } from './interrupt.js'
import type { RunCommandOptions } from './scenario.js'
import { refuseUnwritable, writeReports } from './write-reports.js'

type Settings = NonNullable<RunCommandOptions['set']>

export function listScenarios({ json }: { readonly json?: boolean }): void {
  const scenarios = builtInScenarios().map((file) => ({
    name: file.name,
    title: file.scenario.title,
    control: file.scenario.control?.title ?? null,
    file: path.relative(process.cwd(), file.path),
  }))
  const width = Math.max(0, ...scenarios.map(({ name }) => name.length))
  const lines = scenarios.map(({ name, title }) => `${name.padEnd(width)}  ${title}\n`)
  process.stdout.write(json ? `${JSON.stringify({ scenarios }, null, 2)}\n` : lines.join(''))
}

export function checkScenarios(words: readonly string[]): void {
  for (const file of readAll(words)) process.stdout.write(`${file.path}: ${file.scenario.title}\n`)
}

/** All that is wrong in any of them is told at once. @throws UsageError */
function readAll(words: readonly string[], given: Settings = {}): ScenarioFile[] {
  const problems: string[] = []
  const files = words.flatMap((word) => {
    try {
      return [withSettings(word, given)]
    } catch (error) {
      if (!(error instanceof ScenarioFileError)) throw error
      problems.push(error.message)
      return []
    }
  })
  const known = new Set(files.flatMap(({ scenario }) => Object.keys(scenario.parameters ?? {})))
  const unknown = Object.keys(given).filter((name) => !known.has(name))
  if (problems.length === 0 && unknown.length > 0) {
    const there = known.size === 0 ? 'there are none' : `there are ${[...known].join(', ')}`
    problems.push(`no scenario has the parameter '${unknown.join("', '")}'; ${there}`)
  }
  if (problems.length > 0) throw new UsageError(problems.join('\n'))
  return files
}

/** Of several scenarios, each takes the parameters that it has. */
function withSettings(word: string, given: Settings): ScenarioFile {
  const file = findScenario(word)
  const own = Object.entries(given).filter(([name]) => Object.hasOwn(file.scenario.parameters ?? {}, name))
  return own.length === 0 ? file : findScenario(word, Object.fromEntries(own))
}

export async function runScenarios(words: readonly string[], options: RunCommandOptions): Promise<void> {
  const files = readAll(words.length === 0 ? builtInScenarios().map(({ name }) => name) : words, options.set)
  await refuseUnwritable(options)
  const interrupt = new Interrupt()
  const progress = new Progress(files.length)
  try {
    const records = await runAll(files, options, interrupt.signal, progress)
    progress.end()
    await writeReports(records, options)
    const failed = records.filter(({ outcome }) => outcome !== 'passed').length
    process.exitCode = failed === 0 ? EXIT.done : EXIT.failed
  } catch (error) {
    if (interrupt.exitCode === undefined) throw error
    progress.end()
    process.stderr.write('interrupted; nothing is left running\n')
    process.exitCode = interrupt.exitCode
  } finally {
    progress.end()
    interrupt.dispose()
  }
}

/** In the order of the files. */
async function runAll(
  files: readonly ScenarioFile[],
  { seed, control, keep, jobs }: RunCommandOptions,
  signal: AbortSignal,
  progress: Progress,
): Promise<RunRecord[]> {
  const turns = new Turns(jobs ?? Math.max(1, Math.floor(availableParallelism() / 2)))
  const runs = files.map(async (file) => {
    const record = await runScenario(file, {
      control,
      signal,
      turn: (work) => turns.take(work),
      ...(seed === undefined ? {} : { seed }),
      ...(keep ? { keep } : {}),
      onMark: (mark, inControl) => {
        progress.mark(file, mark, inControl)
      },
      onKept: (directory, inControl) => {
        progress.line(`${file.name}${inControl ? ' (control)' : ''}: ${directory} is kept`)
      },
    })
    progress.done(file, record)
    return record
  })
  await Promise.allSettled(runs)
  return Promise.all(runs)
}

/** So many at a time, in the order of asking. */
class Turns {
  #free: number
  readonly #waiting: (() => void)[] = []

  constructor(most: number) {
    this.#free = most
  }

  async take<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free--
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
    try {
      return await work()
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#free++
      else next()
    }
  }
}

/** On standard error: a spinner on a terminal, a line for each scenario elsewhere. */
class Progress {
  // Ctrl-C has to stay a signal: without this option ora would read it from the terminal as a key.
  readonly #spinner: Ora = ora({ stream: process.stderr, discardStdin: false })
  readonly #count: number
  #done = 0

  constructor(count: number) {
    this.#count = count
  }

  mark(file: ScenarioFile, { kind, text }: Mark, control: boolean): void {
    if (kind === 'step' || kind === 'check')
      this.#show(`${file.name}${control ? ' (control)' : ''}: ${text.split('\n')[0] ?? ''}`)
  }

  done(file: ScenarioFile, record: RunRecord): void {
    this.#done++
    this.line(summary(file, record))
  }

  line(text: string): void {
    this.#spinner.stop()
    process.stderr.write(`${text}\n`)
  }

  end(): void {
    this.#spinner.stop()
  }

  #show(text: string): void {
    if (!this.#spinner.isEnabled) return
    const width = process.stderr.columns - 10
    this.#spinner.start(`${this.#count > 1 ? `${this.#done + 1} of ${this.#count}: ` : ''}${text}`.slice(0, width))
  }
}

function summary(
  file: ScenarioFile,
  { outcome, durationMs, control, checks, measurements, error, seed }: RunRecord,
): string {
  const seconds = ((durationMs + (control?.durationMs ?? 0)) / 1000).toFixed(1)
  const head = `${outcome === 'passed' ? 'passed' : outcome.toUpperCase()}  ${file.name}, ${seconds} s, --seed ${seed}`
  if (outcome === 'passed') return head
  const why = error === undefined ? [] : [error]
  const failed = checks.filter(({ ok }) => !ok).map(({ name, detail }) => `${name}: ${detail ?? ''}`)
  const late = measurements
    .filter((it) => !isWithinLimit(it))
    .map(({ name, value, unit, limit = 0 }) => `${name}: ${value} ${unit}, and ${limit} ${unit} is the limit`)
  return [head, ...why, ...late, ...failed.filter((text) => !why.some((it) => text.includes(it.split('\n')[0] ?? '')))]
    .join('\n')
    .replaceAll('\n', '\n  ')
}
