/**
 * Where a QMP server listens, and how to get a connection to it: a unix socket's path, a TCP host and port, or the URL of a
 * WebSocket. A connection refused is reported with the address: "ECONNREFUSED" alone helps nobody who runs five daemons.
 */

import net from 'node:net'
import type { QmpConnection } from './connection.js'
import { connectionProblem, UsageError } from '../util/errors.js'
import { QmpConnectionError, QmpTimeoutError } from './error.js'

/** A text is the path of a unix socket. */
export type QmpAddress = SocketAddress | WebSocketAddress
export type SocketAddress = string | { readonly host: string; readonly port: number }

export interface WebSocketAddress {
  /** `ws://HOST:PORT/qmp`, or `wss:`. */
  readonly url: string
  readonly token?: string | undefined
}

export interface OpenOptions {
  readonly timeoutMs: number
  readonly signal?: AbortSignal | undefined
}

/**
 * What people write: a path, HOST:PORT, or a URL; also `unix:PATH` and `tcp:HOST:PORT`, as for QEMU's `-qmp`. A path with a
 * colon and a number at its end has to have a slash.
 * @param token for WebSockets
 * @throws UsageError
 */
export function parseAddress(text: string, token?: string): QmpAddress {
  if (text === '') throw new UsageError('an address is a path, HOST:PORT or ws://HOST:PORT/qmp, not nothing')
  if (/^wss?:\/\//i.test(text)) return { url: text, token }
  const [, scheme, rest = ''] = /^(unix|tcp):(.+)$/s.exec(text) ?? []
  if (scheme === 'unix') return rest
  if (scheme === 'tcp') return parseAddress(rest)
  const [, inBrackets, plain, port] = /^(?:\[([0-9a-f:.]+)\]|([^:[\]/]*)):(\d{1,5})$/i.exec(text) ?? []
  if (port === undefined) return text
  if (Number(port) > 65_535) throw new UsageError(`'${text}' is no address: ports end at 65535`)
  return { host: inBrackets ?? (plain === '' || plain === undefined ? '127.0.0.1' : plain), port: Number(port) }
}

/** For messages. */
export function formatAddress(address: QmpAddress): string {
  if (typeof address === 'string') return address
  if ('url' in address) return address.url
  return `${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`
}

/**
 * A connection to any kind of address.
 * @throws QmpConnectionError when nobody listens there, or refuses, or `signal` fires
 * @throws QmpTimeoutError when nobody accepts within `timeoutMs`
 */
export async function openConnection(
  address: QmpAddress,
  options: OpenOptions & { readonly messageBytesMax: number },
): Promise<QmpConnection> {
  if (typeof address === 'string' || !('url' in address)) return openSocket(address, options)
  const { dialWebSocket } = await import('./web-socket.js')
  const { timeoutMs, signal, messageBytesMax } = options
  try {
    const { url, token } = address
    return await dialWebSocket({ url, token, messageBytesMax, timeoutMs, signal })
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new QmpConnectionError(`cannot connect to ${address.url}: ${reason}`, { cause })
  }
}

/**
 * A connected socket.
 * @throws QmpConnectionError when nobody listens there, or `signal` fires
 * @throws QmpTimeoutError when nobody accepts within `timeoutMs`
 */
export function openSocket(address: SocketAddress, { timeoutMs, signal }: OpenOptions): Promise<net.Socket> {
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
      settle(new QmpConnectionError(`cannot connect to ${where}: ${connectionProblem(cause)}`, { cause }))
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
