/**
 * What the kernel tells of another process: whether it lives, and what its main thread does. A number is given to another
 * process some day, so a process is known by its number and the moment of its start.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'

export interface ProcessState {
  readonly pid: number
  /** In ticks since the machine was booted. */
  readonly started: number
  /** The main thread: `R` runs or could run, `S` sleeps, `D` waits without being interruptible, `T` stopped, `t` traced, `Z` ended. */
  readonly state: string
  /** How long the main thread has run. */
  readonly ranMs: number
  /** How long all threads together have waited for a processor while they could run. */
  readonly queuedMs: number
  /** The main thread is in a system call on a file or a block device. */
  readonly isInDiskCall: boolean
}

/** @returns undefined when there is no such process, and for one that has ended and was not waited for */
export function processState(pid: number): ProcessState | undefined {
  const folder = `/proc/${pid}`
  try {
    // "PID (NAME) STATE ...": a name may contain anything.
    const stat = readFileSync(`${folder}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const [state = ''] = fields
    if (state === 'Z' || state === 'X') return undefined
    const [ranMs = 0] = schedule(folder, pid)
    const queuedMs = readdirSync(`${folder}/task`).reduce((sum, id) => sum + (schedule(folder, id)[1] ?? 0), 0)
    return { pid, started: Number(fields[STARTED]), state, ranMs, queuedMs, isInDiskCall: isInDiskCall(folder) }
  } catch {
    return undefined
  }
}

/** Whether the process that was seen then is still there. */
export const isSameProcess = ({ pid, started }: Pick<ProcessState, 'pid' | 'started'>): boolean =>
  processState(pid)?.started === started

/** Field 22 of proc(5), of those after the name. */
const STARTED = 19

/** How long the thread has run, and how long it has waited to; in milliseconds. */
function schedule(folder: string, thread: number | string): readonly number[] {
  try {
    const text = readFileSync(`${folder}/task/${thread}/schedstat`, 'latin1')
    return text.split(' ').map((ns) => Number(ns) / 1e6)
  } catch {
    return []
  }
}

/** In place of a descriptor: the path that follows begins at the working folder. */
const AT_FDCWD = /^0x(f{8})?f{6}9c$/

/**
 * The calls that take a file have its descriptor, or AT_FDCWD and a path, as their first arguments, whatever the machine;
 * those that a thread sleeps in otherwise have an address there, or the descriptor of something that is no file.
 */
function isInDiskCall(folder: string): boolean {
  try {
    // "NUMBER ARGUMENT..." in a call, "running" and "-1 ..." otherwise.
    const [number, fd] = readFileSync(`${folder}/syscall`, 'latin1').split(' ')
    if (number === 'running' || number === '-1' || fd === undefined) return false
    if (AT_FDCWD.test(fd)) return true
    const file = statSync(`${folder}/fd/${Number(fd)}`)
    return file.isFile() || file.isBlockDevice()
  } catch {
    return false
  }
}
