/**
 * What the kernel has done with the thread that asks: how often it was put on a processor, and how long it has waited for one.
 * A call that took long without the one or the other growing by as much has waited for something else, such as a disk.
 */
import { openSync, readSync } from 'node:fs'

export interface Scheduling {
  /** How often it was put on a processor. */
  readonly turns: number
  /** How long it has waited for one, while it could run. */
  readonly queuedMs: number
}

const TEXT_LENGTH_MAX = 80
const text = Buffer.alloc(TEXT_LENGTH_MAX)
let fd: number | undefined

/** About a microsecond. Undefined where the kernel does not count. */
export function scheduling(): Scheduling | undefined {
  try {
    // "Thread-self" is meant when it is opened, and every thread has its own instance of this module.
    fd ??= openSync('/proc/thread-self/schedstat', 'r')
    const length = readSync(fd, text, 0, TEXT_LENGTH_MAX, 0)
    const [, queuedNs, turns] = text.toString('latin1', 0, length).split(' ').map(Number)
    return queuedNs === undefined || !turns ? undefined : { turns, queuedMs: queuedNs / 1e6 }
  } catch {
    return undefined
  }
}
