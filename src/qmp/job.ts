/**
 * `QmpJob`: a long operation of QEMU (mirror, backup, stream, commit, create), from the command that starts it to its end. QEMU's jobs vanish
 * when they are done, and their errors with them, so jobs are started to stay until they are dismissed, which happens here.
 *
 * The queue of events is opened before the command, since a short job ends before the reply to the command that started it.
 */

import { randomUUID } from 'node:crypto'
import { QmpConnectionError, QmpError, QmpJobError } from './error.js'
import type { EventQueue } from './events.js'
import { CONNECTION_LOST, CONNECTION_RESTORED, EVENTS_DROPPED, isObject, type JsonObject } from './message.js'
import type { QmpPeer } from './peer.js'

/** QEMU's `JobStatus`. `ready`: a mirror or an active commit has caught up; `concluded`: done or failed, and still there. */
export type JobStatus =
  | 'undefined' | 'created' | 'running' | 'paused' | 'ready' | 'standby' | 'waiting' | 'pending' | 'aborting' | 'concluded' | 'null' // prettier-ignore

/** In units of the job's own, usually bytes; `total` may grow. */
export interface JobProgress {
  readonly current: number
  readonly total: number
}

export interface JobOptions {
  /** Cancels the job; what waits for it then fails with `QmpJobError`, whose cause is the signal's reason. */
  readonly signal?: AbortSignal
  readonly onStatus?: (status: JobStatus) => void
}

/** Jobs of these commands vanish by themselves unless told not to; all others stay. */
const DISMISS_THEMSELVES: ReadonlySet<string> = new Set([
  'block-commit',
  'block-stream',
  'blockdev-backup',
  'blockdev-mirror',
  'drive-backup',
  'drive-mirror',
])

interface Settled {
  readonly promise: Promise<void>
  resolve(): void
  reject(error: Error): void
}

export class QmpJob {
  readonly id: string
  readonly command: string
  readonly #client: QmpPeer
  readonly #queue: EventQueue
  readonly #options: JobOptions
  readonly #ready = settled()
  readonly #ended = settled()
  #status: JobStatus = 'created'
  #isOver = false
  #cancelled = false

  private constructor(client: QmpPeer, id: string, command: string, queue: EventQueue, options: JobOptions) {
    this.id = id
    this.command = command
    this.#client = client
    this.#queue = queue
    this.#options = options
  }

  /**
   * Sends the command that starts a job.
   * @param args of the command; a `job-id` is made up when there is none
   * @throws QmpCommandError when QEMU does not start it
   */
  static async start(client: QmpPeer, command: string, args: JsonObject, options: JobOptions = {}): Promise<QmpJob> {
    const id = typeof args['job-id'] === 'string' ? args['job-id'] : `job-${randomUUID()}`
    if (options.signal?.aborted === true) {
      throw new QmpJobError(command, id, 'cancelled before it began', { cause: options.signal.reason })
    }
    const queue = client.events(({ event, data }) => event === 'JOB_STATUS_CHANGE' && data['id'] === id)
    const job = new QmpJob(client, id, command, queue, options)
    const toItsEnd = DISMISS_THEMSELVES.has(command) ? { 'auto-dismiss': false, 'auto-finalize': true } : {}
    try {
      await client.execute(command, { ...args, ...toItsEnd, 'job-id': id })
    } catch (error) {
      queue.close()
      throw error
    }
    void job.#follow()
    return job
  }

  get status(): JobStatus {
    return this.#status
  }

  /** As QEMU counts it now. @throws QmpJobError when the job is gone */
  async progress(): Promise<JobProgress> {
    const { 'current-progress': current, 'total-progress': total } = await this.#query()
    return { current: Number(current), total: Number(total) }
  }

  /** Resolves when the job has caught up: from then on its target follows the source. @throws QmpJobError when it ends before */
  ready(): Promise<void> {
    return this.#ready.promise
  }

  /** Resolves when the job has done its work, and is gone. @throws QmpJobError when it failed or was cancelled */
  finished(): Promise<void> {
    return this.#ended.promise
  }

  /** Has a job that has caught up, or will, switch over to its target, and waits for its end. @throws QmpJobError */
  async complete(): Promise<void> {
    await this.ready()
    await this.#client.execute('job-complete', { id: this.id })
    await this.finished()
  }

  /** Has a mirror that has caught up, or will, leave the target as it is then, and the source in use. @throws QmpJobError */
  async detach(): Promise<void> {
    await this.ready()
    await this.#client.execute('block-job-cancel', { device: this.id })
    await this.finished()
  }

