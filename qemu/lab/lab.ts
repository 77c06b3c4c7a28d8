/**
 * `lab()`: disks, nbd-remap servers and virtual machines as one scoped resource, and everything that can be done to them.
 * It has a temporary directory of its own; when its scope ends, nothing of it is left, neither processes nor files.
 *
 * The runner of scenario files does all that it does through this.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Random } from '../../src/util/random.js'
import { UsageError } from '../../src/util/errors.js'
import { formatBytes } from '../../src/util/units.js'
import { guestImage } from '../guest-image.js'
import { packageRoot } from '../package-root.js'
import { ProgramNotFoundError } from '../program.js'
import { LaunchError } from '../process.js'
import type { Mark } from '../report/record.js'
import { stageShape, type StageInput, type StageSetup } from '../scenario/format.js'
import { checks as checksShape, type CheckSettings } from '../scenario/format-checks.js'
import {
  assertion,
  cliCommand,
  condition,
  eventWait,
  fioRun,
  guestCommand,
  qmpCommand,
  type ConditionInput,
  type EventWaitInput,
  type ObservationInput,
} from '../scenario/format-observe.js'
import { fault, type Fault, type FaultInput } from '../scenario/format-faults.js'
import {
  damage,
  kill,
  workload,
  type KillInput,
  type MemoryLimit,
  type WorkloadInput,
} from '../scenario/format-steps.js'
import { mismatches } from '../scenario/expectation.js'
import { castProblems, machinesOf } from '../scenario/cast.js'
import { readShape, type InOf, type Shape } from '../scenario/shape.js'
import { LabDisk } from './disk.js'
import { FinalChecks, type CheckResult } from './final-checks.js'
import { ExpectationError, LabError } from './error.js'
import { EventLog, type LabEvent, type Moment } from './events.js'
import { filled } from './filled.js'
import type { LabMachine } from './lab-machine.js'
import {
  observe,
  observeUntil,
  runFio,
  runInGuest,
  runProgram,
  runQmp,
  type CommandResult,
  type Observed,
} from './observe.js'
import { Parts, type Part, type PartsOptions } from './parts.js'
import { putFault } from './put-fault.js'
import { LabServer } from './server.js'
import { Timeline } from './timeline.js'
import type { LabWorkload } from './workload.js'

export interface LabOptions extends StageInput {
  /** Repeats an earlier run: what is drawn is the same. */
  readonly seed?: string | number
  /** Ends everything at once: whatever is going on fails, and `close` is still to be called. */
  readonly signal?: AbortSignal
  /** What the paths of `image` are relative to; the working directory when not given. */
  readonly folder?: string
  /** Called for everything that happens. */
  readonly onMark?: (mark: Mark) => void
  /** Its directory is not removed at the end; what the programs have printed is put there, too. */
  readonly keep?: boolean
  /** The nbd-remap program; the one of this package when not given. */
  readonly program?: string
}

export type { CheckResult }
export type CheckInput = InOf<typeof checksShape>

const FINISH_TIMEOUT_MS = 60_000
const EVERY_CHECK = readShape(checksShape, {}, false).value

/**
 * Makes the images, starts everything in its order, and waits until all guests have booted.
 * @throws UsageError when the options are wrong; LaunchError with command line and log when something cannot be started
 */
export async function lab(options: LabOptions): Promise<Lab> {
  const { disks, server, servers, machines, seed } = options
  const setup = readInput('lab', stageShape, { disks, server, servers, machines, seed } as StageInput)
  return Lab.open(setup, { ...options, ...(setup.seed === undefined ? {} : { seed: setup.seed }) })
}

/** @throws UsageError that says where in the options */
function readInput<Out, In>(what: string, shape: Shape<Out, In>, input: In): Out {
  const { value, problems } = readShape(shape, input, false)
  if (problems.length === 0) return value
  throw new UsageError(problems.map((it) => `${[what, ...it.path].join('.')}: ${it.what}`).join('\n'))
}

export class Lab {
  readonly seed: string
  /** Everything that the lab makes is in it. */
  readonly directory: string
  readonly timeline: Timeline
  readonly events: EventLog
  readonly #parts: Parts
  readonly #checks: FinalChecks
  readonly #program: string
  readonly #keep: boolean
  readonly #folder: string
  readonly #aborted = new AbortController()
  readonly #outerSignal: AbortSignal | undefined
  readonly #draws = new Map<string, number>()
  readonly #pending = new Set<Promise<void>>()
  #lastStep: Moment = 0
  #closing: Promise<void> | undefined

