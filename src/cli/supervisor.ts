/**
 * `serve --supervise`: the parent holds the listening socket and accepts connections; a child, the worker, serves them.
 * When the worker dies, QEMU reconnects at once, its connection waits in the parent, and the next worker takes it over:
 * the guest sees a short pause, and no error. The next worker exists already: it is started and loaded while
 * the first one serves, and waits for its turn before it touches a disk.
 *
 * The invariant: a connection is the supervisor's until a worker has said that it took it. QEMU reconnects before the
 * death of a worker is known here, so a connection may well be handed to the dead; it goes to the next one then.
 *
 * A worker that hangs is killed, when the next one would be better off (heartbeat.ts). The next one starts only when the
 * kernel says that it is gone: until then its last write may still be under way.
 */
import { fork, type ChildProcess } from 'node:child_process'
import type { Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import type { BoundAddress } from '../server/listener.js'
import type { Log } from '../util/log.js'
import { Random } from '../util/random.js'
import { EXIT } from './exit.js'
import { Heartbeat } from './heartbeat.js'
import { listenForClients, type ClientAddresses, type ClientListeners } from './listen.js'
import type { Readiness } from './readiness.js'
import type { ReloadSignal } from './reload-signal.js'
import type { StandBy } from './standby.js'
import type { Stop } from './stop.js'
import { CONNECTIONS_WAITING_MAX } from './waiting-room.js'
import { ignoreError, WORKER_VARIABLE, type Order, type Report, type Role } from './worker.js'

/** When one worker after the other serves for less than this, there is a pause between them, doubled up to the maximum. */
const HEALTHY_LIFE_MS = 2000
const RESTART_PAUSE_MS = 100
const RESTART_PAUSE_MAX_MS = 5000

export interface SupervisorSettings {
  /** A worker that does not answer for so long is looked at, and killed if that helps; 0: never. */
  readonly hangTimeoutMs: number
  readonly configuration: SupervisorConfiguration
}

export interface SupervisorConfiguration {
  /** The text of the configuration file. */
  readonly text: string | undefined
  readonly signal: ReloadSignal
}

/**
 * Runs until the worker ends on its own account or a stop is wanted; sets the exit code of the process. The worker says
 * itself why it ended.
 */
export async function supervise(
  addresses: ClientAddresses,
  readiness: Readiness,
  stop: Stop,
  log: Log,
  settings: SupervisorSettings,
  standBy?: StandBy,
): Promise<void> {
  const supervisor = new Supervisor(readiness, stop, log, settings)
  let listener: ClientListeners | undefined
  try {
    if (standBy) {
      const [address] = addresses
      if (!('fd' in address)) supervisor.prepare(address)
      const turn = await standBy.turn()
      listener = await turn?.takeOver(addresses, supervisor.admit)
    } else {
      listener = await listenForClients(addresses, supervisor.admit, log)
    }
    if (listener) process.exitCode = await supervisor.run(listener.address)
  } finally {
    listener?.close()
    await supervisor.close()
  }
}

class Supervisor {
  readonly #readiness: Readiness
  readonly #stop: Stop
  readonly #log: Log
  readonly #hangTimeoutMs: number
  readonly #stopPausing = new AbortController()
  #waiting: Socket[] = []
  #worker: Worker | undefined
  #standby: Worker | undefined
  /** A worker that starts later has what is in force, and not what stands in the file by then. */
  #configuration: string | undefined
  readonly #faultSeed = new Random().seed
  #announced = false
  #restartPauseMs = 0

  constructor(readiness: Readiness, stop: Stop, log: Log, { hangTimeoutMs, configuration }: SupervisorSettings) {
    const { text, signal } = configuration
    this.#configuration = text
    this.#hangTimeoutMs = hangTimeoutMs
    signal.heed(() => this.#worker?.reload())
    this.#readiness = readiness
    this.#stop = stop
    this.#log = log
    void stop.requested.then(() => {
      readiness.stopping()
      this.#worker?.stop()
      this.#stopPausing.abort()
    })
  }

  /** Starts the first worker before its turn, for a supervisor that is going to listen there. */
  prepare(address: BoundAddress): void {
    this.#standby = this.#newWorker(address, true)
  }

  readonly admit = (socket: Socket): void => {
    // Nobody reads from it here, but a client that leaves may still be heard of.
    socket.on('error', () => undefined)
    if (this.#worker?.isReady) this.#worker.hand(socket)
    else this.#keep([socket])
  }

  /** Starts workers until one ends for good. @returns the exit code. @throws Error when it was killed at the start or the stop */
  async run(address: BoundAddress): Promise<number> {
    while (!this.#stop.isRequested) {
      const worker = this.#takeStandby() ?? this.#newWorker(address, false)
      this.#worker = worker
      const started = Date.now()
      this.#log.info(`worker ${worker.pid} serves`)
      const heartbeat = this.#watch(worker)
      worker.serve({
        onAlive: () => heartbeat?.heard(),
        onReady: (uri) => {
          this.#onReady(address, uri)
        },
        onStopping: (reason) => {
          this.#stop.request(reason)
        },
        onReloaded: (configuration) => {
          this.#configuration = configuration
          this.#standby?.stop()
          this.#standby = this.#newWorker(address, true)
        },
      })
      const exit = await worker.exited
      heartbeat?.stop()
      this.#keep(worker.notTaken)
      const exitCode = this.#finalCode(exit)
      if (exitCode !== undefined) return exitCode
      await this.#prepareRestart(worker.pid, exit, Date.now() - started)
    }
    if (!this.#worker) return EXIT.done
    throw new Error('the worker died before it could stop in good order: the next start repairs the metadata')
  }

  #onReady(address: BoundAddress, uri: string): void {
    if (!this.#announced && !this.#stop.isRequested) this.#readiness.ready(uri)
    this.#announced = true
    for (const socket of this.#waiting.splice(0)) this.#worker?.hand(socket)
    if (!this.#stop.isRequested) this.#standby = this.#newWorker(address, true)
  }

  #watch(worker: Worker): Heartbeat | undefined {
    if (this.#hangTimeoutMs === 0) return undefined
    const onHung = (text: string): void => {
      this.#log.error(`worker ${worker.pid} ${text}; it is killed`)
      worker.kill()
    }
    const subject = { pid: worker.pid, beat: worker.beat.bind(worker), onHung }
    return new Heartbeat(subject, this.#hangTimeoutMs, this.#log)
  }

  #newWorker(address: BoundAddress, isStandby: boolean): Worker {
    return new Worker({ address, isStandby, configuration: this.#configuration, faultSeed: this.#faultSeed })
  }

  /** One that died while it waited is no loss: the next one just takes longer to start. */
  #takeStandby(): Worker | undefined {
    const standby = this.#standby
    this.#standby = undefined
    return standby?.isAlive ? standby : undefined
  }

  #keep(sockets: readonly Socket[]): void {
    this.#waiting.push(...sockets)
    for (const socket of this.#waiting.splice(0, Math.max(0, this.#waiting.length - CONNECTIONS_WAITING_MAX)))
      socket.destroy()
  }

  async close(): Promise<void> {
    for (const socket of this.#waiting) socket.destroy()
    this.#standby?.stop()
    await this.#standby?.exited
  }

  /**
   * A start that fails, a refusal and an orderly stop are final; everything else is a crash: `undefined`.
   * @throws Error when a worker was killed before anybody heard of it
   */
  #finalCode({ code, signal }: WorkerExit): number | undefined {
    if (code === EXIT.done || code === EXIT.refused) return code
    // Our own signal, before the worker was able to hear it: it has done nothing yet.
    if (this.#stop.isRequested && signal === 'SIGTERM') return EXIT.done
    if (this.#announced && !(this.#stop.isRequested && code !== null)) return undefined
    if (code === null) throw new Error(`the server was ended by ${signal ?? '?'} before it was ready`)
    return code
  }

  async #prepareRestart(pid: number, { code, signal }: WorkerExit, lifeMs: number): Promise<void> {
    if (this.#stop.isRequested) return
    this.#log.error(`worker ${pid} died (${signal ?? `exit code ${code ?? '?'}`}): the next one takes over`)
    if (lifeMs > HEALTHY_LIFE_MS) {
      this.#restartPauseMs = 0
      return
    }
    await pause(this.#restartPauseMs, undefined, { signal: this.#stopPausing.signal }).catch(ignoreError)
    this.#restartPauseMs = Math.min(Math.max(this.#restartPauseMs * 2, RESTART_PAUSE_MS), RESTART_PAUSE_MAX_MS)
  }
}

interface WorkerObserver {
  onAlive(): void
  onReady(uri: string): void
  onStopping(reason: string): void
  onReloaded(configuration: string): void
}

interface WorkerExit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

class Worker {
  /** Resolves when it is gone and everything that it reported has been heard. */
  readonly exited: Promise<WorkerExit>
  readonly #child: ChildProcess
  readonly #handed = new Map<number, Socket>()
  #lastId = 0
  #isReady = false
  #isAlive = true

  constructor(role: Role) {
    const [, program = '', ...args] = process.argv
    const env = { ...process.env, [WORKER_VARIABLE]: JSON.stringify(role) }
    this.#child = fork(program, args, { env })
    this.exited = this.#end().then((exit) => {
      this.#isReady = false
      this.#isAlive = false
      return exit
    })
  }

  async #end(): Promise<WorkerExit> {
    const channelClosed = new Promise<void>((resolve) => this.#child.once('disconnect', resolve))
    const exit = await new Promise<WorkerExit>((resolve) => {
      this.#child.once('exit', (code, signal) => {
        resolve({ code, signal })
      })
      this.#child.once('error', () => {
        // Without a process there was nothing to be started, and nothing is going to exit.
        if (this.#child.pid === undefined) resolve({ code: null, signal: null })
      })
    })
    if (this.#child.connected) await channelClosed
    return exit
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  get isReady(): boolean {
    return this.#isReady
  }

  get isAlive(): boolean {
    return this.#isAlive
  }

  /** Connections that were handed to it, and that it has not taken. */
  get notTaken(): readonly Socket[] {
    return [...this.#handed.values()]
  }

  /** Its turn has come. */
  serve(observer: WorkerObserver): void {
    this.#child.on('message', (message) => {
      const report = message as Report
      switch (report.kind) {
        case 'taken':
          this.#handed.get(report.id)?.destroy()
          this.#handed.delete(report.id)
          return
        case 'alive':
          observer.onAlive()
          return
        case 'ready':
          this.#isReady = true
          observer.onReady(report.uri)
          return
        case 'stopping':
          observer.onStopping(report.reason)
          return
        case 'reloaded':
          observer.onReloaded(report.configuration)
      }
    })
    this.#child.send({ kind: 'serve' } satisfies Order, ignoreError)
  }

  hand(socket: Socket): void {
    this.#handed.set(++this.#lastId, socket)
    this.#child.send({ kind: 'connection', id: this.#lastId } satisfies Order, socket, { keepOpen: true }, ignoreError)
  }

  /** It reads its configuration file again, and reports. */
  reload(): void {
    this.#child.kill('SIGHUP')
  }

  /** It answers, if it is alive. */
  beat(): void {
    this.#child.send({ kind: 'beat' } satisfies Order, ignoreError)
  }

  stop(): void {
    this.#child.kill('SIGTERM')
  }

  /** Also one that is stopped. */
  kill(): void {
    this.#child.kill('SIGKILL')
  }
}
