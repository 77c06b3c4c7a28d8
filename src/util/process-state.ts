/**
 * What the kernel tells of another process: whether it lives, and what its main thread does. A number is given to another
 * process some day, so a process is known by its number and the moment of its start.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs'

export interface ProcessState {
  readonly pid: number
  /** In ticks since the machine was booted. */
  readonly started: number
  /**
   * The main thread: `R` runs or could run, `S` sleeps, `D` waits without being interruptible, `T` stopped, `t` traced, `Z` ended,
   * while others of the process have not.
   */
  readonly state: string
  /** How long its threads together have run, in steps of 10 ms. */
  readonly ranMs: number
  /** How long they have waited for a processor while they could run. */
  readonly queuedMs: number
  /** The main thread is in a system call on a file or a block device. */
  readonly isInDiskCall: boolean
}

/**
 * Never waits for a disk, whatever the other process does.
 * @returns undefined when there is no such process, and for one that has ended and was not waited for
 */
export function processState(pid: number): ProcessState | undefined {
  const folder = `/proc/${pid}`
  try {
    const fields = fieldsOf(pid)
    const [state = ''] = fields
    // One that was killed has its files, and their locks, until the last of its threads has ended.
    if ((state === 'Z' || state === 'X') && Number(fields[THREADS]) <= 1) return undefined
    const ranMs = (Number(fields[USER_TIME]) + Number(fields[SYSTEM_TIME])) * TICK_MS
    const queuedMs = readdirSync(`${folder}/task`).reduce((sum, id) => sum + queuedOf(folder, id), 0)
    return { pid, started: Number(fields[STARTED]), state, ranMs, queuedMs, isInDiskCall: isInDiskCall(folder) }
  } catch {
    return undefined
  }
}

/** The main thread of this process runs, or could if there were a processor for it. */
export const isMainThreadBusy = (): boolean => fieldsOf(process.pid)[0] === 'R'

/** Of "PID (NAME) STATE ...", the state and what follows: a name may contain anything. */
function fieldsOf(pid: number): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
}

/** Whether the process that was seen then is still there. */
export const isSameProcess = ({ pid, started }: Pick<ProcessState, 'pid' | 'started'>): boolean =>
  processState(pid)?.started === started

/** Fields 14, 15, 20 and 22 of proc(5), of those after the name. */
const USER_TIME = 11
const SYSTEM_TIME = 12
const THREADS = 17
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
    return isDisk(`${folder}/fd/${Number(fd)}`)
  } catch {
    return false
  }
}

/** To ask a file what it is would ask the disk below it, which may hang; its name, and a device file, are in memory. */
function isDisk(descriptor: string): boolean {
  // What is no file is "socket:[NUMBER]" and the like.
  const name = readlinkSync(descriptor)
  if (!name.startsWith('/')) return false
  return !name.startsWith('/dev/') || statSync(descriptor).isBlockDevice()
}
