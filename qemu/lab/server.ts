/**
 * `LabServer`: an nbd-remap serve of the lab. It can be started again after it was killed, hung, or stopped; its sockets
 * stay the same.
 */
import { execFile } from 'node:child_process'
import { mkdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { isNbdUri } from '../../src/nbd/uri.js'
import { QmpClient } from '../../src/qmp/index.js'
import { processState } from '../../src/util/process-state.js'
import { KiB } from '../../src/util/units.js'
import type { Exit } from '../process.js'
import { findProgram } from '../program.js'
import { RemapServer } from '../remap-server.js'
import type { Series } from '../report/record.js'
import { ServerSampler } from '../report/server-sampler.js'
import type { ServerSettings } from '../scenario/format.js'
import type { Kill } from '../scenario/format-steps.js'
import { LabError } from './error.js'
import { followAgain, type EventLog } from './events.js'
import type { Timeline } from './timeline.js'

/** What it is told on its command line. */
export interface ServerCommandLine {
  readonly main: string
  readonly spares: readonly string[]
  readonly replica?: string
  readonly options: Readonly<Record<string, unknown>>
}

interface Status {
  readonly pid: number
  readonly clients: readonly { readonly 'requests-in-flight': number }[]
}

interface Statistics {
  readonly writes: number
}

const STOP_TIMEOUT_MS = 15_000

export class LabServer {
  readonly name: string
  readonly settings: ServerSettings
  readonly directory: string
  readonly socketPath: string
  readonly controlPath: string
  readonly #program: string
  readonly #commandLine: () => ServerCommandLine
  readonly #events: EventLog
  readonly #timeline: Timeline
  /** Through all its restarts. */
  #sampler: ServerSampler | undefined
  #server: RemapServer | undefined
  #following: AbortController | undefined
  #formatted = false
  /** The worker that was stopped by SIGSTOP: its control socket does not answer. */
  #hanging: number | undefined

  /** @param commandLine asked at each start */
  constructor(
    name: string,
    settings: ServerSettings,
    options: {
      readonly directory: string
      readonly program: string
      readonly events: EventLog
      readonly timeline: Timeline
      readonly commandLine: () => ServerCommandLine
    },
  ) {
    this.name = name
    this.settings = settings
    this.directory = path.join(options.directory, settings.standbyOf ?? name)
    this.socketPath = path.join(this.directory, 'remap.sock')
    this.controlPath = path.join(this.directory, 'remap.qmp')
    this.#program = options.program
    this.#commandLine = options.commandLine
    this.#events = options.events
    this.#timeline = options.timeline
  }

  get running(): boolean {
    return this.#server?.process.running === true
  }

  /** What it did, as far as it said so itself. */
  get series(): Series[] {
    return this.#sampler?.series ?? []
  }

  get uri(): string {
    return `nbd+unix:///disk?socket=${encodeURI(this.socketPath)}`
  }

  get #standsBy(): boolean {
    return this.settings.standbyOf !== undefined
  }

  get #running(): RemapServer {
    if (this.#server?.process.running !== true) throw new LabError(`the server '${this.name}' does not run`)
    return this.#server
  }

  /** Resolves when it accepts connections, or stands by. @throws LaunchError with the server's own words */
  async start(): Promise<void> {
    if (this.running) throw new LabError(`the server '${this.name}' runs already`)
    await mkdir(this.directory, { recursive: true })
    const { main, spares, replica, options } = this.#commandLine()
    this.#server = await RemapServer.start({
      program: this.#program,
      directory: this.directory,
      main,
      spare: spares,
      supervise: this.settings.supervise,
      standby: this.#standsBy,
      args: [
        ...(this.#formatted || this.#standsBy ? [] : ['--create']),
        ...(replica === undefined ? [] : ['--replica', replica]),
        ...serveArgs(options),
      ],
    })
    this.#formatted = true
    this.#hanging = undefined
    this.#following?.abort()
    this.#following = new AbortController()
    // Who listens to the server that it stands by for goes on listening at the same place.
    if (this.#standsBy) return
    void followAgain(this.#events, this.name, this.controlPath, this.#following.signal)
    this.#sampler ??= ServerSampler.start(this.controlPath, { now: () => this.#timeline.now(), name: this.name })
  }

  /** Asks its control socket one thing. @throws QmpError */
  async execute<T>(command: string, args: Readonly<Record<string, unknown>> = {}, timeoutMs?: number): Promise<T> {
    const client = await QmpClient.connect(
      this.controlPath,
      timeoutMs === undefined ? {} : { connectTimeoutMs: timeoutMs },
    )
    try {
      return (await client.execute(command, args, timeoutMs === undefined ? {} : { timeoutMs })) as T
    } finally {
      await client.close()
    }
  }

  /** Process id of what serves the disk now. */
  async workerPid(): Promise<number> {
    if (this.#hanging !== undefined) return this.#hanging
    return (await this.execute<Status>('query-status')).pid
  }

  /**
   * SIGKILL.
   * @param part `worker`: a supervisor starts the next one; `all`: as in a power cut
   * @returns what it was at, when asked to wait until it is written to, in words
   * @throws LabError when nobody writes
   */
  async kill({ part = 'all', whileWriting = false, within = 0 }: Partial<Kill> = {}): Promise<string | undefined> {
    const server = this.#running
    const busy = whileWriting ? await this.#whileWriting(within) : undefined
    if (part === 'all') await server.killAll()
    else process.kill(busy?.pid ?? (await this.workerPid()), 'SIGKILL')
    return busy?.at
  }

  /**
   * RLIMIT_DATA of the worker, by util-linux's prlimit, so many bytes above what it has.
   * @throws LabError when prlimit refuses
   */
  async limitMemory(more: number): Promise<void> {
    const pid = await this.workerPid()
    const [, kibibytes] = /^VmData:\s+(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, 'latin1')) ?? []
    const args = ['--pid', String(pid), `--data=${Number(kibibytes) * KiB + more}`]
    await promisify(execFile)(findProgram('prlimit'), args).catch((error: unknown) => {
      throw new LabError(`prlimit ${args.join(' ')} failed`, { cause: error })
    })
  }

  /** SIGSTOP to the worker: it hangs. */
  async stop(): Promise<void> {
    const pid = await this.workerPid()
    process.kill(pid, 'SIGSTOP')
    this.#hanging = pid
  }

  /** SIGCONT to it, if it is still there. */
  cont(): void {
    if (this.#hanging === undefined) throw new LabError(`the server '${this.name}' was not stopped`)
    try {
      process.kill(this.#hanging, 'SIGCONT')
    } catch {
      // Somebody else has ended it meanwhile.
    }
    this.#hanging = undefined
  }

  /** An orderly stop. @throws LabError when it does not end with exit code 0, at once for one that was stopped by SIGSTOP */
  async quit(): Promise<void> {
    const server = this.#running
    if (this.#hanging !== undefined && processState(this.#hanging) !== undefined)
      throw new LabError(`the server '${this.name}' was stopped by a step, and no step has let it go on`)
    const exit = await Promise.race([server.stop(), pause(STOP_TIMEOUT_MS, undefined, { ref: false })])
    this.#following?.abort()
    if (exit === undefined)
      throw server.process.error(`the server '${this.name}' did not stop within ${STOP_TIMEOUT_MS} ms`)
    if (exit.code !== 0) throw server.process.error(`the server '${this.name}' stopped ${describeExit(exit)}`)
  }

  killNow(): void {
    this.#following?.abort()
    void this.#sampler?.stop()
    this.#server?.process.killGroup()
  }

  /** Resolves when what `killNow` killed is gone. */
  async gone(): Promise<void> {
    await this.#sampler?.stop()
    await this.#server?.process.exited
  }

  log(): string {
    return this.#server?.process.story() ?? ''
  }

  /**
   * Asks until it has requests in flight. A file is written to before the next question can be answered, so there it is enough
   * that it was written to since the last one.
   */
  async #whileWriting(withinMs: number): Promise<{ pid: number; at: string }> {
    const isFile = !isNbdUri(this.#commandLine().main)
    const client = await QmpClient.connect(this.controlPath)
    const lateMs = performance.now() + withinMs
    try {
      for (let before = Infinity; performance.now() < lateMs;) {
        const { pid, clients } = (await client.execute('query-status')) as Status
        const requests = clients.reduce((sum, it) => sum + it['requests-in-flight'], 0)
        if (requests > 0) return { pid, at: `requests in flight: ${requests}` }
        if (!isFile) continue
        const { writes } = (await client.execute('query-stats')) as Statistics
        if (writes > before) return { pid, at: 'amid writes' }
        before = writes
      }
    } finally {
      await client.close()
    }
    throw new LabError(`nobody has written to the server '${this.name}' within ${withinMs} ms`)
  }
}

const describeExit = ({ code, signal }: Exit): string =>
  signal === null ? `with exit code ${String(code)}` : `by ${signal}`

/** `{ 'slow-read': 0.5, verbose: true }` as words of a command line. */
function serveArgs(options: Readonly<Record<string, unknown>>): string[] {
  return Object.entries(options).flatMap(([name, value]) => {
    if (value === false || value === null) return []
    if (value === true) return [`--${name}`]
    return [value].flat().flatMap((one) => [`--${name}`, typeof one === 'string' ? one : JSON.stringify(one)])
  })
}
