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
const SPACE = 0x20
const DIGIT_ZERO = 0x30
const text = Buffer.alloc(TEXT_LENGTH_MAX)
let fd: number | undefined

/** About a microsecond. Undefined where the kernel does not count. */
export function scheduling(): Scheduling | undefined {
  try {
    // "Thread-self" is meant when it is opened, and every thread has its own instance of this module.
    fd ??= openSync('/proc/thread-self/schedstat', 'r')
    const end = readSync(fd, text, 0, TEXT_LENGTH_MAX, 0)
    // Time on a processor in nanoseconds, time in the queue, turns. Without strings: it is asked often, and they are garbage.
    const queuedAt = after(SPACE, 0, end)
    const turnsAt = after(SPACE, queuedAt, end)
    const turns = numberAt(turnsAt, end)
    return turns === 0 ? undefined : { turns, queuedMs: numberAt(queuedAt, end) / 1e6 }
  } catch {
    return undefined
  }
}

function after(byte: number, start: number, end: number): number {
  let at = start
  while (at < end && text[at] !== byte) at++
  return at + 1
}

function numberAt(start: number, end: number): number {
  let number = 0
  for (let at = start; at < end; at++) {
    const digit = (text[at] ?? 0) - DIGIT_ZERO
    if (digit < 0 || digit > 9) break
    number = number * 10 + digit
  }
  return number
}
