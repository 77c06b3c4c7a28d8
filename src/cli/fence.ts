/**
 * Ends a server for good, so that the next one can have its disks. On one machine that is SIGKILL: what the kernel says is
 * gone writes no more. Elsewhere only somebody else can do it, a command of the operator that cuts the power or the network.
 */
import { spawn } from 'node:child_process'
import { setTimeout as pause } from 'node:timers/promises'
import { isDiskInUse } from '../device/open.js'
import type { Log } from '../util/log.js'
import { isSameProcess, type ProcessState } from '../util/process-state.js'
import type { Stop } from './stop.js'

export class FenceError extends Error {
  override name = 'FenceError'
}

/** Processes end within milliseconds, or never. */
const LOOK_MS = 2
const TELL_AFTER_MS = 1000

/** @param processes whoever starts others first @throws FenceError when one may not be ended */
export function killAll(processes: readonly ProcessState[]): void {
  for (const each of processes) {
    if (!isSameProcess(each)) continue
    try {
      process.kill(each.pid, 'SIGKILL')
    } catch (error) {
      if (isSameProcess(each)) throw new FenceError(`cannot end process ${each.pid}`, { cause: error })
    }
  }
}

/**
 * Resolves when none of the processes is there and nobody has the disks. A process that is in a system call to a disk that
 * hangs ends when that does.
 * @throws FenceError when a stop is wanted before
 */
export async function untilFree(
  processes: readonly ProcessState[],
  disks: readonly string[],
  stop: Stop,
  log: Log,
): Promise<void> {
  const started = performance.now()
  let isTold = false
  while (processes.some(isSameProcess) || disks.some(isDiskInUse)) {
    if (stop.isRequested) throw new FenceError('stopped before the server that had the disks was gone')
    if (!isTold && performance.now() - started > TELL_AFTER_MS) {
      log.warn('the server that had the disks was killed and is not gone yet: it waits for a disk')
      isTold = true
    }
    await pause(LOOK_MS)
  }
}

const COMMAND_MS_MAX = 60_000

/** Runs the operator's command. @param variables for its environment @throws FenceError when it does not say, by exit code 0, that it is done */
export async function fenceByCommand(command: string, variables: Readonly<Record<string, string>>): Promise<void> {
  const child = spawn('/bin/sh', ['-c', command], {
    env: { ...process.env, ...variables },
    stdio: ['ignore', 'inherit', 'inherit'],
    timeout: COMMAND_MS_MAX,
    killSignal: 'SIGKILL',
  })
  const how = await new Promise<string | undefined>((resolve) => {
    child.once('error', (error) => {
      resolve(`cannot be run: ${error.message}`)
    })
    child.once('exit', (code, signal) => {
      resolve(code === 0 ? undefined : `ended with ${signal ?? `exit code ${String(code)}`}`)
    })
  })
  if (how !== undefined) throw new FenceError(`the command of --fence-command ${how}`)
}
