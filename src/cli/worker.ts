/**
 * The worker of `serve --supervise`, its side of the channel to the supervisor. It is started and loaded before its turn
 * comes, and until then must not touch anything that the worker before it may use.
 */
import type { Socket } from 'node:net'
import type { BoundAddress } from '../server/listener.js'

/** In the environment of a worker: its role, as JSON. */
export const WORKER_VARIABLE = 'NBD_REMAP_WORKER'

/** What a worker is told at its start. */
export interface Role {
  /** Where the supervisor listens. */
  readonly address: BoundAddress
  /** Its turn comes when another worker dies. */
  readonly isStandby: boolean
  /** The text of the configuration file that is in force. */
  readonly configuration: string | undefined
  /** For faults, where nobody gives one: all workers draw the same, as the disks are the same. */
  readonly faultSeed: string
}

/** From the supervisor to a worker. A connection comes with its socket. */
export type Order =
  | { readonly kind: 'serve' }
  | { readonly kind: 'connection'; readonly id: number }
  /** To be answered with `alive`, by the thread that serves NBD. */
  | { readonly kind: 'beat' }

/** From a worker to its supervisor: it takes connections from now on; it took this one. */
export type Report =
  | { readonly kind: 'ready'; readonly uri: string }
  /** It was told to stop, and there is to be no next one however that ends. */
  | { readonly kind: 'stopping'; readonly reason: string }
  | { readonly kind: 'alive' }
  | { readonly kind: 'taken'; readonly id: number }
  /** Another text of the configuration file is in force. */
  | { readonly kind: 'reloaded'; readonly configuration: string }

export const isWorker = (): boolean => process.env[WORKER_VARIABLE] !== undefined && process.send !== undefined

/** Also in a thread of a worker. @returns undefined in a process that is no worker */
export const supervisorPid = (): number | undefined =>
  process.env[WORKER_VARIABLE] === undefined ? undefined : process.ppid

/** What cannot be sent any more was for a process that is gone, as an exit or a disconnection is about to say. */
export const ignoreError = (): void => undefined

/** Of this process. */
export const role = (): Role => JSON.parse(process.env[WORKER_VARIABLE] ?? '{}') as Role

export interface SupervisedSockets extends Role {
  /** Resolves when this worker's turn has come. */
  readonly turn: Promise<void>
  ready(uri: string): void
  stopping(reason: string): void
  reloaded(configuration: string): void
  disconnect(): void
}

/** @param onOrphaned the supervisor is gone, and nobody hands over connections any more */
export function supervisedSockets(onSocket: (socket: Socket) => void, onOrphaned: () => void): SupervisedSockets {
  const turn = new Promise<void>((resolve) => {
    process.on('message', (message, socket) => {
      const order = message as Order
      if (order.kind === 'serve') {
        resolve()
        return
      }
      if (order.kind === 'beat') {
        report({ kind: 'alive' })
        return
      }
      // Said before the first byte is sent to the client: a connection that has seen a greeting can go to nobody else.
      report({ kind: 'taken', id: order.id })
      // A client that left while its connection was on the way arrives as nothing.
      if (socket) onSocket(asAccepted(socket as Socket))
    })
  })
  process.once('disconnect', onOrphaned)
  // It may have gone while this program was loaded.
  if (!process.connected) onOrphaned()
  return {
    ...role(),
    turn,
    ready: (uri) => {
      report({ kind: 'ready', uri })
    },
    stopping: (reason) => {
      report({ kind: 'stopping', reason })
    },
    reloaded: (configuration) => {
      report({ kind: 'reloaded', configuration })
    },
    disconnect: () => {
      process.off('disconnect', onOrphaned)
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
