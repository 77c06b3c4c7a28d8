/** The picture that `top` draws, as lines: no terminal here. */
import type { QmpEvent } from '../../qmp/message.js'
import { formatBytes, SECTOR_SIZE } from '../../util/units.js'
import { formatUs } from '../status-text.js'
import type { ServerStatus } from '../../control/commands.js'
import type { ErrorRegionsReply } from '../../control/error-commands.js'
import type { HealthReply } from '../../control/health-commands.js'
import type { RemapTable } from '../../control/remap-commands.js'
import type { StatisticsReply } from '../../control/statistics-commands.js'
import {
  ERROR_LEGEND,
  errorsPerCell,
  errorStrip,
  HEAT_LEGEND,
  heatStrip,
  sectorsPerCell,
  type RemappedRange,
} from './heat.js'
import { ratesBetween, type Latency, type Rates } from './rates.js'
import type { Line, Size } from './screen.js'

export interface Sample {
  readonly errors: ErrorRegionsReply
  readonly health: HealthReply
  readonly status: ServerStatus
  readonly table: RemapTable
  readonly statistics: StatisticsReply
}

export interface Picture {
  readonly now: Sample
  readonly before: Sample | undefined
  /** Why there is nothing newer than `now`. */
  readonly trouble: string | undefined
  readonly ranges: readonly RemappedRange[]
  /** Of the ranges that there are only the first ones were asked for. */
  readonly hasMoreRanges: boolean
  /** The newest last. */
  readonly events: readonly QmpEvent[]
}

const CLIENTS_SHOWN_MAX = 4

/** What matters most comes first; events take the room that is left. */
export function linesOf(picture: Picture, { columns, rows }: Size): Line[] {
  const { now, before } = picture
  const baseline = before?.status['started-at'] === now.status['started-at'] ? before.statistics : undefined
  const rates = ratesBetween(baseline, now.statistics)
  const lines = [
    ...headLines(picture),
    ...spareLines(now),
    { text: '' },
    ...requestLines(now.statistics, rates),
    { text: '' },
    ...errorLines(now.statistics, rates),
    ...heatLines(picture, columns),
    ...clientLines(now.status),
  ]
  const room = rows - lines.length - 1
  const events = room > 0 ? picture.events.slice(-room).map((event) => ({ text: `  ${describeEvent(event)}` })) : []
  return [...lines, { text: `events${events.length === 0 ? ': none yet' : ''}`, bold: true }, ...events].slice(0, rows)
}

function headLines({ now: { status, statistics, health }, trouble }: Picture): Line[] {
  const stalled = status['data-plane'] === 'stalled' ? 'STALLED: a disk hangs' : status.status
  const state = trouble === undefined ? stalled : 'AWAY'
  const up = formatDuration(statistics['uptime-seconds'])
  return [
    {
      text: `${status['export-name']}: ${state}, up ${up}, health ${health.score} (${health.trend}), nbd-remap ${status.version}  q quits`,
      bold: true,
    },
    { text: trouble ?? `main     ${status.main.name}, ${formatBytes(status.main.size)}`, bold: trouble !== undefined },
  ]
}

const BAR_LENGTH = 20

function spareLines({ status, table }: Sample): Line[] {
  const spares = status.spares.map((spare) => {
    const used = spare['total-blocks'] - spare['free-blocks']
    const share = spare['total-blocks'] === 0 ? 1 : used / spare['total-blocks']
    const bar = '#'.repeat(Math.ceil(share * BAR_LENGTH)).padEnd(BAR_LENGTH, '.')
    const bad = `${spare['retired-blocks']} retired, ${spare['lost-blocks']} lost`
    return { text: `spare    [${bar}] ${(share * 100).toFixed(1)} % used, ${bad}, ${spare.state}: ${spare.name}` }
  })
  const load = `load ${table.load} of ${table.buckets} buckets, ${table.resizes} resizes`
  return [...spares, { text: `remaps   ${status.remaps} blocks of ${formatBytes(status['block-size'])}, ${load}` }]
}

