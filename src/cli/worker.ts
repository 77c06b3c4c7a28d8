/**
 * The worker of `serve --supervise`, its side of the channel. A connection is acknowledged before a byte of it is read or
 * written, so that the supervisor can hand one that was not acknowledged to the next worker.
 */
import type { Socket } from 'node:net'
import type { BoundAddress } from '../server/listener.js'

/** In the environment of a worker: the address that the supervisor listens on, as JSON. */
export const WORKER_VARIABLE = 'NBD_REMAP_WORKER'

/** From the worker: it takes connections from now on; it has taken the oldest connection that it was sent. */
export type WorkerMessage = { readonly kind: 'ready'; readonly uri: string } | { readonly kind: 'taken' }

export const isWorker = (): boolean => process.env[WORKER_VARIABLE] !== undefined && process.send !== undefined

export interface SupervisedSockets {
  /** Where the supervisor listens. */
  readonly address: BoundAddress
  ready(uri: string): void
  disconnect(): void
}

/** @param onOrphaned the supervisor is gone, and nobody hands over connections any more */
export function supervisedSockets(onSocket: (socket: Socket) => void, onOrphaned: () => void): SupervisedSockets {
  process.on('message', (_message, socket) => {
    tell({ kind: 'taken' })
    // A client that left while its connection was on the way may arrive as nothing.
    if (socket) onSocket(socket as Socket)
  })
  process.once('disconnect', onOrphaned)
  return {
    address: JSON.parse(process.env[WORKER_VARIABLE] ?? '{}') as BoundAddress,
    ready: (uri) => {
      tell({ kind: 'ready', uri })
    },
    disconnect: () => {
      process.off('disconnect', onOrphaned)
      if (process.connected) process.disconnect()
    },
  }
}

function tell(message: WorkerMessage): void {
  // The supervisor may be gone by now: `disconnect` says so.
  if (process.connected) process.send?.(message, undefined, {}, () => undefined)
}
