/**
 * Paths of unix sockets: whether one may be made at a path, and where one is that was made by somebody else. What a server
 * left that was killed is removed; what a running server listens on, and every file that is not a socket, is left untouched.
 */

import { readFileSync, readlinkSync } from 'node:fs'
import { lstat, unlink } from 'node:fs/promises'
import net from 'node:net'
import { fileProblem } from './errors.js'

export class SocketPathError extends Error {
  override name = 'SocketPathError'
}

/**
 * Resolves when nothing is at `path` any more.
 * @throws SocketPathError with a sentence for the user when the path cannot be had
 */
export async function claimSocketPath(path: string): Promise<void> {
  const found = await inodeOfSocket(path)
  if (found === undefined) return
  const code = await connectError(path)
  if (code === undefined) throw new SocketPathError(`${path} is already in use by a running server`)
  if (code === 'ENOENT') return
  if (code !== 'ECONNREFUSED')
    throw new SocketPathError(`${path} exists, and whether a server uses it is unknown: ${code}`)
  // Another server may have claimed the path since: its socket is a new inode.
  if ((await inodeOfSocket(path)) === found) await unlink(path)
}

/**
 * Takes the path away from whoever listens there: its connections live on, and new ones do not reach it any more.
 * @throws SocketPathError when something else is there
 */
export async function dropSocketPath(path: string): Promise<void> {
  if ((await inodeOfSocket(path)) !== undefined) await unlink(path)
}

/** Of a unix socket that this process has inherited. @returns undefined for one without a path, and for other files */
export function pathOfSocket(fd: number): string | undefined {
  try {
    const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1]
    if (inode === undefined) return undefined
    // Num RefCount Protocol Flags Type St Inode Path
    const lines = readFileSync('/proc/net/unix', 'utf8').split('\n')
    const found = lines.map((line) => /^(?:\S+ +){6}(\d+) (\/.*)$/.exec(line)).find((match) => match?.[1] === inode)
    return found?.[2]
  } catch {
    return undefined
  }
}

/** undefined when there is nothing. */
async function inodeOfSocket(path: string): Promise<bigint | undefined> {
  try {
    const stat = await lstat(path, { bigint: true })
    if (stat.isSocket()) return stat.ino
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw new SocketPathError(`${path}: ${fileProblem(error)}`, { cause: error })
  }
  throw new SocketPathError(`${path} exists and is not a socket: it is left as it is`)
}

/** undefined when somebody accepts, or would if its backlog were not full. */
function connectError(path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = net.connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(undefined)
    })
    socket.once('error', (error) => {
      resolve(codeOf(error) === 'EAGAIN' ? undefined : codeOf(error))
    })
  })
}

const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error ? String(error.code) : String(error)
