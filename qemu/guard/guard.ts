/**
 * `Guard`: watches a machine and the server of its disk, and lets the machine go on that an error of that disk has paused, once
 * what caused the error is gone. It touches no machine that somebody else has stopped: QEMU says `io-error` for its own pauses
 * and `paused` for those of people, and only the former, with an error of our disk and of no other, is ours to end.
 *
 * Whatever happens only wakes it up; what it does it decides from how things are at that moment, so that nothing depends on
 * the order in which two programs tell their events.
 */
import type { QmpAddress, QmpClient, QmpEvent } from '../../src/qmp/index.js'
import { QmpCommandError, QmpError } from '../../src/qmp/index.js'
import { abortable } from '../../src/util/abortable.js'
import { assert } from '../../src/util/assert.js'
import { messageOf } from '../../src/util/errors.js'
import { disksOf, queryBlock, type MachineDisk } from '../attach/disk.js'
import { isExportOf } from '../attach/source.js'
import { causesOf, type Cause, type MachineError } from './cause.js'
import { decide, isSameTrouble, type Attempts, type Decision, type Evidence } from './decide.js'
import { keepConnected } from './link.js'
import { replaceNode } from './replace.js'
import type { Report } from './report.js'
import { ServerView } from './server-view.js'
import { Signal } from './signal.js'
import { errorReport, othersReason } from './words.js'

export interface GuardOptions {
  readonly qmp: QmpAddress
  readonly control: QmpAddress
  /** Only say what would be done. */
  readonly dryRun: boolean
  /** How often a machine is continued in vain. */
  readonly attemptsMax: number
  /** Give a disk whose connection QEMU does not make again another one, which waits so long for the server. */
  readonly replaceNode: { readonly reconnectDelaySeconds: number } | undefined
  /** Look, do what is to be done, and end. */
  readonly once: boolean
  report(report: Report): void
}

/** How the machine is when nothing more is to be done now. */
export type Outcome = 'runs' | 'stays-paused' | 'gave-up'

/** Something is looked at again so often, for what tells no event: a disk that can be read again, for example. */
const LOOK_MS = 5000
/** A machine that has run for so long since it was continued runs. */
const CALM_MS = 10_000
/** The first error after `cont` comes at once. */
const AFTERMATH_MS = 1000
const ERRORS_MAX = 1000

interface PausingError extends MachineError {
  readonly nodeName: string
}

export class Guard {
  readonly #options: GuardOptions
  readonly #server = new ServerView()
  readonly #changed = new Signal()
  #machine: QmpClient | undefined
  #machineLost = 'it was not reached yet'
  /** BLOCK_IO_ERRORs that nobody has looked at yet. */
  #fresh: QmpEvent[] = []
  /** One that pauses the machine has come since QEMU was asked how it is. */
  #isOutdated = false
  /** Those that may have paused the machine. */
  #pausing: PausingError[] = []
  #attempts: Attempts | undefined
  #told = ''

  constructor(options: GuardOptions) {
    this.#options = options
  }