  private constructor(
    setup: StageSetup,
    options: Omit<LabOptions, keyof StageInput>,
    { directory, image }: Pick<PartsOptions, 'directory' | 'image'>,
  ) {
    this.directory = directory
    this.seed = new Random(options.seed).seed
    this.timeline = new Timeline(options.onMark)
    this.events = new EventLog(this.timeline)
    this.#program = options.program ?? path.join(packageRoot(), 'dist/src/cli/bin.cjs')
    this.#outerSignal = options.signal
    this.#keep = options.keep ?? false
    this.#folder = options.folder ?? process.cwd()
    const { events, timeline, fill } = this
    this.#parts = new Parts(setup, { directory, image, events, timeline, fill, program: this.#program })
    this.#checks = new FinalChecks(this.#parts, timeline, (run) =>
      runProgram(this.#observed, { run, status: 'any', within: FINISH_TIMEOUT_MS }, this.signal),
    )
    options.signal?.addEventListener('abort', this.#abort)
  }

  /** As `lab()`, with options that were read already. */
  static async open(setup: StageSetup, options: Omit<LabOptions, keyof StageInput>): Promise<Lab> {
    const [problem] = castProblems(setup)
    if (problem !== undefined) throw new UsageError(`lab.${problem.path.join('.')} ${problem.what}`)
    options.signal?.throwIfAborted()
    const image = Object.keys(machinesOf(setup)).length === 0 ? undefined : await guestImage()
    const directory = await mkdtemp(path.join(tmpdir(), 'nbd-remap-lab-'))
    const made = new Lab(setup, options, { directory, image })
    try {
      await made.#start()
      return made
    } catch (error) {
      await made.close()
      options.signal?.throwIfAborted()
      throw error
    }
  }

  async #start(): Promise<void> {
    const atOnce = ({ settings }: LabServer | LabMachine): boolean => settings.start === 'at-once'
    for (const disk of this.disks.values()) {
      await disk.create(this.#folder)
      await this.#starting(disk)
    }
    for (const server of this.servers.values()) if (atOnce(server)) await this.#starting(server)
    await Promise.all([...this.machines.values()].filter(atOnce).map((machine) => this.#starting(machine)))
  }

  /** What is just being started when the lab is closed is awaited, and ended then. */
  async #starting(it: Part): Promise<void> {
    this.signal.throwIfAborted()
    const started = it.start()
    this.#pending.add(started)
    try {
      await started
    } finally {
      this.#pending.delete(started)
      if (this.signal.aborted) it.killNow()
    }
    this.signal.throwIfAborted()
  }

  /** Fires when the lab ends before its time. */
  get signal(): AbortSignal {
    return this.#aborted.signal
  }

  get disks(): ReadonlyMap<string, LabDisk> {
    return this.#parts.disks
  }

  get servers(): ReadonlyMap<string, LabServer> {
    return this.#parts.servers
  }

  get machines(): ReadonlyMap<string, LabMachine> {
    return this.#parts.machines
  }

  get workloads(): LabWorkload[] {
    return this.#parts.workloads
  }

  /** The only server, or the one that is named `server`. */
  get server(): LabServer {
    return this.#parts.server(this.servers.has('server') ? 'server' : undefined)
  }

  /** The only machine, or the one that is named `guest`. */
  get guest(): LabMachine {
    return this.#parts.machine(this.machines.has('guest') ? 'guest' : undefined)
  }

  disk(name: string): LabDisk {
    return this.#parts.disk(name)
  }

  machine(name?: string): LabMachine {
    return this.#parts.machine(name)
  }

  workload(name: string): LabWorkload {
    return this.#parts.workload(name)
  }

  /** Whether there is a server, machine or storage daemon of that name. */
  knows(name: string): boolean {
    return this.#parts.knows(name)
  }

  /**
   * Random numbers that depend on the seed, the label, and how often it was asked for, and not on what goes on beside.
   * @param label who draws
   */
  draw(label: string): Random {
    const count = this.#draws.get(label) ?? 0
    this.#draws.set(label, count + 1)
    return new Random(`${this.seed}/${label}/${count}`)
  }

  /** What `{{NAME.KEY}}` in a text stands for; in lists and mappings, too. @throws LabError for an unknown one */
  readonly fill = <T>(value: T): T => filled(value, this.#value)

  /** A rule in the vocabulary of docs/FAULTS.md, put beneath a disk or into a server. */
  async fault(input: FaultInput | Fault, label = 'fault'): Promise<void> {
    const { on, rule } = readInput('fault', fault, input)
    await this.#acting(async () => {
      const what = await putFault(this.#parts.process(on), rule, { folder: this.#folder, draw: () => this.draw(label) })
      this.timeline.mark('fault', `${on}: ${what}`)
    })
  }

  /** The faults of a disk, or of the fault device in a server, are taken away. */
  async clear(name: string): Promise<void> {
    await this.#acting(async () => {
      const it = this.#parts.process(name)
      if (it instanceof LabDisk) await it.clear()
      else if (it instanceof LabServer) await it.execute('clear-errors')
      this.timeline.mark('fault', `${name}: faults taken away`)
    })
  }

