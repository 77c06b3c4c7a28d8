/**
 * Listening sockets. A unix socket path that nobody listens on any more (its server was killed) is taken over; one that
 * somebody answers on, or that is not a socket, is left alone and refused.
 */

import { existsSync } from 'node:fs'
import net from 'node:net'
import { dirname } from 'node:path'
import { fileProblem } from '../util/errors.js'
import type { Log } from '../util/log.js'
import { SocketPathError, claimSocketPath, dropSocketPath, pathOfSocket } from '../util/socket-path.js'

/**
 * Where to listen. `fd` is a listening socket that was opened by somebody else and outlives this process. `replaces`: whoever
 * listens at the path loses it.
 */
export type ListenAddress =
  | { readonly path: string; readonly replaces?: boolean }
  | { readonly host: string; readonly port: number }
  | { readonly fd: number }

/** Where one can connect to. */
export type BoundAddress = { readonly path: string } | { readonly host: string; readonly port: number }

/** A sentence for the user: why this address cannot be listened on. */
export class ListenError extends Error {
  override name = 'ListenError'
}

/** `sun_path` of Linux without its final NUL; a longer path would be cut silently. */
const PATH_LENGTH_MAX = 107

/** Connections that wait to be accepted: a crowd that comes at once is not refused. The system's own limit is 4096. */
const BACKLOG = 4096

export class Listener {
  readonly address: BoundAddress
  readonly #server: net.Server

  private constructor(server: net.Server, address: BoundAddress) {
    this.#server = server
    this.address = address
  }

  /** @throws ListenError */
  static async open(address: ListenAddress, onSocket: (socket: net.Socket) => void, log: Log): Promise<Listener> {
    if ('path' in address && Buffer.byteLength(address.path) > PATH_LENGTH_MAX) {
      throw new ListenError(`socket path is longer than ${PATH_LENGTH_MAX} bytes: ${address.path}`)
    }
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, onSocket)
    try {
      if ('path' in address && address.replaces) await dropSocketPath(address.path)
      await bind(server, address)
    } catch (error) {
      if (!('path' in address) || errorCode(error) !== 'EADDRINUSE') throw explainListen(address, error)
      await claimSocketPath(address.path)
        .then(() => bind(server, address))
        .catch((again: unknown) => {
          throw again instanceof SocketPathError ? new ListenError(again.message) : explainListen(address, again)
        })
    }
    // Such as too many open files: the connection stays in the backlog, and accepting goes on.
    server.on('error', (error) => {
      log.error(`cannot accept a connection: ${error.message}`)
    })
    return new Listener(server, boundAddress(server, address))
  }

  /** Accepts no more; connections are not touched. A path that was bound here is removed. */
  close(): void {
    this.#server.close()
  }
}

function bind(server: net.Server, address: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ ...address, backlog: BACKLOG }, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

const REASONS: ReadonlyMap<string, string> = new Map([
  ['EADDRINUSE', 'another process listens there'],
  ['EADDRNOTAVAIL', 'this machine does not have that address'],
  ['EACCES', 'permission denied'],
  ['ENOTFOUND', 'the host is not known'],
  ['EAI_AGAIN', 'the name service does not answer'],
  ['EROFS', 'the file system is read-only'],
])

/** Why this address cannot be listened on, from what the system said. */
export function explainListen(address: ListenAddress, error: unknown): ListenError {
  const where =
    'path' in address ? address.path : 'fd' in address ? `fd ${address.fd}` : `${address.host}:${address.port}`
  // libuv says EACCES of a folder that does not exist, too.
  const noFolder = 'path' in address && !existsSync(dirname(address.path))
  const known = noFolder ? 'its folder does not exist' : REASONS.get(String(errorCode(error)))
  return new ListenError(`cannot listen on ${where}: ${known ?? fileProblem(error)}`, { cause: error })
}

const errorCode = (error: unknown): unknown => (error instanceof Error && 'code' in error ? error.code : undefined)

function boundAddress(server: net.Server, asked: ListenAddress): BoundAddress {
  const bound = server.address()
  if (typeof bound === 'string') return { path: bound }
  if (bound !== null) return { host: bound.address, port: bound.port }
  // Node.js knows the path of a unix socket only if it made it.
  return { path: ('fd' in asked ? pathOfSocket(asked.fd) : undefined) ?? '' }
}
