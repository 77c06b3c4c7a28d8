/**
 * The kernel's list of file locks, of all processes and of both kinds: flock(2), and fcntl(2), which Node.js does not have.
 * It names a file by its inode and by the device of its file system, which stat(2) does not always tell (Btrfs, overlays):
 * the mount of an open file does.
 */
import { closeSync, fstatSync, openSync, readdirSync, readFileSync } from 'node:fs'
import { majorOf, minorOf } from './device-number.js'

export interface KernelLock {
  /** `POSIX` and `OFDLCK` are both fcntl(2)'s; only flock(2)'s are always of the whole file. */
  readonly kind: 'FLOCK' | 'POSIX' | 'OFDLCK'
  readonly first: number
  /** Infinity: to the end of the file, wherever that will be. */
  readonly last: number
}

/** What is locked of an open file. */
export const locksOn = (fd: number): KernelLock[] => locksIn(readFileSync('/proc/locks', 'latin1'), placeOf(fd))

/** Without opening it for reading, which could wait for something. */
export function locksOfPath(path: string): KernelLock[] {
  const fd = openSync(path, O_PATH)
  try {
    return locksOn(fd)
  } finally {
    closeSync(fd)
  }
}

/** Of Linux, and not among the constants of Node.js. */
const O_PATH = 0o10000000

/** A lock of one's own, others', and not who waits for one, which has an arrow. */
const LOCK = /^(?:lock:\t)?\d+: (FLOCK|POSIX|OFDLCK) +\w+ +\w+ +-?\d+ ([0-9a-f]+:[0-9a-f]+:\d+) (\d+) (\d+|EOF)$/

/** Of a text in the form of /proc/locks, or of /proc/PID/fdinfo/FD. */
export function locksIn(text: string, place: string): KernelLock[] {
  return text.split('\n').flatMap((line) => {
    const [, kind, where, first, last] = LOCK.exec(line) ?? []
    if (where !== place) return []
    return [{ kind: kind as KernelLock['kind'], first: Number(first), last: last === 'EOF' ? Infinity : Number(last) }]
  })
}

/** As the kernel writes it there: "fe:00:2148690". */
function placeOf(fd: number): string {
  const { dev, ino } = fstatSync(fd)
  const info = readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1')
  const inode = /^ino:\t(\d+)$/m.exec(info)?.[1] ?? String(ino)
  const mount = /^mnt_id:\t(\d+)$/m.exec(info)?.[1]
  const [major, minor] = (mount === undefined ? undefined : deviceOfMount(mount)) ?? [majorOf(dev), minorOf(dev)]
  const hex = (n: number): string => n.toString(16).padStart(2, '0')
  return `${hex(major)}:${hex(minor)}:${inode}`
}

function deviceOfMount(id: string): [number, number] | undefined {
  const found = new RegExp(`^${id} \\d+ (\\d+):(\\d+) `, 'm').exec(readFileSync('/proc/self/mountinfo', 'latin1'))
  return found ? [Number(found[1]), Number(found[2])] : undefined
}

export interface LockHolder {
  readonly pid: number
  /** The name of the program, of which the kernel keeps 15 characters. */
  readonly program: string
}

/** The other processes that hold such a lock on the open file, as far as we may look into them: root sees all. */
export function holdersOf(fd: number, isMeant: (lock: KernelLock) => boolean): LockHolder[] {
  const place = placeOf(fd)
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid && holds(name, place, isMeant))
    .map((name) => ({ pid: Number(name), program: textOf(`/proc/${name}/comm`).trim() }))
}

function holds(pid: string, place: string, isMeant: (lock: KernelLock) => boolean): boolean {
  const folder = `/proc/${pid}/fdinfo`
  return namesIn(folder).some((fd) => locksIn(textOf(`${folder}/${fd}`), place).some(isMeant))
}

/** Processes end, and files are closed, while one looks at them. */
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}
