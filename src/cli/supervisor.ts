/**
 * `serve --supervise`: the parent holds the listening socket and accepts connections; a child, the worker, serves them.
 * When the worker dies, QEMU reconnects at once, its connection waits in the parent, and the next worker takes it over:
 * the guest sees a short pause, and no error. The next worker exists already: the stand-by is started and loaded while
 * the first one serves, and waits for its turn before it touches a disk.
 *
 * The invariant: a connection is the supervisor's until a worker has said that it took it. QEMU reconnects before the
 * death of a worker is known here, so a connection may well be handed to the dead; it goes to the next one then.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { Listener, type BoundAddress, type ListenAddress } from '../server/listener.js'
import type { Log } from '../util/log.js'
import { EXIT } from './exit.js'

const WORKER_VARIABLE = 'NBD_REMAP_WORKER'
/** A worker that served for less than this is restarted after a pause, which doubles up to the maximum. */
const HEALTHY_LIFE_MS = 2000
const RESTART_PAUSE_MS = 100
const RESTART_PAUSE_MAX_MS = 5000
/** Connections that wait for a worker; when one more comes, the oldest is dropped. */
const WAITING_MAX = 128

/** From the supervisor to a worker. A connection comes with its socket. */
type Order = { readonly kind: 'serve' } | { readonly kind: 'connection'; readonly id: number }

/** From a worker to its supervisor: it takes connections from now on; it took this one. */
type Report = { readonly kind: 'ready'; readonly uri: string } | { readonly kind: 'taken'; readonly id: number }

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
  #waiting: Socket[] = []
  #worker: Worker | undefined
  #standby: Worker | undefined
  #stopping = false
  #announced = false
  #restartPauseMs = RESTART_PAUSE_MS

  constructor(log: Log) {
    this.#log = log
  }

  readonly admit = (socket: Socket): void => {
    // Nobody reads from it here, but a client that leaves may still be heard of.
    socket.on('error', () => undefined)
    if (this.#worker?.isReady) this.#worker.hand(socket)
    else this.#keep([socket])
  }

  readonly stop = (): void => {
    this.#stopping = true
    this.#worker?.stop()
    this.#standby?.stop()
  }

  /** Starts workers until one ends for good. @returns the exit code */
  async run(address: BoundAddress): Promise<number> {
    for (;;) {
      const worker = this.#takeStandby() ?? new Worker(address)
      this.#worker = worker
      const started = Date.now()
      this.#log.info(`worker ${worker.pid} serves`)
      worker.serve((uri) => {
        this.#onReady(address, uri)
      })
      const exit = await worker.exited
      this.#keep(worker.notTaken)
      let exitCode = this.#finalCode(exit.code)
      if (exitCode === undefined) await this.#prepareRestart(worker.pid, exit, Date.now() - started)
      if (this.#stopping) exitCode ??= EXIT.failed
      if (exitCode !== undefined) return this.#end(exitCode)
    }
  }

  #onReady(address: BoundAddress, uri: string): void {
    if (!this.#announced) process.stdout.write(`${uri}\n`)
    this.#announced = true
    for (const socket of this.#waiting.splice(0)) this.#worker?.hand(socket)
    if (!this.#stopping) this.#standby = new Worker(address)
  }

  /** One that died while it waited is no loss: the next one just takes longer to start. */
  #takeStandby(): Worker | undefined {
    const standby = this.#standby
    this.#standby = undefined
    return standby?.isAlive ? standby : undefined
  }

  #keep(sockets: readonly Socket[]): void {
    this.#waiting.push(...sockets)
    for (const socket of this.#waiting.splice(0, Math.max(0, this.#waiting.length - WAITING_MAX))) socket.destroy()
  }

  async #end(exitCode: number): Promise<number> {
    for (const socket of this.#waiting) socket.destroy()
    this.#standby?.stop()
    await this.#standby?.exited
    return exitCode
  }

  /** A start that fails, a refusal and an orderly stop are final; everything else is a crash: `undefined`. */
  #finalCode(code: number | null): number | undefined {
    const isFinal = this.#stopping || code === EXIT.done || code === EXIT.refused || !this.#announced
    return isFinal ? (code ?? EXIT.failed) : undefined
  }

  async #prepareRestart(pid: number, { code, signal }: WorkerExit, lifeMs: number): Promise<void> {
    this.#log.error(`worker ${pid} died (${signal ?? `exit code ${code ?? '?'}`}): the next one takes over`)
    if (lifeMs > HEALTHY_LIFE_MS) {
      this.#restartPauseMs = RESTART_PAUSE_MS
      return
    }
    await pause(this.#restartPauseMs)
    this.#restartPauseMs = Math.min(this.#restartPauseMs * 2, RESTART_PAUSE_MAX_MS)
  }
}

/** What cannot be sent any more was for a process that is about to be reported dead. */
const ignoreError = (): void => undefined

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

  constructor(address: BoundAddress) {
    const [, program = '', ...args] = process.argv
    const env = { ...process.env, [WORKER_VARIABLE]: JSON.stringify(address) }
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
  serve(onReady: (uri: string) => void): void {
    this.#child.on('message', (message) => {
      const report = message as Report
      if (report.kind === 'taken') {
        this.#handed.get(report.id)?.destroy()
        this.#handed.delete(report.id)
      } else {
        this.#isReady = true
        onReady(report.uri)
      }
    })
    this.#child.send({ kind: 'serve' } satisfies Order, ignoreError)
  }

  hand(socket: Socket): void {
    this.#handed.set(++this.#lastId, socket)
    this.#child.send({ kind: 'connection', id: this.#lastId } satisfies Order, socket, { keepOpen: true }, ignoreError)
  }

  stop(): void {
    this.#child.kill('SIGTERM')
  }
}

export interface SupervisedSockets {
  /** Where the supervisor listens. */
  readonly address: BoundAddress
  /** Resolves when this worker's turn has come. Until then it must not touch anything that another one may use. */
  readonly turn: Promise<void>
  /** Resolves when the supervisor is gone. */
  readonly orphaned: Promise<void>
  ready(uri: string): void
  disconnect(): void
}

/** The worker's side: connections arrive over the channel to the supervisor. */
export function supervisedSockets(onSocket: (socket: Socket) => void): SupervisedSockets {
  const turn = new Promise<void>((resolve) => {
    process.on('message', (message, socket) => {
      const order = message as Order
      if (order.kind === 'serve') {
        resolve()
        return
      }
      // Said before the first byte is sent to the client: a connection that has seen a greeting can go to nobody else.
      report({ kind: 'taken', id: order.id })
      // A client that left while its connection was on the way arrives as nothing.
      if (socket) onSocket(asAccepted(socket as Socket))
    })
  })
  return {
    address: JSON.parse(process.env[WORKER_VARIABLE] ?? '{}') as BoundAddress,
    turn,
    orphaned: once(process, 'disconnect').then(() => undefined),
    ready: (uri) => {
      report({ kind: 'ready', uri })
    },
    disconnect: () => {
      if (process.connected) process.disconnect()
    },
  }
}

function report(message: Report): void {
  process.send?.(message, undefined, undefined, ignoreError)
}

/** As the listener's own sockets are: a client may end its side and still get its replies. */
function asAccepted(socket: Socket): Socket {
  socket.allowHalfOpen = true
  return socket
}
