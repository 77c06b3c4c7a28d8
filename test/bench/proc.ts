/**
 * What the kernel counts of a process and all that it started: CPU time and memory. Whatever ends before it is read is
 * not counted, so read while the servers run.
 */
import { readFileSync, readdirSync } from 'node:fs'

/** USER_HZ, the unit of times in /proc: the same on every architecture that Node.js runs on. */
const TICKS_PER_SECOND = 100
/** Fields of /proc/PID/stat after the program's name, which may have spaces and parentheses; see proc(5). */
const PPID = 1
const UTIME = 11
const STIME = 12

/** User and system time in seconds, of all threads. */
export function cpuSeconds(pid: number): number {
  const ticks = treeOf(pid).map(({ fields }) => Number(fields[UTIME]) + Number(fields[STIME]))
  return ticks.reduce((sum, value) => sum + value, 0) / TICKS_PER_SECOND
}

/** The sum of the most memory that each process ever held (VmHWM), in bytes. */
export function peakMemory(pid: number): number {
  const peaks = treeOf(pid).map((process) => {
    const [, kib = '0'] = /^VmHWM:\s+(\d+) kB$/m.exec(readIfThere(`/proc/${process.pid}/status`)) ?? []
    return Number(kib) * 1024
  })
  return peaks.reduce((sum, value) => sum + value, 0)
}

interface Process {
  readonly pid: number
  readonly fields: readonly string[]
}

function treeOf(root: number): Process[] {
  const all = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name): Process => ({ pid: Number(name), fields: statFields(readIfThere(`/proc/${name}/stat`)) }))
  const below = (parent: Process): Process[] => [
    parent,
    ...all.filter(({ fields }) => Number(fields[PPID]) === parent.pid).flatMap(below),
  ]
  return all.filter(({ pid }) => pid === root).flatMap(below)
}

const statFields = (stat: string): string[] => stat.slice(stat.lastIndexOf(')') + 2).split(' ')

/** Empty when the process has ended meanwhile. */
function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
