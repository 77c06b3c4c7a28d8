/** The summary for a terminal: one line for each server of each job, and what could not be measured in words. */
import type { JobSummary, Range, ServerSummary } from './summary.js'

type Row = readonly string[]

const HEAD: Row = [
  'job',
  'server',
  'requests/s',
  '(min - max)',
  'MB/s',
  'p99 us',
  'CPU us/req',
  'client',
  'result',
  'goal',
  'met',
  'control p99',
]
/** Numbers stand right. */
const LEFT_COLUMNS = new Set([0, 1])

export function formatTable(jobs: readonly JobSummary[]): string {
  const rows = [HEAD, ...jobs.flatMap(rowsOf)]
  const widths = HEAD.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const line = (row: Row): string =>
    row
      .map((cell, column) =>
        LEFT_COLUMNS.has(column) ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd()
  return [...rows.map(line), ...jobs.flatMap(remarksOf)].map((text) => `${text}\n`).join('')
}

/** `1.62 x`, `143 MiB`; a dash when there is none. */
export function formatValue({ value, unit }: JobSummary): string {
  if (value === null) return '-'
  return `${value.toFixed(unit === 'x' ? 2 : value < 10 ? 1 : 0)} ${unit}`
}

/** `>= 1.5 x`, `<= 200 MiB`. */
export const formatGoal = ({ goal, unit }: JobSummary): string => `${unit === 'x' ? '>=' : '<='} ${goal} ${unit}`

/** `yes`, `NO`, or why not. */
export function formatVerdict({ met, notRun }: JobSummary): string {
  if (met !== null) return met ? 'yes' : 'NO'
  return notRun === null ? 'FAILED' : 'not run'
}

function rowsOf(job: JobSummary): Row[] {
  const [ours, ...peers] = job.servers
  const control = job.control === null ? '-' : `${job.control.p99Ms.toFixed(1)} ms${job.control.met ? '' : ' !'}`
  const verdict = [formatValue(job), formatGoal(job), formatVerdict(job), control]
  const first = ours === undefined ? ['nbd-remap', '', '', '', '', '', ''] : cellsOf(ours)
  return [[job.title, ...first, ...verdict], ...peers.map((peer) => ['', ...cellsOf(peer)])]
}

const cellsOf = ({
  server,
  requestsPerSecond,
  bytesPerSecond,
  p99Us,
  cpuUsPerRequest,
  clientCpuUsPerRequest,
}: ServerSummary): Row => [
  server,
  thousands(requestsPerSecond.median),
  formatSpread(requestsPerSecond),
  (bytesPerSecond.median / 1e6).toFixed(0),
  thousands(p99Us.median),
  cpuUsPerRequest.median.toFixed(1),
  clientCpuUsPerRequest.median.toFixed(1),
]

const formatSpread = ({ min, max }: Range): string => `(${thousands(min)} - ${thousands(max)})`
const thousands = (value: number): string => Math.round(value).toLocaleString('en-US')

function remarksOf({ title, notRun, failed, note }: JobSummary): string[] {
  if (notRun !== null) return [`${title}: not run: ${notRun}`]
  if (failed !== null) return [`${title}: failed: ${failed}`]
  return note === null ? [] : [`${title}: ${note}`]
}
