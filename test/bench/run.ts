/**
 * Runs jobs one after another. Jobs on the same disk share its servers, which are started for the first of them. A job that
 * fails ends with its servers, and the next ones go on with new ones.
 */
import { startServers, temporaryDirectory } from './disks.js'
import { NotRunError, type BoundJob, type CompareJob, type DiskName, type Job } from './job.js'
import type { Progress } from './progress.js'
import { measureRounds } from './rounds.js'
import { Scope } from './scope.js'
import type { BenchServer } from './servers.js'
import { summarizeBound, summarizeFailed, summarizeNotRun, summarizeRounds, type JobSummary } from './summary.js'
import { formatGoal, formatValue, formatVerdict } from './table.js'

export interface RunOptions {
  readonly rounds: number
  readonly seconds: number
  /** Bytes of the images, a whole number of MiB. */
  readonly size: number
  /** Fires when the user wants no more: daemons are dead by then. */
  readonly signal: AbortSignal
  readonly progress: Progress
}

/** @throws the reason of `signal`, after everything that was started has ended */
export async function runJobs(jobs: readonly Job[], options: RunOptions): Promise<JobSummary[]> {
  await using arena = new Arena(options)
  const summaries: JobSummary[] = []
  for (const [index, job] of jobs.entries()) {
    options.progress.job(index + 1, jobs.length, job.title)
    const summary = await attempt(job, arena, options)
    options.progress.result(describe(summary))
    summaries.push(summary)
  }
  return summaries
}

async function attempt(job: Job, arena: Arena, options: RunOptions): Promise<JobSummary> {
  try {
    return job.kind === 'compare' ? await runCompare(job, arena, options) : await runBound(job, arena, options)
  } catch (error) {
    options.signal.throwIfAborted()
    await arena.close().catch(() => undefined)
    if (error instanceof NotRunError) return summarizeNotRun(job, error.message)
    return summarizeFailed(job, error instanceof Error ? error.message : String(error))
  }
}

async function runCompare(job: CompareJob, arena: Arena, options: RunOptions): Promise<JobSummary> {
  const { servers, directory } = await arena.open(job.disk)
  return summarizeRounds(job, await measureRounds(job, servers, { ...options, directory, step: arena.step }))
}

async function runBound(job: BoundJob, arena: Arena, { seconds, signal }: RunOptions): Promise<JobSummary> {
  await arena.close()
  await using scope = new Scope()
  const directory = await temporaryDirectory(scope)
  return summarizeBound(job, await job.measure({ directory, scope, seconds, signal, step: arena.step }))
}

function describe(summary: JobSummary): string {
  const { notRun, failed } = summary
  if (notRun !== null) return `not run: ${notRun}`
  if (failed !== null) return `failed: ${failed}`
  return `${formatValue(summary)}, goal ${formatGoal(summary)}: ${formatVerdict(summary)}`
}

/** The servers of one disk at a time. */
class Arena {
  readonly #options: RunOptions
  #scope = new Scope()
  #opened: { readonly disk: DiskName; readonly servers: readonly BenchServer[]; readonly directory: string } | undefined

  constructor(options: RunOptions) {
    this.#options = options
  }

  readonly step = (text: string): void => {
    this.#options.signal.throwIfAborted()
    this.#options.progress.step(text)
  }

  async open(disk: DiskName): Promise<{ readonly servers: readonly BenchServer[]; readonly directory: string }> {
    if (this.#opened?.disk === disk) return this.#opened
    await this.close()
    const directory = await temporaryDirectory(this.#scope)
    const servers = await startServers(disk, this.#scope, { size: this.#options.size, step: this.step })
    this.#opened = { disk, servers, directory }
    return this.#opened
  }

  async close(): Promise<void> {
    this.#opened = undefined
    const scope = this.#scope
    this.#scope = new Scope()
    await scope[Symbol.asyncDispose]()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}