  /**
   * Until `signal` fires or, with `once`, until nothing more is to be done now.
   * @throws Error with a sentence for people: with `once` when one of the two cannot be asked
   */
  async run(signal: AbortSignal): Promise<Outcome> {
    const end = new AbortController()
    const links = [
      this.#linkMachine(AbortSignal.any([signal, end.signal])),
      this.#linkServer(AbortSignal.any([signal, end.signal])),
    ]
    const failed = Promise.race(links.map((link) => link.then(() => new Promise<never>(() => undefined))))
    try {
      return await Promise.race([this.#look(signal), failed])
    } finally {
      end.abort()
      await Promise.allSettled(links)
    }
  }

  // --- What wakes it up ----------------------------------------------------------------------------------------------

  #linkMachine(signal: AbortSignal): Promise<void> {
    return keepConnected({
      address: this.#options.qmp,
      signal,
      onConnected: async (client) => {
        using events = client.events()
        this.#machine = client
        // It may be another one.
        this.#attempts = undefined
        this.#pausing = []
        this.#tell({ kind: 'connected', text: 'QEMU answers' })
        this.#changed.raise()
        try {
          for (;;) {
            const event = await abortable(events.next(), signal, aborted)
            if (event.event === 'BLOCK_IO_ERROR') this.#keep(event)
            this.#changed.raise()
          }
        } finally {
          this.#machine = undefined
        }
      },
      onLost: (reason) => {
        this.#machineLost = reason
        this.#tell({ kind: 'disconnected', text: `QEMU cannot be asked: ${reason}` })
        this.#changed.raise()
      },
    })
  }

  #linkServer(signal: AbortSignal): Promise<void> {
    return keepConnected({
      address: this.#options.control,
      signal,
      onConnected: async (client) => {
        using events = client.events()
        this.#server.set(client)
        this.#tell({ kind: 'connected', text: 'the server answers' })
        this.#changed.raise()
        for (;;) {
          await abortable(events.next(), signal, aborted)
          this.#changed.raise()
        }
      },
      onLost: (reason) => {
        this.#server.set(undefined, reason)
        this.#tell({ kind: 'disconnected', text: `the server cannot be asked: ${reason}` })
        this.#changed.raise()
      },
    })
  }

  // --- What it does --------------------------------------------------------------------------------------------------

  async #look(signal: AbortSignal): Promise<Outcome> {
    const { once } = this.#options
    let outcome: Outcome = 'runs'
    while (!signal.aborted) {
      const step = await this.#step()
      outcome = step.outcome
      if (once && step.isFinal && !this.#isOutdated) break
      await this.#changed.wait(step.againMs, signal)
    }
    return outcome
  }

