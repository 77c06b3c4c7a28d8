/**
 * Locks that keep a second server off a disk (promise P5) and that the kernel releases when their holder dies, however
 * it dies. Local disks are locked with flock(2): Node.js cannot call it, but util-linux's `flock` can on a descriptor it
 * inherits, and the lock then belongs to the open file that both share. Upstream disks have no descriptor; servers on
 * one machine keep off each other by an abstract unix socket named after the URI.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { RefusedError } from '../util/errors.js'
import { locksOfPath } from './kernel-locks.js'
import { keepOffQemu, type QemuLockOptions } from './qemu-locks.js'

export interface LockOptions extends QemuLockOptions {
  /** Looks at a disk that others may be using: no lock is taken, and none of others' is minded. */
  readonly unlocked?: boolean
}

/**
 * Locks an open disk as far as its use asks for it, until it is closed.
 * @throws RefusedError when another process has it, one of ours or QEMU's
 */
export function lockDisk(fd: number, name: string, options: LockOptions): void {
  if (options.unlocked) return
  lockFile(fd, name, options.readOnly ? 'shared' : 'exclusive')
  keepOffQemu(fd, name, options)
}

/** flock(1) exits with this when somebody else holds the lock (`--conflict-exit-code`). */
const CONFLICT = 75

/**
 * Locks the open file behind `fd` until it is closed.
 * @throws RefusedError when another process holds it
 */
export function lockFile(fd: number, name: string, mode: 'shared' | 'exclusive'): void {
  const options = ['--nonblock', `--conflict-exit-code=${CONFLICT}`, mode === 'shared' ? '--shared' : '--exclusive']
  const { error, status, stderr } = spawnSync('flock', [...options, '3'], {
    stdio: ['ignore', 'ignore', 'pipe', fd],
    encoding: 'utf8',
  })
  if (error) throw new Error(`cannot lock ${name}: the program flock is needed (package util-linux)`, { cause: error })
  if (status === CONFLICT) throw inUse(name)
  if (status !== 0) throw new Error(`cannot lock ${name}: ${stderr.trim()}`)
}

export const inUse = (name: string): RefusedError =>
  new RefusedError(
    `${name} is in use by another process: two servers on one disk would destroy it, so stop the other one first`,
  )

/** Releases the lock. */
export type Unlock = () => Promise<void>

/**
 * Locks an upstream disk by its URI among the processes of this machine (of this network namespace, to be exact). Whoever
 * comes later loses: each one binds its own name first and looks for the others' second.
 * @throws RefusedError when another process holds it
 */
export async function lockUri(uri: string, mode: 'shared' | 'exclusive' = 'exclusive'): Promise<Unlock> {
  const writer = lockName(uri)
  const readers = `${writer}/`
  const unlock = await bindAbstract(mode === 'exclusive' ? writer : `${readers}${process.pid}.${++locks}`, uri)
  const names = abstractNames()
  const writers = names.filter((name) => name === writer).length
  const isHeld = mode === 'shared' ? writers > 0 : writers > 1 || names.some((name) => name.startsWith(readers))
  if (!isHeld) return unlock
  await unlock()
  throw inUse(uri)
}

const lockName = (uri: string): string => `nbd-remap/${createHash('sha256').update(uri).digest('hex').slice(0, 32)}`

/** Whether a server on this machine has the upstream disk; takes no lock. */
export function isUriLocked(uri: string): boolean {
  const name = lockName(uri)
  return abstractNames().some((other) => other === name || other.startsWith(`${name}/`))
}

/**
 * Whether one of ours has locked the file or block device, as far as the kernel shows its locks; takes none, for a server
 * that starts at this moment would be refused.
 */
export const isFileLocked = (path: string): boolean => locksOfPath(path).some(({ kind }) => kind === 'FLOCK')

/** Tells the shared locks of one process apart. */
let locks = 0

function bindAbstract(name: string, uri: string): Promise<Unlock> {
  const server = createServer((socket) => socket.destroy())
  const close = (): Promise<void> =>
    new Promise((done) =>
      server.close(() => {
        done()
      }),
    )
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(error.code === 'EADDRINUSE' ? inUse(uri) : error)
    })
    server.listen(`\0${name}`, () => {
      server.unref()
      resolve(close)
    })
  })
}

/**
 * All abstract unix sockets, from the last column of the kernel's list. There a NUL is an `@`: one before the name, and
 * many after it where a version of Node.js fills the address up. Such a name is another one to the kernel, not to us.
 */
const abstractNames = (): string[] =>
  readFileSync('/proc/net/unix', 'latin1')
    .split('\n')
    .flatMap((line) => / @(.*?)@*$/.exec(line)?.[1] ?? [])
