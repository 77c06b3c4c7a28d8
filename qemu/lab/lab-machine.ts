/** `LabMachine`: a virtual machine of the lab, with its guest and the workloads in it. It can be started again. */
import { mkdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { messageOf } from '../../src/util/errors.js'
import { Guest, GuestConnectionError, type GuestResult, type GuestRunOptions } from '../guest.js'
import { GuestCommandError } from '../guest.js'
import type { GuestImage } from '../guest-image.js'
import { Machine, type MachineDrive } from '../machine.js'
import type { MachineSettings } from '../scenario/format.js'
import type { Workload } from '../scenario/format-steps.js'
import { LabError } from './error.js'
import { follow, type EventLog } from './events.js'
import { stopFile, workloadScript } from './guest-script.js'
import { GUEST_SETUP, ReportPort, reportPortArgs } from './report-port.js'
import type { Timeline } from './timeline.js'
import { LabWorkload } from './workload.js'

/** A workload runs until it is told to end; the guest's own limit is only there so that there is one. */
const WORKLOAD_MAX_MS = 24 * 3_600_000
const LAST_WORDS_MS = 1000
const ANSWER_TIMEOUT_MS = 10_000
const LIMIT = { timeoutMs: ANSWER_TIMEOUT_MS }

interface RunState {
  readonly running: boolean
  /** `paused`, `io-error`, ... */
  readonly status: string
}

export class LabMachine {
  readonly name: string
  readonly settings: MachineSettings
  readonly workloads = new Map<string, LabWorkload>()
  readonly directory: string
  readonly #image: GuestImage | undefined
  readonly #drives: () => MachineDrive[]
  readonly #events: EventLog
  readonly #timeline: Timeline
  readonly #scripts = new Map<string, Promise<void>>()
  #machine: Machine | undefined
  #guest: Guest | undefined
  #port: ReportPort | undefined
  /** Why nothing can be asked of the guest any more. */
  #asleep: string | undefined
  /** By SIGSTOP: QEMU does not answer. */
  #stopped = false

  /** @param drives asked at each start */
  constructor(
    name: string,
    settings: MachineSettings,
    options: {
      readonly directory: string
      /** Undefined: it is never started. */
      readonly image: GuestImage | undefined
      readonly events: EventLog
      readonly timeline: Timeline
      readonly drives: () => MachineDrive[]
    },
  ) {
    this.name = name
    this.settings = settings
    this.directory = path.join(options.directory, name)
    this.#image = options.image
    this.#drives = options.drives
    this.#events = options.events
    this.#timeline = options.timeline
  }

  get running(): boolean {
    return this.#machine?.process.running === true
  }

  get machine(): Machine {
    if (this.#machine?.process.running !== true) throw new LabError(`the machine '${this.name}' does not run`)
    return this.#machine
  }

  get guest(): Guest {
    if (this.#guest === undefined) throw new LabError(`the guest of machine '${this.name}' does not run`)
    return this.#guest
  }

  /** Resolves when its guest has booted. @throws LaunchError with QEMU's own words and the console */
  async start(): Promise<void> {
    if (this.running) throw new LabError(`the machine '${this.name}' runs already`)
    await mkdir(this.directory, { recursive: true })
    const { memory, cpus, accelerator, args } = this.settings
    if (this.#image === undefined) throw new LabError('there is no guest image')
    this.#machine = await Machine.start({
      directory: this.directory,
      ...this.#image,
      memoryMiB: Math.ceil(memory / (1024 * 1024)),
      cpus,
      accelerator,
      drives: this.#drives(),
      args: [...reportPortArgs(this.directory), ...args],
    })
    void follow(this.#events, this.name, this.#machine.qmp)
    this.#port = await ReportPort.connect(this.directory, (words) => {
      this.#receive(words)
    })
    await this.#connectGuest()
  }

  async #connectGuest(): Promise<void> {
    this.#guest?.close()
    this.#guest = await this.machine.guest()
    this.#asleep = undefined
    await this.#guest.check(GUEST_SETUP)
  }

  /** @throws GuestConnectionError, GuestTimeoutError */
  run(command: string, options: GuestRunOptions = {}): Promise<GuestResult> {
    return this.guest.run(command, options)
  }

  /** Runs a command that must succeed, and returns its standard output. @throws GuestCommandError */
  check(command: string, options: GuestRunOptions = {}): Promise<string> {
    return this.guest.check(command, options)
  }

  /**
   * What cannot be looked at in its guest is told at once, and not after many time limits.
   * @throws LabError when it does not run, is paused, does not answer, or a write of a workload hangs
   */
  async awake(): Promise<void> {
    const pause = this.#asleep === undefined ? await this.#pause() : undefined
    if (pause !== undefined) throw new LabError(pause)
    if (this.#asleep === undefined) await this.#ask()
    if (this.#asleep !== undefined) throw new LabError(this.#asleep)
  }

  /** Why its guest stands still, if it does. It may go on later. */
  async #pause(): Promise<string | undefined> {
    if (!this.running) return undefined
    if (this.#stopped) return `the machine '${this.name}' was stopped by a step, and no step has let it go on`
    try {
      const { running, status } = (await this.machine.qmp.execute('query-status', {}, LIMIT)) as RunState
      return running ? undefined : `the machine '${this.name}' is paused (${status})`
    } catch (error) {
      this.#asleep = `the machine '${this.name}' does not answer: ${messageOf(error)}`
      return undefined
    }
  }

  async #ask(): Promise<void> {
    const { guest } = this
    try {
      await guest.run('true', { timeoutMs: ANSWER_TIMEOUT_MS })
    } catch (error) {
      this.#asleep = `the guest of machine '${this.name}' does not answer: ${messageOf(error)}`
    }
  }

  /** Ends all workloads, and remembers those that cannot be ended. */
  async finishWorkloads(): Promise<void> {
    for (const { name, running } of this.workloads.values()) {
      if (!running || this.#asleep !== undefined) continue
      await this.finishWorkload(name, ANSWER_TIMEOUT_MS).catch((error: unknown) => {
        this.#asleep = messageOf(error)
      })
    }
  }

  /** Starts a workload, or one of before again. */
  startWorkload(settings: Workload): LabWorkload {
    const before = this.workloads.get(settings.name)
    if (before?.running === true) throw new LabError(`the workload '${settings.name}' runs already`)
    // What an earlier life of it has written is still to be there.
    const workload = before ?? new LabWorkload(settings)
    workload.begin()
    this.workloads.set(settings.name, workload)
    const script = this.guest.check(workloadScript(settings, workload.nextNumber), { timeoutMs: WORKLOAD_MAX_MS }).then(
      () => {
        workload.ended(this.#timeline.now())
      },
      (error: unknown) => {
        workload.ended(this.#timeline.now(), brokenBy(error))
      },
    )
    this.#scripts.set(settings.name, script)
    return workload
  }

  /** @throws LabError when it does not end in time, as when its last write hangs */
  async finishWorkload(name: string, timeoutMs: number): Promise<LabWorkload> {
    const workload = this.workloads.get(name)
    const script = this.#scripts.get(name)
    if (workload === undefined || script === undefined) throw new LabError(`there is no workload '${name}'`)
    // The guest may be gone, and the workload with it.
    if (workload.running) await this.#guest?.run(`touch ${stopFile(name)}`, { timeoutMs }).catch(() => undefined)
    const late = new AbortController()
    const ended = await Promise.race([
      script.then(() => true),
      pause(timeoutMs, false, { signal: late.signal, ref: false }),
    ])
    late.abort()
    if (!ended) throw new LabError(`the workload '${name}' did not end within ${timeoutMs} ms: a write hangs`)
    await this.#lastWords(workload)
    return workload
  }

  /** The end of the script may overtake what it has reported through the other port. */
  async #lastWords(workload: LabWorkload): Promise<void> {
    const deadline = performance.now() + LAST_WORDS_MS
    while (this.running && workload.writing && performance.now() < deadline) await pause(5)
  }

  /** SIGKILL: the host loses power. */
  async kill(): Promise<void> {
    await this.machine.kill()
    await this.#gone('the machine was killed')
  }

  /** QEMU ends in good order; what the guest holds in memory is lost. */
  async quit(): Promise<void> {
    await this.machine.quit()
    await this.#gone('the machine was ended')
  }

  /** The end of it: in good order if it can. */
  async end(): Promise<void> {
    if (this.#stopped) await this.kill()
    else await this.quit().catch(() => this.kill())
  }

  /** SIGSTOP or SIGCONT to QEMU. */
  async signal(signal: 'SIGSTOP' | 'SIGCONT'): Promise<void> {
    await this.machine.process.kill(signal)
    this.#stopped = signal === 'SIGSTOP'
  }

  killNow(): void {
    this.#machine?.process.killGroup()
  }

  /** Resolves when what `killNow` killed is gone. */
  async gone(): Promise<void> {
    await this.#machine?.kill()
    await this.#gone('the machine was killed')
  }

  /** All that the kernel of any guest of it has said: the log of this boot, and the consoles of all. */
  async kernelLog(): Promise<string[]> {
    if (this.running) await this.awake()
    const log = this.running ? (await this.guest.kernelLog()).split('\n') : []
    const console = this.#machine === undefined ? '' : await readFile(this.#machine.consoleLogPath, 'utf8')
    return [...new Set([...console.split(/\r?\n/), ...log].map((line) => line.trim()).filter((line) => line !== ''))]
  }

  async #gone(why: string): Promise<void> {
    this.#guest?.close()
    this.#port?.close()
    this.#guest = undefined
    this.#stopped = false
    for (const workload of this.workloads.values()) workload.ended(this.#timeline.now(), why)
    await Promise.all(this.#scripts.values())
  }

  #receive([name = '', ...words]: readonly string[]): void {
    this.workloads.get(name)?.receive(words, this.#timeline.now())
  }

  log(): string {
    return this.#machine?.process.story() ?? ''
  }
}

function brokenBy(error: unknown): string {
  if (error instanceof GuestConnectionError) return 'the guest is gone'
  if (error instanceof GuestCommandError) return `its script ended with status ${error.status}`
  return error instanceof Error ? error.message : String(error)
}