  async #step(): Promise<Step> {
    const machine = this.#machine
    if (machine === undefined) return this.#absent()
    try {
      return await this.#consider(machine)
    } catch (error) {
      if (!(error instanceof QmpError)) throw error
      if (isNoMachine(error)) throw new Error(`what answers at --qmp is not QEMU: ${error.message}`, { cause: error })
      // It goes away just now, and its link will tell; or it is too busy to answer.
      return { outcome: 'stays-paused', isFinal: false, againMs: LOOK_MS }
    }
  }

  /** @throws Error with `once`, when it was tried */
  #absent(): Step {
    if (this.#options.once && this.#machineLost !== 'it was not reached yet') {
      throw new Error(`QEMU cannot be asked: ${this.#machineLost}`)
    }
    return { outcome: 'stays-paused', isFinal: false, againMs: LOOK_MS }
  }

  async #consider(machine: QmpClient): Promise<Step> {
    this.#isOutdated = false
    const { status } = (await machine.execute('query-status')) as { readonly status: string }
    const disks = disksOf(await queryBlock(machine))
    // Nobody knows yet which disks it provides.
    if (this.#server.isUntried) return { outcome: 'stays-paused', isFinal: false, againMs: LOOK_MS }
    // The errors for which it is paused have been told before its status; and the server's word for them, before them. Of
    // those that come from here on, the server may not have said it yet when its log is read: they are for the next look.
    const count = this.#fresh.length
    await this.#server.refresh()
    const ours = disks.filter((disk) => this.#isOurs(disk))
    // Errors that are taken now may be of a pause that comes after this status.
    if (status === 'running') this.#pausing = []
    this.#takeErrors(this.#fresh.splice(0, count), ours)
    if (status === 'running') return this.#runs()
    if (status !== 'io-error') return this.#leaveAlone(othersReason(status))
    const disk = this.#culprit(disks, ours)
    if (typeof disk === 'string') return this.#leaveAlone(disk)
    return this.#paused(machine, disk)
  }

  #isOurs({ source }: MachineDisk): boolean {
    const exported = this.#server.export
    return exported !== undefined && source.kind === 'nbd' && isExportOf(source.uri, exported)
  }

  /** The disk that has paused the machine, or why it is none of ours alone. */
  #culprit(disks: readonly MachineDisk[], ours: readonly MachineDisk[]): MachineDisk | string {
    const names = new Set(this.#pausing.map(({ nodeName }) => nodeName))
    const seen = disks.filter(({ nodeName }) => names.has(nodeName))
    // The status of a disk stays bad after an error that is long over, so what was seen counts more.
    const guilty = seen.length > 0 ? seen : disks.filter(({ ioStatus }) => ioStatus !== undefined && ioStatus !== 'ok')
    const others = guilty.filter((disk) => !ours.includes(disk))
    const [first] = guilty
    if (this.#server.export === undefined)
      return 'the server was never reached, so nobody knows which disks it provides'
    if (first === undefined) return 'QEMU does not say which disk has paused it'
    if (others.length === 0) return first
    return `an error of ${others.map(({ label }) => label).join(', ')} has paused it, which this server does not provide`
  }

  // --- Errors --------------------------------------------------------------------------------------------------------

  #keep(event: QmpEvent): void {
    if (event.data['action'] === 'stop') this.#isOutdated = true
    if (this.#fresh.length < ERRORS_MAX) this.#fresh.push(event)
  }

  #takeErrors(events: readonly QmpEvent[], ours: readonly MachineDisk[]): void {
    const told = new Set<string>()
    for (const event of events) {
      const { data } = event
      const nodeName = String(data['node-name'])
      const disk = ours.find((one) => one.nodeName === nodeName)
      const error = machineError(event)
      if (data['action'] === 'stop') this.#pausing = [...this.#pausing, { ...error, nodeName }].slice(-ERRORS_MAX)
      if (disk === undefined) continue
      const report = errorReport(disk, error, data['action'] === 'stop', this.#server.facts)
      if (told.has(report.text)) continue
      told.add(report.text)
      this.#options.report(report)
    }
  }

  // --- States --------------------------------------------------------------------------------------------------------

  #runs(): Step {
    const { once } = this.#options
    const since = this.#attempts?.lastMs
    const calmMs = since === undefined ? 0 : since + CALM_MS - Date.now()
    if (calmMs > 0 && !once) return { outcome: 'runs', isFinal: false, againMs: calmMs }
    const aftermathMs = since === undefined ? 0 : since + AFTERMATH_MS - Date.now()
    if (aftermathMs > 0) return { outcome: 'runs', isFinal: false, againMs: aftermathMs }
    this.#attempts = undefined
    this.#tellState({ kind: 'runs', text: 'the machine runs' })
    return { outcome: 'runs', isFinal: true, againMs: LOOK_MS }
  }

  #leaveAlone(why: string): Step {
    this.#tellState({ kind: 'left-alone', text: `the machine stays as it is: ${why}` })
    return {
      outcome: 'stays-paused',
      isFinal: this.#server.export !== undefined || this.#server.isLost,
      againMs: LOOK_MS,
    }
  }

  async #paused(machine: QmpClient, disk: MachineDisk): Promise<Step> {
    const pausing = this.#pausing.filter(({ nodeName }) => nodeName === disk.nodeName)
    const causes = causesOf(pausing, disk.ioStatus, this.#server.facts)
    const { attemptsMax } = this.#options
    let chosen: Chosen | undefined
    // All of its requests are tried again at once, so one that would fail again is enough to wait.
    for (const cause of causes) {
      const evidence = await this.#server.evidence(cause)
      const decision = decide({ cause, evidence, attempts: this.#attempts, attemptsMax, nowMs: Date.now() })
      chosen = { cause, evidence, decision }
      if (decision.kind !== 'continue') break
    }
    assert(chosen !== undefined, 'there is always a cause')
    if (this.#isOutdated) return { outcome: 'stays-paused', isFinal: false, againMs: 0 }
    if (await this.#replace(machine, disk, chosen)) return { outcome: 'stays-paused', isFinal: false, againMs: 0 }
    return this.#act(machine, disk, chosen)
  }

  async #act(machine: QmpClient, { label: device }: MachineDisk, chosen: Chosen): Promise<Step> {
    const { dryRun } = this.#options
    const { cause, evidence, decision } = chosen
    const details = { cause: cause.kind, ...cause.range }
    if (decision.kind === 'continue') {
      if (dryRun) {
        this.#tellState({ kind: 'continued', device, text: `would continue the machine: ${decision.because}`, details })
        return { outcome: 'stays-paused', isFinal: true, againMs: LOOK_MS }
      }
      await this.#continue(machine, device, chosen)
      return { outcome: 'runs', isFinal: false, againMs: 0 }
    }
    const advice = decision.advice === undefined ? '' : ` (${decision.advice})`
    if (decision.kind === 'give-up') {
      this.#tellState({
        kind: 'gave-up',
        device,
        text: `the machine stays paused: ${decision.because}${advice}`,
        details,
      })
      return { outcome: 'gave-up', isFinal: true, againMs: LOOK_MS }
    }
    this.#tellState({
      kind: 'waiting',
      device,
      text: `the machine stays paused: ${decision.because}${advice}`,
      details,
    })
    const soonMs = decision.untilMs === undefined ? LOOK_MS : decision.untilMs - Date.now()
    const isFinal = decision.untilMs === undefined && (evidence.unreachable === undefined || this.#server.isLost)
    return { outcome: 'stays-paused', isFinal, againMs: Math.max(1, soonMs) }
  }

  async #continue(machine: QmpClient, device: string, { cause, evidence, decision }: Chosen): Promise<void> {
    const before = this.#attempts
    const isSame = before !== undefined && isSameTrouble(before, { cause, evidence })
    this.#attempts = { count: isSame ? before.count + 1 : 1, lastMs: Date.now(), cause, evidence }
    this.#pausing = []
    this.#told = ''
    await machine.execute('cont')
    this.#options.report({
      ...{ kind: 'continued', device, text: `the machine was continued: ${decision.because}` },
      details: { cause: cause.kind, ...cause.range, attempt: this.#attempts.count },
    })
  }

  /** @returns whether the disk has a new connection now */
  async #replace(machine: QmpClient, disk: MachineDisk, { cause, evidence }: Chosen): Promise<boolean> {
    const { replaceNode: replacing, dryRun } = this.#options
    const exported = this.#server.export
    const isInVain = cause.kind === 'connection' && (this.#attempts?.count ?? 0) > 1
    const isCut = evidence.unreachable === undefined && !evidence.stalled && (evidence.clients === 0 || isInVain)
    if (replacing === undefined || dryRun || !isCut || exported === undefined) return false
    try {
      const nodeName = await replaceNode(machine, disk, exported, replacing.reconnectDelaySeconds)
      this.#pausing = this.#pausing.map((error) => (error.nodeName === disk.nodeName ? { ...error, nodeName } : error))
      this.#options.report({
        kind: 'replaced',
        device: disk.label,
        text: 'the disk has a new connection to the server',
      })
      return true
    } catch (error) {
      this.#tellState({
        kind: 'waiting',
        device: disk.label,
        text: `no new connection to the server: ${messageOf(error)}`,
      })
      return false
    }
  }

  // --- Words ---------------------------------------------------------------------------------------------------------

  /** A state that is told already is not told again. */
  #tellState(report: Report): void {
    const text = `${report.kind} ${report.device ?? ''} ${report.text}`
    if (text === this.#told) return
    this.#told = text
    this.#options.report(report)
  }

  #tell(report: Report): void {
    this.#options.report(report)
  }
}

interface Chosen {
  readonly cause: Cause
  readonly evidence: Evidence
  readonly decision: Decision
}

interface Step {
  readonly outcome: Outcome
  /** Nothing more is to be done now. */
  readonly isFinal: boolean
  readonly againMs: number
}

function machineError({ data, timestamp }: QmpEvent): MachineError {
  return {
    operation: data['operation'] === 'read' ? 'read' : 'write',
    noSpace: data['nospace'] === true,
    reason: typeof data['reason'] === 'string' ? data['reason'] : 'no reason given',
    timeMs: timestamp.seconds * 1000 + timestamp.microseconds / 1000,
  }
}

const aborted = (): Error => new Error('aborted')

/** A QEMU that is not ready yet refuses query-block, too, but in other words. */
const isNoMachine = (error: QmpError): boolean =>
  error instanceof QmpCommandError &&
  error.errorClass === 'CommandNotFound' &&
  error.desc.endsWith('has not been found')
