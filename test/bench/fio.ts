/** One run of fio with its NBD engine: a load on a URI for some seconds. */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { DaemonProcess } from '../../qemu/index.js'
import type { Load } from './job.js'

export interface LoadResult {
  readonly requests: number
  readonly requestsPerSecond: number
  readonly bytesPerSecond: number
  /** From sending a request to its reply; 99 of 100 took no longer. */
  readonly p99Us: number
  /** Of fio itself, user and system time. */
  readonly clientCpuUsPerRequest: number
}

export interface LoadOptions {
  readonly load: Load
  readonly uri: string
  readonly seconds: number
  /** Of the random offsets. */
  readonly seed: number
  /** For fio's files. */
  readonly directory: string
}

/** Beyond the run itself: a server that no longer answers must not stop the benchmark. */
const GRACE_MS = 60_000

interface FioMixed {
  readonly total_ios: number
  readonly iops: number
  readonly bw_bytes: number
  readonly clat_ns: { readonly percentile: Readonly<Record<string, number>> }
}

interface FioJob {
  readonly error: number
  readonly mixed: FioMixed
  /** Milliseconds, of all threads together. */
  readonly job_runtime: number
  /** Percent of that. */
  readonly usr_cpu: number
  readonly sys_cpu: number
}

interface FioOutput {
  readonly jobs: readonly FioJob[]
}

/** @throws LaunchError when fio fails or does not end, with all that it said */
export async function runFio(options: LoadOptions): Promise<LoadResult> {
  const output = path.join(options.directory, 'fio.json')
  const fio = await DaemonProcess.start({ program: 'fio', args: fioArgs(options, output), cwd: options.directory })
  await untilEnded(fio, options.seconds * 1000 + GRACE_MS)
  const [job] = parseFio(await readFile(output, 'utf8')).jobs
  if (job?.error !== 0) throw fio.error(`fio reports error ${job?.error ?? '(no job)'}`)
  const { total_ios: requests, iops, bw_bytes: bytesPerSecond, clat_ns: latency } = job.mixed
  if (requests === 0) throw fio.error('fio: no request was answered')
  const cpuSeconds = ((job.usr_cpu + job.sys_cpu) / 100) * (job.job_runtime / 1000)
  return {
    requests,
    requestsPerSecond: iops,
    bytesPerSecond,
    p99Us: (latency.percentile['99.000000'] ?? 0) / 1000,
    clientCpuUsPerRequest: (cpuSeconds * 1e6) / requests,
  }
}

function fioArgs({ load, uri, seconds, seed }: LoadOptions, output: string): string[] {
  return [
    '--name=bench',
    '--ioengine=nbd',
    `--uri=${uri}`,
    ...Object.entries(load).map(([option, value]) => `--${option}=${String(value)}`),
    '--time_based',
    `--runtime=${Math.round(seconds * 1000)}ms`,
    // Without it fio keeps a map of what it has visited, and spends CPU time that the server could use.
    '--norandommap',
    `--randseed=${seed}`,
    // Threads end with the process; and one result for reads and writes of all of them.
    '--thread',
    '--group_reporting',
    '--unified_rw_reporting=1',
    '--eta=never',
    '--output-format=json',
    `--output=${output}`,
  ]
}

async function untilEnded(fio: DaemonProcess, timeoutMs: number): Promise<void> {
  const abort = new AbortController()
  const late = delay(timeoutMs, 'late' as const, { signal: abort.signal }).catch(() => 'late' as const)
  try {
    const end = await Promise.race([fio.exited, late])
    if (end === 'late') throw fio.error(`fio did not end within ${Math.round(timeoutMs / 1000)} s`)
    if (end.code !== 0) throw fio.error(`fio ended with ${end.signal ?? `exit code ${String(end.code)}`}`)
  } finally {
    abort.abort()
    await fio.kill('SIGKILL')
  }
}

/** Lines that the NBD engine prints may stand before and after the JSON. */
function parseFio(text: string): FioOutput {
  const [json] = /^\{$[^]*^\}$/m.exec(text) ?? []
  if (json === undefined) throw new Error(`fio printed no JSON:\n${text}`)
  return JSON.parse(json) as FioOutput
}
