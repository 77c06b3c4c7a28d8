/**
 * `nbd-remap dmsetup remove`: stops a server, and waits until its process is gone: then the lock of its name can be had. What
 * a server that died has left behind is removed under that lock, too, so that nothing of a new one goes with it.
 */
import { spawn } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync, rmSync, statSync } from 'node:fs'
import { lockFile } from '../../device/disk-lock.js'
import { holdersOf } from '../../device/kernel-locks.js'
import { RefusedError } from '../../util/errors.js'
import { UnreachableError, withServer } from '../ask.js'
import { saidSince } from './background.js'
import { devicePaths, type DevicePaths } from './runtime-directory.js'

/** Longer than a server takes to give up on a disk that hangs. */
const GONE_TIMEOUT_SECONDS = 90
const PATIENCE_MS = 2000

/** @throws Error when there is none, or clients use it, or it is gone and its disks are not as they should be */
export async function removeDevice(name: string, force: boolean): Promise<void> {
  const paths = devicePaths(name)
  const logged = statSync(paths.log, { throwIfNoEntry: false })?.size
  const isAnswering = await stop(paths, force)
  const lock = openSync(paths.lock, 'a', 0o600)
  try {
    if (isAnswering || stopSupervisor(lock)) await untilGone(lock, paths)
    else claimDead(lock, paths)
    for (const path of [paths.control, paths.socket]) rmSync(path, { force: true })
  } finally {
    closeSync(lock)
  }
  if (isAnswering && logged !== undefined) refuseUnclean(paths, logged)
}

/** Its last words are about what it could not write. */
function refuseUnclean(paths: DevicePaths, logged: number): void {
  const said = saidSince(paths, logged)
    .trim()
    .replaceAll(/^nbd-remap: /gm, '')
  if (said !== '') throw new Error(`device ${paths.name} is gone, but ${said} (see ${paths.log})`)
}

/**
 * One whose workers end at their start, because a disk is gone, starts the next one for ever, and nobody answers in between.
 * @returns whether there was one
 */
function stopSupervisor(lock: number): boolean {
  try {
    const supervisor = holdersOf(lock, ({ kind }) => kind === 'FLOCK').find(({ pid }) => isSupervisor(pid))
    return supervisor !== undefined && process.kill(supervisor.pid, 'SIGTERM')
  } catch {
    // It has ended meanwhile.
    return false
  }
}

const isSupervisor = (pid: number): boolean =>
  readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes('--supervise')

/** @returns false when there is nothing but what a dead server has left */
async function stop({ name, control, socket }: DevicePaths, force: boolean): Promise<boolean> {
  try {
    await withServer(control, async (client) => {
      const { clients } = (await client.execute('query-status')) as { clients: readonly unknown[] }
      if (clients.length > 0 && !force) {
        throw new Error(`device ${name} is in use by ${clients.length} clients: disconnect them, or use --force`)
      }
      await client.execute('quit')
    })
    return true
  } catch (error) {
    if (!(error instanceof UnreachableError)) throw error
    if (existsSync(control) || existsSync(socket)) return false
    throw new Error(`device ${name} does not exist: nbd-remap dmsetup ls lists those that there are`, { cause: error })
  }
}

function claimDead(lock: number, { name, log }: DevicePaths): void {
  try {
    lockFile(lock, name, 'exclusive')
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error
    throw new Error(`device ${name} does not answer: its server is just starting or stopping (see ${log})`, {
      cause: error,
    })
  }
}

async function untilGone(lock: number, { name, log }: DevicePaths): Promise<void> {
  const timer = setTimeout(() => {
    if (process.stderr.isTTY) process.stderr.write(`waiting until ${name} has written everything ...\n`)
  }, PATIENCE_MS)
  const flock = spawn('flock', ['--timeout', String(GONE_TIMEOUT_SECONDS), '--exclusive', '3'], {
    stdio: ['ignore', 'ignore', 'inherit', lock],
  })
  const exitCode = await new Promise<number | null>((resolve, reject) => {
    flock.once('error', reject)
    flock.once('exit', resolve)
  })
  clearTimeout(timer)
  if (exitCode !== 0) throw new Error(`device ${name} does not stop: see ${log}`)
}
