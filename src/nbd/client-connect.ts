/**
 * From an NBD URI to a negotiated connection. Whatever goes wrong on the way becomes one error whose message is a whole
 * sentence (which server, which step, why), and leaves no socket behind.
 */

import type { ConnectionOptions } from 'node:tls'
import { NbdConnectionError, NbdProtocolError, NbdServerError, NbdTlsError } from './client-errors.js'
import { type NbdExport, negotiate } from './client-handshake.js'
import { ClientSocket } from './client-socket.js'
import { clientTlsOptions } from './client-tls.js'
import { ProtocolError } from './protocol.js'
import { TlsError } from './tls.js'
import { type NbdUri, formatNbdUri } from './uri.js'

export const DEFAULT_CONNECT_TIMEOUT_MS = 5000

export interface ConnectOptions {
  /** For connecting and the handshake together. */
  readonly connectTimeoutMs?: number
  /** Gives up connecting. */
  readonly signal?: AbortSignal
}

export interface Connection {
  readonly found: NbdExport
  readonly socket: ClientSocket
}

/** @throws NbdConnectionError, NbdServerError, NbdProtocolError */
export async function openConnection(uri: NbdUri, options: ConnectOptions): Promise<Connection> {
  const { connectTimeoutMs = DEFAULT_CONNECT_TIMEOUT_MS, signal } = options
  const attempt = new AbortController()
  const abort = (): void => {
    attempt.abort(new NbdConnectionError('connecting was given up', { cause: signal?.reason }))
  }
  const timer = setTimeout(() => {
    attempt.abort(new NbdConnectionError(`no answer within ${connectTimeoutMs} ms`))
  }, connectTimeoutMs)
  signal?.addEventListener('abort', abort)
  if (signal?.aborted) abort()
  try {
    return await connectAndNegotiate(uri, attempt.signal)
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', abort)
  }
}

async function connectAndNegotiate(uri: NbdUri, signal: AbortSignal): Promise<Connection> {
  const where = formatNbdUri(uri)
  const tls = uri.tls ? tlsOptions(uri, where) : undefined
  const socket = await ClientSocket.open(uri.address, signal).catch((error: unknown) => {
    throw unreachable(where, error, '')
  })
  try {
    const secure = tls && ((): Promise<void> => socket.secure(tls))
    return { found: await negotiate(socket, uri.exportName, secure), socket }
  } catch (error) {
    const failure = handshakeFailure(where, error)
    socket.destroy(failure)
    throw failure
  }
}

function tlsOptions(uri: NbdUri, where: string): ConnectionOptions {
  try {
    return clientTlsOptions(uri)
  } catch (error) {
    if (!(error instanceof TlsError)) throw error
    throw new NbdTlsError(`no TLS with NBD server at ${where}: ${error.message}`, { cause: error })
  }
}

const unreachable = (where: string, error: unknown, step: string): NbdConnectionError =>
  new NbdConnectionError(`cannot reach NBD server at ${where}: ${messageOf(error)}${step}`, { cause: error })

function handshakeFailure(where: string, error: unknown): Error {
  if (error instanceof NbdTlsError) {
    return new NbdTlsError(`no TLS with NBD server at ${where}: ${error.message}`, { cause: error.cause })
  }
  if (error instanceof NbdConnectionError) return unreachable(where, error, ' during the handshake')
  if (error instanceof NbdServerError) {
    return new NbdServerError(`NBD server at ${where}: ${error.message}`, error.errorName, error.errorValue)
  }
  if (error instanceof ProtocolError || error instanceof NbdProtocolError) {
    return new NbdProtocolError(`NBD server at ${where} broke the protocol in the handshake: ${error.message}`)
  }
  return error instanceof Error ? error : new Error(String(error))
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))
