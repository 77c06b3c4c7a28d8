/** A server's status for people: in full, as one line, and as a row of a table. */
import { formatBytes } from '../util/units.js'
import { describeSpare } from './spare-status.js'
import type { StatusDocument } from './status-document.js'

export function describeStatus(status: StatusDocument): string {
  const { main, spares, table } = status
  const lines = [
    `server:   nbd-remap ${status.version}, pid ${status.pid}, since ${status['started-at']}`,
    ...(isStalled(status) ? ['STALLED:  a disk hangs; what follows is what was known before'] : []),
    `export:   ${status.uri}${status['read-only'] ? ' (read-only)' : ''}`,
    `main:     ${main.name}, ${formatBytes(main.size)}`,
    ...spares.map((spare) => `spare:    ${describeSpare(spare, status['block-size'])}`),
    `remaps:   ${status.remaps}`,
    `table:    ${table.buckets} buckets, load ${table.load}, ${table.resizes} resizes`,
    `errors:   ${describeErrors(status)}`,
    `requests: ${describeRequests(status)}`,
    ...describeLatencies(status),
    ...describeHealth(status),
    `clients:  ${status.clients.length}`,
    ...status.clients.map((client) => `  ${client.id}: ${client.address}, ${client['requests-in-flight']} in flight`),
  ]
  return `${lines.join('\n')}\n`
}

const isStalled = (status: StatusDocument): boolean => status['data-plane'] === 'stalled'

function describeErrors({ statistics }: StatusDocument): string {
  const main = `${statistics['main-read-errors']} read and ${statistics['main-write-errors']} write errors of main`
  const rest = `${statistics['spare-errors']} of spares; ${statistics['slow-reads']} slow reads`
  return `${main}, ${rest}; ${statistics['failed-requests']} requests failed`
}

/** Why it is not 100 stands below it. */
function describeHealth({ health }: StatusDocument): readonly string[] {
  return [
    `health:   ${health.score} of 100, ${health.status}, ${health.trend}`,
    ...health.reasons.map(({ points, text }) => `  -${String(points).padEnd(3)} ${text}`),
  ]
}

function describeRequests({ statistics }: StatusDocument): string {
  const { reads, writes, flushes, trims, 'bytes-read': bytesRead, 'bytes-written': bytesWritten } = statistics
  const data = `${reads} reads (${formatBytes(bytesRead)}), ${writes} writes (${formatBytes(bytesWritten)})`
  return `${data}, ${flushes} flushes, ${trims} trims`
}

/** Of what has been asked for at all. */
function describeLatencies({ statistics }: StatusDocument): readonly string[] {
  return statistics.latency
    .filter(({ count }) => count > 0)
    .map((it) => {
      const [median, most, max] = [it['p50-us'], it['p99-us'], it['max-us']].map(formatUs)
      return `latency:  ${it.operation}: half within ${median ?? ''}, 99 % within ${most ?? ''}, all within ${max ?? ''}`
    })
}

/** Three digits: `7.25 us`, `43.1 ms`, `1.2 s`. */
export function formatUs(us: number): string {
  if (us < 999.5) return `${Number(us.toPrecision(3))} us`
  if (us < 999_500) return `${Number((us / 1000).toPrecision(3))} ms`
  return `${Number((us / 1e6).toPrecision(3))} s`
}

interface SpareUse {
  readonly total: number
  readonly free: number
  readonly retired: number
  readonly lost: number
}

/** Of all spares. */
export const spareUse = ({ spares }: StatusDocument): SpareUse => ({
  total: sum(spares.map((spare) => spare['total-blocks'])),
  free: sum(spares.map((spare) => spare['free-blocks'])),
  retired: sum(spares.map((spare) => spare['retired-blocks'])),
  lost: sum(spares.map((spare) => spare['lost-blocks'])),
})

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0)

export function summarize(status: StatusDocument): string {
  const { total, free, lost } = spareUse(status)
  const { statistics } = status
  const parts = [
    isStalled(status) ? 'STALLED' : status.status,
    `${status.remaps} blocks remapped`,
    ...(lost > 0 ? [`${lost} with lost sectors`] : []),
    `${percent(total - free, total)} % of the spare used`,
    `${statistics['failed-requests']} requests failed`,
    `health ${status.health.score}`,
    `${status.clients.length} clients`,
  ]
  return `${status['export-name']}: ${parts.join(', ')}\n`
}

const percent = (part: number, whole: number): number => (whole === 0 ? 0 : Number(((part / whole) * 100).toFixed(1)))

/** The columns of `--csv`. New ones come last: scripts count them. */
const COLUMNS: Readonly<Record<string, (status: StatusDocument) => string | number>> = {
  time: () => new Date().toISOString(),
  'data-plane': (status) => status['data-plane'],
  'main-bytes': (status) => status.main.size,
  remaps: (status) => status.remaps,
  'spare-blocks': (status) => spareUse(status).total,
  'free-blocks': (status) => spareUse(status).free,
  'retired-blocks': (status) => spareUse(status).retired,
  'lost-blocks': (status) => spareUse(status).lost,
  buckets: ({ table }) => table.buckets,
  load: ({ table }) => table.load,
  resizes: ({ table }) => table.resizes,
  reads: ({ statistics }) => statistics.reads,
  writes: ({ statistics }) => statistics.writes,
  flushes: ({ statistics }) => statistics.flushes,
  'bytes-read': ({ statistics }) => statistics['bytes-read'],
  'bytes-written': ({ statistics }) => statistics['bytes-written'],
  'main-read-errors': ({ statistics }) => statistics['main-read-errors'],
  'main-write-errors': ({ statistics }) => statistics['main-write-errors'],
  'spare-errors': ({ statistics }) => statistics['spare-errors'],
  'failed-requests': ({ statistics }) => statistics['failed-requests'],
  'read-p50-us': (status) => latencyOf(status, 'read', 'p50-us'),
  'read-p99-us': (status) => latencyOf(status, 'read', 'p99-us'),
  'write-p50-us': (status) => latencyOf(status, 'write', 'p50-us'),
  'write-p99-us': (status) => latencyOf(status, 'write', 'p99-us'),
  clients: (status) => status.clients.length,
  health: ({ health }) => health.score,
}

const latencyOf = ({ statistics }: StatusDocument, operation: string, figure: 'p50-us' | 'p99-us'): number =>
  statistics.latency.find((it) => it.operation === operation)?.[figure] ?? 0

export const CSV_HEAD = `${Object.keys(COLUMNS).join(',')}\n`

/** No value has a comma or a quote in it. */
export const csvRow = (status: StatusDocument): string =>
  `${Object.values(COLUMNS)
    .map((column) => column(status))
    .join(',')}\n`
