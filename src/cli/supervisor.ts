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
  const queue: Socket[] = []
  let worker: Worker | undefined
  const listener = await Listener.open(
    address,
    (socket) => {
      if (worker?.isReady) worker.hand(socket)
      else queue.push(socket)
    },
    log,
  )
  let stopping = false
  const stop = (): void => {
    stopping = true
    worker?.stop()
  }
  process.on('SIGTERM', stop).on('SIGINT', stop)
  let announced = false
  let restartPauseMs = RESTART_PAUSE_MS
  process.exitCode = EXIT.failed
  while (!stopping) {
    const started = Date.now()
    worker = new Worker(listener.address, (uri) => {
      if (!announced) process.stdout.write(`${uri}\n`)
      announced = true
      for (const socket of queue.splice(0)) worker?.hand(socket)
    })
    log.info(`worker ${worker.pid} started`)
    const { code, signal } = await worker.exited
    // A start that fails, a refusal and an orderly stop are final; everything else is a crash.
    if (stopping || code === EXIT.done || code === EXIT.refused || !announced) {
      process.exitCode = code ?? EXIT.failed
      break
    }
    log.error(`worker ${worker.pid} died (${signal ?? `exit code ${code ?? '?'}`}): starting another one`)
    const isHealthy = Date.now() - started > HEALTHY_LIFE_MS
    restartPauseMs = isHealthy ? RESTART_PAUSE_MS : Math.min(restartPauseMs * 2, RESTART_PAUSE_MAX_MS)
    if (!isHealthy) await pause(restartPauseMs)
  }
  for (const socket of queue) socket.destroy()
  listener.close()
  process.off('SIGTERM', stop).off('SIGINT', stop)
}

class Worker {
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  readonly #child: ChildProcess
  #isReady = false

  constructor(address: BoundAddress, onReady: (uri: string) => void) {
    const [, program = '', ...args] = process.argv
    const env = { ...process.env, [WORKER_VARIABLE]: JSON.stringify(address) }
    // Its own process group: Ctrl-C on the terminal reaches the supervisor, which then stops the worker in order.
    this.#child = fork(program, args, { env, detached: true })
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
