/**
 * Listening sockets. A unix socket path that nobody listens on any more (its server was killed) is taken over; one that
 * somebody answers on, or that is not a socket, is left alone and refused.
 */

import { existsSync } from 'node:fs'
import { lstat, unlink } from 'node:fs/promises'
import net from 'node:net'
import { dirname } from 'node:path'
import type { Log } from '../util/log.js'

/** Where to listen. `fd` is a listening socket that was opened by somebody else and outlives this process. */
export type ListenAddress =
  { readonly path: string } | { readonly host: string; readonly port: number } | { readonly fd: number }

/** Where one can connect to. */
export type BoundAddress = { readonly path: string } | { readonly host: string; readonly port: number }

/** A sentence for the user: why this address cannot be listened on. */
export class ListenError extends Error {
  override name = 'ListenError'
}

/** `sun_path` of Linux without its final NUL; a longer path would be cut silently. */
const PATH_LENGTH_MAX = 107

export class Listener {
  readonly address: BoundAddress
  readonly #server: net.Server

  private constructor(server: net.Server) {
    this.#server = server
    this.address = boundAddress(server)
  }

  /** @throws ListenError */
  static async open(address: ListenAddress, onSocket: (socket: net.Socket) => void, log: Log): Promise<Listener> {
    if ('path' in address && Buffer.byteLength(address.path) > PATH_LENGTH_MAX) {
      throw new ListenError(`socket path is longer than ${PATH_LENGTH_MAX} bytes: ${address.path}`)
    }
    const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, onSocket)
    try {
      await bind(server, address)
    } catch (error) {
      if (!('path' in address) || errorCode(error) !== 'EADDRINUSE') throw explain(address, error)
      await removeStaleSocket(address.path)
      await bind(server, address).catch((again: unknown) => {
        throw explain(address, again)
      })
    }
    // Such as too many open files: the connection stays in the backlog, and accepting goes on.
    server.on('error', (error) => {
      log.error(`cannot accept a connection: ${error.message}`)
    })
    return new Listener(server)
  }

  /** Accepts no more; connections are not touched. A path that was bound here is removed. */
  close(): void {
    this.#server.close()
  }
}

function bind(server: net.Server, address: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(address, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

/** @throws ListenError when it is not a socket, or somebody answers */
async function removeStaleSocket(path: string): Promise<void> {
  if (!(await lstat(path)).isSocket()) throw new ListenError(`${path} exists and is not a socket`)
  if (await answers(path)) throw new ListenError(`another server listens on ${path}`)
  await unlink(path)
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = net.connect({ path })
    const done = (alive: boolean): void => {
      probe.destroy()
      resolve(alive)
    }
    probe.once('connect', () => {
      done(true)
    })
    // Only a refusal proves that nobody listens; a full backlog (EAGAIN) or missing permission does not.
    probe.once('error', (error) => {
      done(errorCode(error) !== 'ECONNREFUSED')
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

function explain(address: ListenAddress, error: unknown): ListenError {
  const where =
    'path' in address ? address.path : 'fd' in address ? `fd ${address.fd}` : `${address.host}:${address.port}`
  // libuv says EACCES of a folder that does not exist, too.
  const noFolder = 'path' in address && !existsSync(dirname(address.path))
  const known = noFolder ? 'its folder does not exist' : REASONS.get(String(errorCode(error)))
  const why = known ?? (error instanceof Error ? error.message : String(error))
  return new ListenError(`cannot listen on ${where}: ${why}`, { cause: error })
}

const errorCode = (error: unknown): unknown => (error instanceof Error && 'code' in error ? error.code : undefined)

function boundAddress(server: net.Server): BoundAddress {
  const address = server.address()
  if (typeof address === 'string') return { path: address }
  // An inherited unix socket does not say its path.
  return address === null ? { path: '' } : { host: address.address, port: address.port }
}