  /** Ends the job, whatever it has done, and waits until it is gone. Not an error when it has ended already. */
  async cancel(): Promise<void> {
    if (this.#isOver) return
    if (!this.#cancelled) {
      this.#cancelled = true
      await this.#client.execute('job-cancel', { id: this.id }).catch((error: unknown) => {
        // It may have concluded in the meantime.
        if (!this.#isOver && this.#status !== 'concluded') throw error
      })
    }
    await this.finished().catch((error: unknown) => {
      if (!(error instanceof QmpJobError)) throw error
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cancel()
  }

  async #follow(): Promise<void> {
    const { signal } = this.#options
    const onAbort = (): void => void this.cancel().catch((error: unknown) => {
      this.#end(error)
    }) // prettier-ignore
    if (signal?.aborted === true) onAbort()
    else signal?.addEventListener('abort', onAbort, { once: true })
    try {
      while (!this.#isOver) await this.#note(await this.#nextStatus())
    } catch (error) {
      this.#end(error)
    } finally {
      signal?.removeEventListener('abort', onAbort)
      this.#queue.close()
    }
  }

  /** What the next event says; where events are missing, what QEMU says when asked. */
  async #nextStatus(): Promise<JobStatus> {
    for (;;) {
      const { event, data } = await this.#queue.next()
      // A client that connects again says when: until then nobody can be asked.
      if (event === CONNECTION_LOST) continue
      const isTold = event !== EVENTS_DROPPED && event !== CONNECTION_RESTORED
      return (isTold ? data : await this.#query())['status'] as JobStatus
    }
  }

  async #note(status: JobStatus): Promise<void> {
    this.#status = status
    this.#options.onStatus?.(status)
    if (status === 'ready') this.#ready.resolve()
    if (status === 'concluded') await this.#conclude()
    // Somebody else dismissed it: its error is not known any more.
    if (status === 'null') this.#end(new QmpJobError(this.command, this.id, 'the job was dismissed by somebody else'))
  }

  async #conclude(): Promise<void> {
    const { error } = await this.#query()
    await this.#client.execute('job-dismiss', { id: this.id })
    this.#end(typeof error === 'string' ? new QmpJobError(this.command, this.id, error) : undefined)
  }

  async #query(): Promise<JsonObject> {
    const jobs = await this.#client.execute('query-jobs')
    const objects = Array.isArray(jobs) ? jobs.filter(isObject) : []
    const job = objects.find(({ id }) => id === this.id)
    if (job !== undefined) return job
    throw new QmpJobError(this.command, this.id, 'the job is gone')
  }

  #end(reason: unknown): void {
    if (this.#isOver) return
    this.#isOver = true
    if (reason === undefined) {
      // A job that never had to be ready has nothing more to catch up with.
      this.#ready.resolve()
      this.#ended.resolve()
      return
    }
    const error = this.#explain(reason)
    this.#ready.reject(error)
    this.#ended.reject(error)
  }

  #explain(reason: unknown): Error {
    const error = reason instanceof Error ? reason : new QmpError(String(reason))
    if (!this.#cancelled || error instanceof QmpConnectionError) return error
    const { signal } = this.#options
    const cause: unknown = signal?.aborted === true ? (signal.reason as unknown) : error
    return new QmpJobError(this.command, this.id, 'cancelled', { cause })
  }
}

export interface RunJobOptions extends JobOptions {
  /** What becomes of a job that has caught up: it switches over to its target, or leaves it as it is. Default `complete`. */
  readonly whenReady?: 'complete' | 'detach'
  readonly onProgress?: (progress: JobProgress) => void
  /** Default 500. */
  readonly progressIntervalMs?: number
}

/**
 * Runs a job to its end.
 *
 *     await runJob(client, 'blockdev-mirror', { device: 'disk', target: 'copy', sync: 'full' }, { signal })
 *
 * @throws QmpCommandError when QEMU does not start it
 * @throws QmpJobError when it fails, or `signal` fires: then it was cancelled, and is gone
 */
export async function runJob(
  client: QmpPeer,
  command: string,
  args: JsonObject,
  options: RunJobOptions = {},
): Promise<void> {
  const { whenReady = 'complete', onProgress, progressIntervalMs = 500 } = options
  await using job = await QmpJob.start(client, command, args, options)
  const report = async (): Promise<void> => {
    // A job that has ended meanwhile has no progress, and says itself how it ended.
    await job.progress().then(onProgress, () => undefined)
  }
  const timer = onProgress && setInterval(() => void report(), progressIntervalMs)
  try {
    const isReady = Promise.race([job.ready(), job.finished()])
    await isReady
    if (job.status === 'ready') await (whenReady === 'complete' ? job.complete() : job.detach())
    else await job.finished()
  } finally {
    clearInterval(timer)
  }
}

/** A promise that may be rejected before anybody waits for it. */
function settled(): Settled {
  let resolve: () => void = () => undefined
  let reject: (error: Error) => void = () => undefined
  const promise = new Promise<void>((resolved, rejected) => {
    resolve = resolved
    reject = rejected
  })
  promise.catch(() => undefined)
  return { promise, resolve, reject }
}
