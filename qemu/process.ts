/**
 * `DaemonProcess`: a program that runs beside the tests, as a scoped resource. It never outlives this process, however
 * that ends: on exit and on signals a registry kills what is left, and against SIGKILL of this process the kernel does
 * (PR_SET_PDEATHSIG, which setpriv sets).
 *
 * Each one leads a process group of its own: Ctrl-C on the terminal reaches this process only, which then ends them.
 */

import { spawn, type ChildProcess } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { openSocket, type SocketAddress } from '../src/qmp/index.js'
import { assert } from '../src/util/assert.js'
import { findProgram, ProgramNotFoundError } from './program.js'
import { TextRing } from './ring.js'

export const READY_TIMEOUT_MS = 20_000
export const CLOSE_GRACE_MS = 5_000
const SOCKET_POLL_MS = 10
const LAST_WORDS_MS = 500

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** Resolves once the daemon can be used. `signal` fires when nobody waits any more. */
export type Ready = (daemon: DaemonProcess, signal: AbortSignal) => Promise<unknown>

export interface DaemonOptions {
  readonly program: string
  readonly args: readonly string[]
  /** For messages; the program's name when not given. */
  readonly name?: string
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  /** What to wait for; without it, `start` returns as soon as the process exists. */
  readonly ready?: Ready
  readonly readyTimeoutMs?: number
}

/** The program could not be started, or ended or hung before it was ready. */
export class LaunchError extends Error {
  override name = 'LaunchError'
  constructor(
    readonly reason: string,
    readonly commandLine: string,
    readonly exit: Exit | undefined,
    /** The end of what it printed on standard output and standard error. */
    readonly log: string,
    options?: ErrorOptions,
  ) {
    super(`${reason}\ncommand: ${commandLine}\nlog: ${log.trim() === '' ? '(empty)' : log.trimEnd()}`, options)
  }
}

/** Ready when a whole line on standard output matches. */
export const stdoutLine =
  (pattern: RegExp): Ready =>
  (daemon, signal) =>
    daemon.waitForLine(pattern, signal)

/** Ready when it has said this on standard error. */
export const logLine =
  (pattern: RegExp): Ready =>
  async (daemon, signal) => {
    // The log is a ring of bytes without an event.
    while (!signal.aborted && !pattern.test(daemon.log())) await delay(SOCKET_POLL_MS)
  }

/** Ready when something accepts connections at `address`. Not for a QMP monitor that serves one client at a time. */
export const socketAccepts =
  (address: SocketAddress): Ready =>
  async (_, signal) => {
    while (!signal.aborted) {
      try {
        const socket = await openSocket(address, { timeoutMs: READY_TIMEOUT_MS, signal })
        socket.destroy()
        return
      } catch {
        // There is no event for "somebody listens now": a socket file appears before its owner calls listen().
        await delay(SOCKET_POLL_MS)
      }
    }
  }

export class DaemonProcess {
  readonly name: string
  readonly commandLine: string
  readonly pid: number
  /** Resolves when the process is gone. Never rejects. */
  readonly exited: Promise<Exit>
  readonly #child: ChildProcess
  readonly #log = new TextRing()
  readonly #lines = new EventEmitter()
  readonly #stdoutLines: string[] = []
  readonly #lastWords: Promise<unknown>
  #exit: Exit | undefined

