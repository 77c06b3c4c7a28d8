/**
 * `serve --supervise`: the parent holds the listening socket and accepts connections; a child, the worker, serves them.
 * When the worker dies, QEMU reconnects at once, its connection waits in the parent, and the next worker takes it over:
 * the guest sees a pause of the time that a start takes, and no error.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { Listener, type BoundAddress, type ListenAddress } from '../server/listener.js'
import type { Log } from '../util/log.js'
import { EXIT } from './exit.js'

const WORKER_VARIABLE = 'NBD_REMAP_WORKER'
/** A worker that lived shorter than this is restarted after a pause, which doubles up to the maximum. */
const HEALTHY_LIFE_MS = 2000
const RESTART_PAUSE_MS = 100
const RESTART_PAUSE_MAX_MS = 5000

/** From the worker to its supervisor: it takes connections from now on. */
interface ReadyMessage {
  readonly kind: 'ready'
  readonly uri: string
}

export const isWorker = (): boolean => process.env[WORKER_VARIABLE] !== undefined && process.send !== undefined

/** Runs until the worker ends on its own account or a signal stops both; sets the exit code of the process. */
export async function supervise(address: ListenAddress, log: Log): Promise<void> {
  const supervisor = new Supervisor(log)
  const listener = await Listener.open(address, supervisor.admit, log)
  process.on('SIGTERM', supervisor.stop).on('SIGINT', supervisor.stop)
  process.exitCode = await supervisor.run(listener.address)
  process.off('SIGTERM', supervisor.stop).off('SIGINT', supervisor.stop)
  listener.close()
}

class Supervisor {
  readonly #log: Log
  readonly #queue: Socket[] = []
  #worker: Worker | undefined
  #stopping = false
  #announced = false
  #restartPauseMs = RESTART_PAUSE_MS

  constructor(log: Log) {
    this.#log = log
  }

  readonly admit = (socket: Socket): void => {
    if (this.#worker?.isReady) this.#worker.hand(socket)
    else this.#queue.push(socket)
  }

  readonly stop = (): void => {
    this.#stopping = true
    this.#worker?.stop()
  }

  /** Starts workers until one ends for good. @returns the exit code */
  async run(address: BoundAddress): Promise<number> {
    let exitCode: number | undefined
    while (exitCode === undefined) {
      const started = Date.now()
      const worker = new Worker(address, this.#onReady)
      this.#worker = worker
      this.#log.info(`worker ${worker.pid} started`)
      const exit = await worker.exited
      exitCode = this.#finalCode(exit.code)
      if (exitCode === undefined) await this.#prepareRestart(worker.pid, exit, Date.now() - started)
      if (this.#stopping) exitCode ??= EXIT.failed
    }
    for (const socket of this.#queue) socket.destroy()
    return exitCode
  }

  readonly #onReady = (uri: string): void => {
    if (!this.#announced) process.stdout.write(`${uri}\n`)
    this.#announced = true
    for (const socket of this.#queue.splice(0)) this.#worker?.hand(socket)
  }

  /** A start that fails, a refusal and an orderly stop are final; everything else is a crash: `undefined`. */
  #finalCode(code: number | null): number | undefined {
    const isFinal = this.#stopping || code === EXIT.done || code === EXIT.refused || !this.#announced
    return isFinal ? (code ?? EXIT.failed) : undefined
  }

  async #prepareRestart(pid: number, { code, signal }: WorkerExit, lifeMs: number): Promise<void> {
    this.#log.error(`worker ${pid} died (${signal ?? `exit code ${code ?? '?'}`}): starting another one`)
    if (lifeMs > HEALTHY_LIFE_MS) {
      this.#restartPauseMs = RESTART_PAUSE_MS
      return
    }
    await pause(this.#restartPauseMs)
    this.#restartPauseMs = Math.min(this.#restartPauseMs * 2, RESTART_PAUSE_MAX_MS)
  }
}

interface WorkerExit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

class Worker {
  readonly exited: Promise<WorkerExit>
  readonly #child: ChildProcess
  #isReady = false

  constructor(address: BoundAddress, onReady: (uri: string) => void) {
    const [, program = '', ...args] = process.argv
    const env = { ...process.env, [WORKER_VARIABLE]: JSON.stringify(address) }
    this.#child = fork(program, args, { env })
    this.#child.on('message', (message) => {
      this.#isReady = true
      onReady((message as ReadyMessage).uri)
    })
    // A handle that cannot be sent any more belongs to a worker that is about to be reported dead.
    this.#child.on('error', () => undefined)
    this.exited = once(this.#child, 'exit').then(([code, signal]) => {
      this.#isReady = false
      return { code: code as number | null, signal: signal as NodeJS.Signals | null }
    })
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  get isReady(): boolean {
    return this.#isReady && this.#child.connected
  }

  hand(socket: Socket): void {
    this.#child.send({ kind: 'connection' }, socket)
  }

  stop(): void {
    this.#child.kill('SIGTERM')
  }
}

export interface SupervisedSockets {
  /** Where the supervisor listens. */
  readonly address: BoundAddress
  /** Resolves when the supervisor is gone. */
  readonly orphaned: Promise<void>
  ready(uri: string): void
  disconnect(): void
}

/** The worker's side: connections arrive over the channel to the supervisor. */
export function supervisedSockets(onSocket: (socket: Socket) => void): SupervisedSockets {
  process.on('message', (_message, socket) => {
    // A client that left while its connection was on the way arrives as nothing.
    if (socket) onSocket(socket as Socket)
  })
  return {
    address: JSON.parse(process.env[WORKER_VARIABLE] ?? '{}') as BoundAddress,
    orphaned: once(process, 'disconnect').then(() => undefined),
    ready: (uri) => {
      process.send?.({ kind: 'ready', uri } satisfies ReadyMessage)
    },
    disconnect: () => {
      process.disconnect()
    },
  }
}