const ROWS = [
  { name: 'reads', operation: 'read', bytes: 'bytes-read' },
  { name: 'writes', operation: 'write', bytes: 'bytes-written' },
  { name: 'flushes', operation: 'flush' },
  { name: 'trims', operation: 'trim' },
  { name: 'write-zeroes', operation: 'write-zeroes' },
] as const

function requestLines(statistics: StatisticsReply, rates: Rates): Line[] {
  const row = (first: string, ...cells: readonly string[]): string =>
    first.padEnd(13) + cells.map((cell) => cell.padStart(11)).join('')
  const head = row('', 'per second', 'data/s', 'half in', '99 % in', 'ever', 'total')
  const rows = ROWS.map(({ name, operation, ...more }) => {
    const latency = rates.latency(operation)
    const data = 'bytes' in more ? formatBytes(rates.of(more.bytes)) : ''
    const longest = longestOf(statistics.latency, operation)
    return row(
      name,
      rates.of(name).toFixed(0),
      data.replace('bytes', 'B'),
      latency ? formatUs(latency.half) : '-',
      latency ? formatUs(latency.most) : '-',
      longest === 0 ? '-' : formatUs(longest),
      String(statistics[name]),
    )
  })
  return [{ text: head, bold: true }, ...rows.map((text) => ({ text }))]
}

const longestOf = (latencies: readonly Latency[], operation: Latency['operation']): number =>
  latencies.find((it) => it.operation === operation)?.['max-us'] ?? 0

function errorLines(statistics: StatisticsReply, rates: Rates): Line[] {
  const names = ['main-read-errors', 'main-write-errors', 'spare-errors', 'slow-reads', 'failed-requests'] as const
  const [reads, writes, spares, slow, failed] = names.map((name) => String(statistics[name]))
  const text = `errors   main ${reads} read ${writes} write, spares ${spares}, slow reads ${slow}, failed requests ${failed}`
  return [{ text, bold: names.some((name) => rates.of(name) > 0) }]
}

/** `R[` and `]`, or so. */
const FRAME = 3

/** Where the errors are stands right below where the remaps are, column by column. */
function heatLines({ now: { status, errors }, ranges, hasMoreRanges }: Picture, columns: number): Line[] {
  const sectors = status.main.size / SECTOR_SIZE
  const cells = Math.max(1, columns - FRAME)
  const strip = heatStrip(sectorsPerCell(ranges, sectors, cells), sectors)
  const scope = hasMoreRanges ? `only the first ${ranges.length} ranges` : HEAT_LEGEND
  return [
    {
      text: `${formatBytes(status.main.size / cells)} a column; R remaps: ${scope}; E errors: ${ERROR_LEGEND}`,
      bold: true,
    },
    { text: `R[${strip}]` },
    { text: `E[${errorStrip(errorsPerCell(errors, sectors, cells))}]` },
  ]
}

function clientLines({ clients }: ServerStatus): Line[] {
  const shown = clients.slice(0, CLIENTS_SHOWN_MAX)
  return [
    { text: `clients ${clients.length}`, bold: true },
    ...shown.map(({ id, address, since, 'requests-in-flight': inFlight }) => ({
      text: `  ${id}: ${address}, since ${since}, ${inFlight} in flight`,
    })),
    ...(clients.length > shown.length ? [{ text: `  and ${clients.length - shown.length} more` }] : []),
  ]
}

function describeEvent({ event, data, timestamp }: QmpEvent): string {
  const time = new Date(timestamp.seconds * 1000).toTimeString().slice(0, 8)
  const values = Object.entries(data).map(([name, value]) => `${name}=${String(value)}`)
  return [time, event, ...values].join(' ')
}

function formatDuration(seconds: number): string {
  const [days, hours, minutes] = [seconds / 86_400, (seconds / 3600) % 24, (seconds / 60) % 60].map(Math.floor)
  const clock = [hours, minutes, Math.floor(seconds % 60)].map((part) => String(part).padStart(2, '0')).join(':')
  return days === 0 ? clock : `${days} d ${clock}`
}
