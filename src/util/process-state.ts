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
  /** How long its threads together have run, in steps of 10 ms. */
  readonly ranMs: number
  /** How long they have waited for a processor while they could run. */
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
    const ranMs = (Number(fields[USER_TIME]) + Number(fields[SYSTEM_TIME])) * TICK_MS
    const queuedMs = readdirSync(`${folder}/task`).reduce((sum, id) => sum + queuedOf(folder, id), 0)
    return { pid, started: Number(fields[STARTED]), state, ranMs, queuedMs, isInDiskCall: isInDiskCall(folder) }
  } catch {
    return undefined
  }
}

/** Whether the process that was seen then is still there. */
export const isSameProcess = ({ pid, started }: Pick<ProcessState, 'pid' | 'started'>): boolean =>
  processState(pid)?.started === started

/** Fields 14, 15 and 22 of proc(5), of those after the name. */
const USER_TIME = 11
const SYSTEM_TIME = 12
const STARTED = 19
/** On every machine that Linux runs on. */
const TICK_MS = 10

/** Of a thread. Zero when it has ended meanwhile, or where the kernel does not count. */
function queuedOf(folder: string, thread: string): number {
  try {
    const [, queuedNs = 0] = readFileSync(`${folder}/task/${thread}/schedstat`, 'latin1').split(' ').map(Number)
    return queuedNs / 1e6
  } catch {
    return 0
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