  /** SIGKILL to a server (or its worker), a machine, or the storage daemon of a disk. */
  async kill(input: KillInput): Promise<void> {
    const { what, ...how } = readInput('kill', kill, input)
    await this.#acting(async () => {
      const it = this.#parts.process(what)
      const busy = it instanceof LabServer ? await it.kill(how) : undefined
      if (!(it instanceof LabServer)) await it.kill()
      this.timeline.mark('kill', `${what}: SIGKILL${busy === undefined ? '' : `, ${busy}`}`)
    })
  }

  /** The worker of a server gets no more memory than it has now and so many bytes; one that is started later has no limit. */
  async limitMemory({ what, more }: MemoryLimit): Promise<void> {
    await this.#acting(async () => {
      const it = this.#parts.process(what)
      if (!(it instanceof LabServer)) throw new LabError(`the memory of servers can be limited, and '${what}' is none`)
      await it.limitMemory(more)
      this.timeline.mark('fault', `${what}: no more than ${formatBytes(more)} of memory beside what it has`)
    })
  }

  /** SIGSTOP: it hangs. */
  async stop(name: string): Promise<void> {
    await this.#acting(async () => {
      const it = this.#parts.process(name)
      await (it instanceof LabServer ? it.stop() : it.signal('SIGSTOP'))
      this.timeline.mark('kill', `${name}: SIGSTOP`)
    })
  }

  /** SIGCONT: it goes on. */
  async cont(name: string): Promise<void> {
    await this.#acting(async () => {
      const it = this.#parts.process(name)
      if (it instanceof LabServer) it.cont()
      else await it.signal('SIGCONT')
      this.timeline.mark('restart', `${name}: SIGCONT`)
    })
  }

  /** Starts what does not run; a machine has booted when it resolves. */
  async start(...names: readonly string[]): Promise<void> {
    await this.#acting(async () => {
      for (const name of names) {
        await this.#starting(this.#parts.process(name))
        this.timeline.mark('restart', `${name}: started`)
      }
    })
  }

  /** Ends it in good order. */
  async quit(name: string): Promise<void> {
    await this.#acting(() => this.#parts.process(name).quit())
    this.timeline.mark('kill', `${name}: ended in good order`)
  }

  /** SIGKILL to all of them at once. */
  async powerCut(...names: readonly string[]): Promise<void> {
    await this.#acting(async () => {
      const all = names.map((name) => this.#parts.process(name))
      for (const it of all) it.killNow()
      await Promise.all(all.map((it) => it.gone()))
      this.timeline.mark('kill', `power cut: ${names.join(', ')}`)
    })
  }

  /** Writes in a guest, in the background, until it is finished. */
  startWorkload(input: WorkloadInput): LabWorkload {
    this.#lastStep = this.events.now
    const settings = readInput('workload', workload, input)
    return this.machine(settings.in).startWorkload(settings)
  }

  /** Ends a workload after the write that it is at. */
  async finish(name: string, timeoutMs = FINISH_TIMEOUT_MS): Promise<LabWorkload> {
    const machine = [...this.machines.values()].find(({ workloads }) => workloads.has(name))
    if (machine === undefined) throw new LabError(`there is no workload '${name}'`)
    return machine.finishWorkload(name, timeoutMs)
  }

  /** Copies the image of one disk over that of another. */
  copy(from: string, to: string): Promise<void> {
    return this.#acting(() => this.disk(from).copyTo(this.disk(to)))
  }

  /** Overwrites sectors in the image of a disk, behind everybody's back. */
  async damage(input: InOf<typeof damage>, label = 'damage'): Promise<void> {
    const settings = readInput('damage', damage, input)
    await this.#acting(() => this.disk(settings.disk).damage(settings, this.draw(label)))
    const sectors = settings.sectors.map(({ first, last }) => (first === last ? first : `${first}-${last}`)).join(', ')
    this.timeline.mark('fault', `${settings.disk}: sectors ${sectors} overwritten`)
  }

  /** A command in a guest, which has to end as expected. @throws ExpectationError */
  guestCommand(input: InOf<typeof guestCommand>): Promise<CommandResult> {
    return this.#acting(() => runInGuest(this.#observed, readInput('guest', guestCommand, input)))
  }

  /** A QMP command to a server, a machine or the storage daemon of a disk. @throws ExpectationError, QmpError */
  qmp(input: InOf<typeof qmpCommand>): Promise<unknown> {
    return this.#acting(() => runQmp(this.#observed, readInput('qmp', qmpCommand, input)))
  }

  /** An nbd-remap command. @throws ExpectationError */
  cli(input: InOf<typeof cliCommand>): Promise<CommandResult> {
    return this.#acting(() => runProgram(this.#observed, readInput('cli', cliCommand, input), this.signal))
  }

  /** Runs fio on the host, over NBD, until it is done. @throws ExpectationError */
  fio(input: InOf<typeof fioRun>): Promise<CommandResult> {
    const run = readInput('fio', fioRun, input)
    const uri = this.servers.get(run.on)?.uri ?? this.disk(run.on).address
    return this.#acting(() => runFio(run, uri, this.signal))
  }

  /** Waits until something is so. @throws ExpectationError with what was seen last */
  until(input: ConditionInput): Promise<void> {
    return observeUntil(this.#observed, readInput('until', condition, input), this.signal)
  }

  /** @throws ExpectationError */
  assert(input: ObservationInput): Promise<void> {
    return observe(this.#observed, readInput('assert', assertion, input), this.signal)
  }

  /**
   * An event that came, or comes, after the last call that did something had begun.
   * @throws QmpTimeoutError that says what came instead
   */
  waitForEvent(input: EventWaitInput, from = this.#lastStep): Promise<LabEvent> {
    const { event, from: who, data = {}, since, within } = readInput('event', eventWait, input)
    const wanted = (it: LabEvent): boolean =>
      it.event === event && (who === undefined || it.from === who) && mismatches(data, it.data).length === 0
    const what = `${event}${who === undefined ? '' : ` of ${who}`}`
    return this.events.wait(wanted, since === 'start' ? 0 : from, within, what)
  }

  /** Waits for a moment drawn from the seed. */
  async moment(withinMs: number, label = 'moment'): Promise<void> {
    await pause(this.draw(label).below(Math.max(1, withinMs)), undefined, { signal: this.signal })
  }

  /**
   * The checks of the end: ends workloads, looks at guests, contents and file systems, ends machines and servers in good order, and
   * looks at the metadata. What was killed and not started again is not looked at.
   */
  async checks(input: CheckInput = {}): Promise<CheckResult[]> {
    return this.runChecks(readInput('checks', checksShape, input))
  }

  /** As `checks`. @throws ExpectationError that says which do not hold */
  async check(input: CheckInput = {}): Promise<void> {
    const failed = (await this.checks(input)).filter(({ ok }) => !ok)
    if (failed.length > 0)
      throw new ExpectationError(failed.map(({ name, detail }) => `not so: ${name}: ${detail}`).join('\n'))
  }

  /** As `checks`, with settings that were read already. */
  runChecks(settings: CheckSettings): Promise<CheckResult[]> {
    return this.#checks.all(settings)
  }

  /** One of the checks, now. */
  checkNow(id: 'kernel-log' | 'writes' | 'checksums', settings = EVERY_CHECK): Promise<CheckResult> {
    return this.#checks.one(id, settings)
  }

  /** The end: kills and removes whatever there still is. */
  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(): Promise<void> {
    this.#outerSignal?.removeEventListener('abort', this.#abort)
    this.#abort()
    this.events.close()
    await Promise.allSettled(this.#pending)
    try {
      for (const it of this.#parts.all) await it.gone()
    } finally {
      if (this.#keep) await this.#keepLogs()
      else await rm(this.directory, { recursive: true, force: true })
    }
  }

  async #keepLogs(): Promise<void> {
    for (const it of this.#parts.all)
      if (it.log() !== '') await writeFile(path.join(this.directory, `${it.name}.log`), it.log())
  }

  readonly #abort = (): void => {
    this.#aborted.abort(this.#outerSignal?.reason ?? new LabError('the lab was closed'))
    for (const it of this.#parts.all) it.killNow()
  }

  /** From its beginning on, events count for the next wait. */
  async #acting<T>(act: () => Promise<T>): Promise<T> {
    this.signal.throwIfAborted()
    this.#lastStep = this.events.now
    return act()
  }

  readonly #value = (key: string): string | undefined => {
    const own: Readonly<Record<string, string>> = { seed: this.seed, directory: this.directory }
    return Object.hasOwn(own, key) ? own[key] : this.#parts.value(key)
  }

  get #observed(): Observed {
    return {
      machine: (name) => this.machine(name),
      execute: (target, command, args, timeoutMs) => this.#parts.execute(target, command, args, timeoutMs),
      program: this.#program,
      file: (name) => this.disk(name).state(),
      workload: (name) => this.workload(name).state(this.timeline.now()),
      fill: this.fill,
    }
  }
}

/** Whether an error says that the stage itself fell over, rather than that something was not as expected. */
export const isBroken = (error: unknown): boolean =>
  error instanceof LaunchError || error instanceof ProgramNotFoundError
