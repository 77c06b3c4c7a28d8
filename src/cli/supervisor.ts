/**
 * `serve --supervise`: the parent holds the listening socket and accepts connections; a child, the worker, serves them.
 * When the worker dies, QEMU reconnects at once, its connection waits in the parent, and the next worker takes it over:
 * the guest sees a pause of the time that a start takes, and no error.
 *
 * A connection stays open here until the worker says that it has it. Otherwise one that was on its way to a dying worker
 * would be lost without being closed, and its client would wait for ever.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { Listener, type BoundAddress, type ListenAddress } from '../server/listener.js'
import type { Log } from '../util/log.js'
import { EXIT } from './exit.js'
import type { Stop } from './stop.js'
import { CONNECTIONS_WAITING_MAX } from './waiting-room.js'
import { WORKER_VARIABLE, type WorkerMessage } from './worker.js'

/** A worker that lived shorter than this is restarted after a pause, which doubles up to the maximum. */
const HEALTHY_LIFE_MS = 2000
const RESTART_PAUSE_MS = 100
const RESTART_PAUSE_MAX_MS = 5000

/**
 * Runs until the worker ends on its own account or a stop is wanted; sets the exit code of the process. The worker says
 * itself why it ended.
 */
export async function supervise(address: ListenAddress, stop: Stop, log: Log): Promise<void> {
  const supervisor = new Supervisor(stop, log)
  const listener = await Listener.open(address, supervisor.admit, log)
  try {
    process.exitCode = await supervisor.run(listener.address)
  } finally {
    listener.close()
    supervisor.close()
  }
}

class Supervisor {
  readonly #stop: Stop
  readonly #log: Log
  readonly #stopPausing = new AbortController()
  #queue: Socket[] = []
  #worker: Worker | undefined
  #announced = false
  #restartPauseMs = RESTART_PAUSE_MS

  constructor(stop: Stop, log: Log) {
    this.#stop = stop
    this.#log = log
    void stop.requested.then(() => {
      this.#worker?.stop()
      this.#stopPausing.abort()
    })
  }

  readonly admit = (socket: Socket): void => {
    socket.on('error', () => undefined)
    this.#queue.push(socket)
    // Who has waited longest has most likely given up.
    if (this.#queue.length > CONNECTIONS_WAITING_MAX) this.#queue.shift()?.destroy()
    this.#handOver()
  }

  /** Starts workers until one ends for good. @returns the exit code. @throws Error when a stop could not be clean */
  async run(address: BoundAddress): Promise<number> {
    while (!this.#stop.isRequested) {
      const started = Date.now()
      const worker = new Worker(address, this.#onReady)
      this.#worker = worker
      this.#log.info(`worker ${worker.pid} started`)
      const exit = await worker.exited
      this.#queue.unshift(...worker.handed)
      const exitCode = this.#finalCode(exit)
      if (exitCode !== undefined) return exitCode
      await this.#prepareRestart(worker.pid, exit, Date.now() - started)
    }
    if (!this.#worker) return EXIT.done
    throw new Error('the worker died before it could stop in good order: the metadata is repaired at the next start')
  }

  close(): void {
    for (const socket of this.#queue.splice(0)) socket.destroy()
  }

  readonly #onReady = (uri: string): void => {
    if (!this.#announced && !this.#stop.isRequested) process.stdout.write(`${uri}\n`)
    this.#announced = true
    this.#handOver()
  }

  #handOver(): void {
    const worker = this.#worker
    if (!worker?.isReady) return
    for (const socket of this.#queue.splice(0)) worker.hand(socket)
  }

  /** A start that fails, a refusal and an orderly stop are final; everything else is a crash: `undefined`. */
  #finalCode({ code, signal }: WorkerExit): number | undefined {
    if (code === EXIT.done || code === EXIT.refused) return code
    // Our own signal, before the worker was able to hear it: it has done nothing yet.
    if (this.#stop.isRequested && signal === 'SIGTERM') return EXIT.done
    if (this.#announced && !(this.#stop.isRequested && code !== null)) return undefined
    if (signal) this.#log.error(`the worker was ended by ${signal} before it was ready`)
    return code ?? EXIT.failed
  }

  async #prepareRestart(pid: number, { code, signal }: WorkerExit, lifeMs: number): Promise<void> {
    if (this.#stop.isRequested) return
    this.#log.error(`worker ${pid} died (${signal ?? `exit code ${code ?? '?'}`}): starting another one`)
    if (lifeMs > HEALTHY_LIFE_MS) {
      this.#restartPauseMs = RESTART_PAUSE_MS
      return
    }
    await pause(this.#restartPauseMs, undefined, { signal: this.#stopPausing.signal }).catch(() => undefined)
    this.#restartPauseMs = Math.min(this.#restartPauseMs * 2, RESTART_PAUSE_MAX_MS)
  }
}

interface WorkerExit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

class Worker {
  /** Resolves when it is gone and its last message has been heard. */
  readonly exited: Promise<WorkerExit>
  /** Connections that were sent to it and that it has not taken: it has not touched them. */
  readonly handed: Socket[] = []
  readonly #child: ChildProcess
  #isReady = false

  constructor(address: BoundAddress, onReady: (uri: string) => void) {
    const [, program = '', ...args] = process.argv
    const env = { ...process.env, [WORKER_VARIABLE]: JSON.stringify(address) }
    this.#child = fork(program, args, { env })
    this.#child.on('message', (message) => {
      const heard = message as WorkerMessage
      if (heard.kind === 'taken') {
        this.handed.shift()?.destroy()
        return
      }
      this.#isReady = true
      onReady(heard.uri)
    })
    this.exited = this.#exit()
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  get isReady(): boolean {
    return this.#isReady && this.#child.connected
  }

  hand(socket: Socket): void {
    this.handed.push(socket)
    // When it cannot be sent any more, `exited` is about to resolve.
    this.#child.send({ kind: 'connection' }, socket, { keepOpen: true }, () => undefined)
  }

  stop(): void {
    this.#child.kill('SIGTERM')
  }

  async #exit(): Promise<WorkerExit> {
    if (this.#child.pid === undefined) {
      const [error] = (await once(this.#child, 'error')) as [Error]
      throw new Error(`cannot start the worker: ${error.message}`, { cause: error })
    }
    this.#child.on('error', () => undefined)
    const [[code, signal]] = (await Promise.all([once(this.#child, 'exit'), once(this.#child, 'disconnect')])) as [
      [number | null, NodeJS.Signals | null],
      unknown,
    ]
    this.#isReady = false
    return { code, signal }
  }
}