  private constructor(options: DaemonOptions, child: ChildProcess) {
    assert(child.pid !== undefined, 'a spawned process has an id')
    this.name = options.name ?? options.program
    this.commandLine = formatCommandLine(options.program, options.args)
    this.pid = child.pid
    this.#child = child
    this.#lastWords = once(child, 'close')
    child.stderr?.on('data', (chunk: Buffer) => {
      this.#log.append(chunk)
    })
    this.#readStdout()
    this.exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        running.delete(this)
        this.#exit = { code, signal }
        resolve(this.#exit)
      })
    })
    remember(this)
  }

  /**
   * Starts the program and waits until it is ready.
   * @throws ProgramNotFoundError with the Debian package that has it
   * @throws LaunchError with exit code, command line and log, when it ends first or is not ready in time
   */
  static async start(options: DaemonOptions): Promise<DaemonProcess> {
    const daemon = await DaemonProcess.#spawn(options)
    if (options.ready === undefined) return daemon
    const { ready, readyTimeoutMs = READY_TIMEOUT_MS } = options
    try {
      await daemon.until('it was ready', (signal) => ready(daemon, signal), readyTimeoutMs)
      return daemon
    } catch (error) {
      await daemon.kill('SIGKILL')
      throw error
    }
  }

  static async #spawn(options: DaemonOptions): Promise<DaemonProcess> {
    const { program, args, cwd, env = process.env } = options
    const file = findProgram(program, env)
    const [command, commandArgs] = boundToParent(file, args)
    const child = spawn(command, commandArgs, { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
    try {
      await once(child, 'spawn')
    } catch (cause) {
      const commandLine = formatCommandLine(program, args)
      throw new LaunchError(`${program} cannot be started: ${String(cause)}`, commandLine, undefined, '', { cause })
    }
    return new DaemonProcess(options, child)
  }

  get running(): boolean {
    return this.#exit === undefined
  }

  /** The end of what it printed on standard output and standard error. */
  log(): string {
    return this.#log.toString()
  }

  /**
   * What `wait` resolves with, unless the process ends first.
   * @param what for the message: "... exited before `what`"
   * @throws LaunchError when it ends first, or after `timeoutMs`
   */
  async until<T>(what: string, wait: (signal: AbortSignal) => Promise<T>, timeoutMs = READY_TIMEOUT_MS): Promise<T> {
    const abort = new AbortController()
    const ended = this.#failure(`before ${what}`)
    const late = delay(timeoutMs, undefined, { signal: abort.signal }).then(() => {
      throw this.error(`${this.name}: ${timeoutMs} ms went by before ${what}`)
    })
    // Whoever loses the race has nobody left to tell.
    for (const loser of [ended, late]) loser.catch(() => undefined)
    try {
      return await Promise.race([
        wait(abort.signal).catch((error: unknown) => this.#explain(error, ended)),
        ended,
        late,
      ])
    } finally {
      abort.abort()
    }
  }

  /** Resolves with the first line on standard output, past or future, that matches. */
  waitForLine(pattern: RegExp, signal: AbortSignal): Promise<string> {
    const past = this.#stdoutLines.find((line) => pattern.test(line))
    if (past !== undefined) return Promise.resolve(past)
    return new Promise((resolve, reject) => {
      const onLine = (line: string): void => {
        if (!pattern.test(line)) return
        this.#lines.off('line', onLine)
        resolve(line)
      }
      this.#lines.on('line', onLine)
      signal.addEventListener('abort', () => {
        this.#lines.off('line', onLine)
        reject(new Error(`no line matches ${String(pattern)}`))
      })
    })
  }

  /** Sends a signal to the process alone and, if it ends a process for sure (SIGKILL), waits until it is gone. */
  async kill(signal: NodeJS.Signals): Promise<void> {
    if (this.running) this.#child.kill(signal)
    if (signal === 'SIGKILL') await this.exited
  }

  /** Ends the process: politely, and with its whole group by force after `graceMs`. */
  async close(graceMs = CLOSE_GRACE_MS): Promise<Exit> {
    if (this.running) {
      this.#child.kill('SIGTERM')
      const timer = setTimeout(() => {
        this.killGroup()
      }, graceMs)
      await this.exited
      clearTimeout(timer)
    }
    return this.exited
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** SIGKILL to the process and all that it started. Only while it runs: later its number may be somebody else's. */
  killGroup(): void {
    if (!this.running) return
    try {
      process.kill(-this.pid, 'SIGKILL')
    } catch {
      // Gone already, its exit event just has not come.
    }
  }

  /** The end of what it printed and, when it runs no more, how it ended and what its command line was; for messages. */
  story(): string {
    if (this.#exit === undefined) return this.log()
    return `it ${formatExit(this.#exit)}\ncommand: ${this.commandLine}\n${this.log()}`
  }

  /** A failure told with everything that is known of this process. */
  error(reason: string, options?: ErrorOptions): LaunchError {
    return new LaunchError(reason, this.commandLine, this.#exit, this.log(), options)
  }

  /** Rejects after the process has ended, with its last words. */
  async #failure(when: string): Promise<never> {
    const exit = await this.exited
    await Promise.race([this.#lastWords, delay(LAST_WORDS_MS, undefined, { ref: false })])
    throw this.error(`${this.name} ${formatExit(exit)} ${when}`)
  }

  /** A dying process hangs up before its exit is known: then the exit is the reason, not the lost connection. */
  async #explain(cause: unknown, ended: Promise<never>): Promise<never> {
    await Promise.race([ended, delay(LAST_WORDS_MS, undefined, { ref: false })])
    throw this.error(`${this.name}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
  }

  #readStdout(): void {
    let rest = ''
    this.#child.stdout?.on('data', (chunk: Buffer) => {
      this.#log.append(chunk)
      const lines = (rest + chunk.toString()).split('\n')
      rest = (lines.pop() ?? '').slice(-LINE_LENGTH_MAX)
      for (const line of lines) {
        if (this.#stdoutLines.length < STDOUT_LINES_MAX) this.#stdoutLines.push(line)
        this.#lines.emit('line', line)
      }
    })
  }
}

/** Ready conditions look at the first lines only; all later ones go to the ring. */
const STDOUT_LINES_MAX = 100
const LINE_LENGTH_MAX = 16 * 1024

function formatExit({ code, signal }: Exit): string {
  return signal === null ? `exited with code ${String(code)}` : `was killed by ${signal}`
}

function formatCommandLine(program: string, args: readonly string[]): string {
  const quote = (arg: string): string => (/^[\w@%+=:,./-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`)
  return [program, ...args].map(quote).join(' ')
}

/** Through setpriv (util-linux, on every Debian), which becomes the program itself and keeps its process id. */
function boundToParent(file: string, args: readonly string[]): [string, string[]] {
  try {
    return [findProgram('setpriv'), ['--pdeathsig', 'KILL', file, ...args]]
  } catch (error) {
    if (!(error instanceof ProgramNotFoundError)) throw error
    return [file, [...args]]
  }
}

const running = new Set<DaemonProcess>()
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
let watching = false

function remember(daemon: DaemonProcess): void {
  running.add(daemon)
  if (watching) return
  watching = true
  process.on('exit', killAll)
  for (const signal of SIGNALS) process.on(signal, onSignal)
}

function killAll(): void {
  for (const daemon of running) daemon.killGroup()
}

function onSignal(signal: NodeJS.Signals): void {
  killAll()
  process.off(signal, onSignal)
  // With another listener, ending this process is for that one to decide.
  if (process.listenerCount(signal) === 0) process.kill(process.pid, signal)
}
