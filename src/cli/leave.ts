/**
 * The end of a server whose disk hangs. Node.js waits at exit for its thread pool, and so for ever for a thread that is
 * in a system call to that disk. So when exiting takes long, a child kills us.
 */
import { spawn } from 'node:child_process'
import { messageOf, RefusedError } from '../util/errors.js'

/** The stop was not a clean one, and something may still be going on in a disk. */
export class UncleanStopError extends Error {
  override name = 'UncleanStopError'
}

/** Another server has taken the pair over: nothing is written any more, not even that the stop was a clean one. */
export class PairLostError extends RefusedError {
  override name = 'PairLostError'
}

/** Only while it is still our child does the number of our process mean us. */
const KILL_LATER = 'sleep 1; [ "$(cut -d " " -f 4 /proc/$$/stat)" = "$1" ] && kill -KILL "$1"'

/** @param code of a server whose disks may hang, or are not its own any more */
export function leave(code: number): never {
  spawn('sh', ['-c', KILL_LATER, 'sh', String(process.pid)], { stdio: 'ignore' }).on('error', () => undefined)
  process.exit(code)
}

/**
 * @throws UncleanStopError when `stopping` fails, or is not done after so many milliseconds
 */
export async function stopWithin(ms: number, stopping: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`not stopped after ${ms / 1000} s, because a disk hangs; the metadata stays "not clean"`))
    }, ms)
  })
  try {
    await Promise.race([stopping, timeout])
  } catch (error) {
    throw new UncleanStopError(messageOf(error), { cause: error })
  } finally {
    clearTimeout(timer)
  }
}
