/**
 * Where a QMP server listens, and how to get a socket to it: a unix socket's path, or a TCP host and port.
 * A connection refused is reported with the address: "ECONNREFUSED" alone helps nobody who runs five daemons.
 */

import net from 'node:net'
import { QmpConnectionError, QmpTimeoutError } from './error.js'

export type QmpAddress = string | { readonly host: string; readonly port: number }

export interface OpenOptions {
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
}

/** For messages. */
export const formatAddress = (address: QmpAddress): string =>
  typeof address === 'string' ? address : `${address.host}:${address.port}`

/**
 * A connected socket.
 * @throws QmpConnectionError when nobody listens there, or `signal` fires
 * @throws QmpTimeoutError when nobody accepts within `timeoutMs`
 */
export function openSocket(address: QmpAddress, { timeoutMs, signal }: OpenOptions): Promise<net.Socket> {
  const where = formatAddress(address)
  return new Promise((resolve, reject) => {
    const socket = typeof address === 'string' ? net.connect(address) : net.connect({ ...address, noDelay: true })
    const settle = (error?: Error): void => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      socket.off('error', onError)
      if (error === undefined) {
        resolve(socket)
        return
      }
      socket.on('error', () => undefined).destroy()
      reject(error)
    }
    const onError = (cause: Error): void => {
      settle(new QmpConnectionError(`cannot connect to ${where}: ${cause.message}`, { cause }))
    }
    const onAbort = (): void => {
      settle(new QmpConnectionError(`connecting to ${where} was aborted`, { cause: signal?.reason }))
    }
    const timer = setTimeout(() => {
      settle(new QmpTimeoutError(`${where} did not accept within ${timeoutMs} ms`))
    }, timeoutMs)
    socket.once('error', onError).once('connect', () => {
      settle()
    })
    if (signal?.aborted === true) onAbort()
    else signal?.addEventListener('abort', onAbort, { once: true })
  })
}
