/** `/metrics`: what Prometheus is told. Names and units follow its conventions; docs/HTTP.md lists them. */
import { ERROR_KINDS, ERROR_REGIONS, openErrorCounts, type ErrorKind } from '../remap/error-counts.js'
import { TIMED_OPERATIONS, type Statistics } from '../remap/statistics.js'
import { Exposition } from './exposition.js'
import type { WatchedHealth } from './health-watch.js'
import type { Facts, NbdClient } from './messages.js'
import type { SpareState } from './spare-commands.js'

export interface Measured {
  readonly facts: Facts
  readonly statistics: Statistics
  readonly spares: readonly SpareState[]
  readonly clients: readonly NbdClient[]
  readonly health: WatchedHealth
  readonly isStalled: boolean
  /** Events so far, by name. */
  readonly events: ReadonlyMap<string, number>
  readonly controlClients: number
}

export function metricsText(measured: Measured): string {
  const to = new Exposition()
  aboutServer(to, measured)
  aboutRequests(to, measured.statistics)
  aboutFaults(to, measured.statistics)
  aboutRegions(to, measured.facts)
  aboutTable(to, measured.statistics)
  aboutSpares(to, measured.spares)
  aboutHealth(to, measured)
  aboutProcess(to, measured.facts)
  return to.toString()
}

function aboutServer(to: Exposition, { facts, clients, isStalled, controlClients, events }: Measured): void {
  const { version, exportName } = facts
  to.gauge('nbd_remap_build_info', 'Always 1; the labels say what runs.', [[{ version, export: exportName }, 1]])
  to.gauge('nbd_remap_data_plane_stalled', '1 while the thread that serves NBD does not answer.', Number(isStalled))
  to.gauge('nbd_remap_read_only', '1 when it is served read-only.', Number(facts.readOnly))
  to.gauge('nbd_remap_main_size_bytes', 'Size of the main disk.', facts.main.size)
  to.gauge('nbd_remap_block_size_bytes', 'Unit of remapping.', facts.blockSize)
  to.gauge('nbd_remap_clients', 'NBD clients connected.', clients.length)
  const inFlight = clients.reduce((sum, { requestsInFlight }) => sum + requestsInFlight, 0)
  to.gauge('nbd_remap_requests_in_flight', 'Requests of all clients that are not answered yet.', inFlight)
  to.gauge('nbd_remap_control_clients', 'Clients of the control sockets and WebSockets.', controlClients)
  const samples = [...events].map(([event, count]) => [{ event }, count] as const)
  to.counter('nbd_remap_events_total', 'Events told to control clients.', samples)
}

function aboutRequests(to: Exposition, statistics: Statistics): void {
  const { reads, writes, flushes, trims, writeZeroes, bytesRead, bytesWritten, latencies } = statistics
  to.counter('nbd_remap_requests_total', 'NBD requests.', [
    [{ operation: 'read' }, reads],
    [{ operation: 'write' }, writes],
    [{ operation: 'flush' }, flushes],
    [{ operation: 'trim' }, trims],
    [{ operation: 'write-zeroes' }, writeZeroes],
  ])
  to.counter('nbd_remap_request_bytes_total', 'Payload of NBD requests.', [
    [{ operation: 'read' }, bytesRead],
    [{ operation: 'write' }, bytesWritten],
  ])
  to.histogram(
    'nbd_remap_request_duration_seconds',
    'From the arrival of a request until its reply can be sent.',
    TIMED_OPERATIONS.map((operation) => [{ operation }, latencies[operation]] as const),
  )
  to.counter('nbd_remap_failed_requests_total', 'Requests answered with an error.', statistics.failedRequests)
  to.counter(
    'nbd_remap_remapped_requests_total',
    'READ and WRITE requests in a region with a remap.',
    statistics.remappedRequests,
  )
}

function aboutFaults(to: Exposition, statistics: Statistics): void {
  to.counter('nbd_remap_main_errors_total', 'Blocks of the main disk that failed.', [
    [{ operation: 'read' }, statistics.mainReadErrors],
    [{ operation: 'write' }, statistics.mainWriteErrors],
  ])
  to.counter('nbd_remap_spare_errors_total', 'Blocks of the spares that failed.', statistics.spareErrors)
  to.counter('nbd_remap_slow_reads_total', 'Reads of the main disk that were late.', statistics.slowReads)
  to.counter('nbd_remap_retried_reads_total', 'Blocks read only when tried again.', statistics.retriedReads)
  to.counter('nbd_remap_failed_blocks_total', 'Blocks that moved because a disk failed them.', statistics.failedBlocks)
  to.counter('nbd_remap_weak_blocks_total', 'Of these the ones that were only late.', statistics.weakBlocks)
  to.counter('nbd_remap_lost_sectors_total', 'Sectors whose content was lost.', statistics.lostSectors)
}

/** So many that they do not crowd out everything else in a database of many disks. */
const METRIC_REGIONS = 32
const REGION_KINDS: readonly (readonly [kind: string, of: ErrorKind])[] = [
  ['read', 'readErrors'],
  ['write', 'writeErrors'],
  ['spare', 'spareErrors'],
  ['slow-read', 'slowReads'],
  ['timeout', 'timeouts'],
]

function aboutRegions(to: Exposition, facts: Facts): void {
  const { regionSize, regions, totals, blocks, dropped } = openErrorCounts(facts.errors)
  const joined = ERROR_REGIONS / METRIC_REGIONS
  const samples = Array.from({ length: METRIC_REGIONS }, (_, region) => {
    const parts = regions.filter(({ number }) => Math.floor(number / joined) === region)
    return REGION_KINDS.map(([kind, of]) => {
      const count = parts.reduce((sum, { counts }) => sum + (counts[ERROR_KINDS.indexOf(of)] ?? 0), 0)
      return [{ region: String(region), kind }, count] as const
    })
  })
  const timeouts = totals[ERROR_KINDS.indexOf('timeouts')] ?? 0
  to.counter('nbd_remap_main_timeouts_total', 'Requests to the main disk that were given up.', timeouts)
  to.gauge('nbd_remap_region_size_bytes', 'Length of a region of the main disk.', regionSize * joined)
  to.counter(
    'nbd_remap_region_errors_total',
    'Errors and late requests of each region of the main disk that had any.',
    samples.flat().filter(([, count]) => count > 0),
  )
  to.gauge('nbd_remap_error_history_blocks', 'Blocks of the main disk with a history of errors.', blocks)
  to.counter('nbd_remap_error_history_dropped_blocks_total', 'Blocks whose history found no room.', dropped)
}

function aboutTable(to: Exposition, { remaps, buckets, resizes }: Statistics): void {
  to.gauge('nbd_remap_remapped_blocks', 'Blocks that are remapped now.', remaps)
  to.gauge('nbd_remap_table_buckets', 'Buckets of the remap table.', buckets)
  to.counter('nbd_remap_table_resizes_total', 'Resizes of the remap table.', resizes)
}

const STATES = ['free', 'remapped', 'retired', 'lost'] as const

function aboutSpares(to: Exposition, spares: readonly SpareState[]): void {
  to.gauge(
    'nbd_remap_spare_blocks',
    'Blocks of each spare; lost ones are remapped, too.',
    spares.flatMap((spare) =>
      STATES.map((state) => [{ spare: spare.name, uuid: spare.uuid, state }, spare[`${state}-blocks`]] as const),
    ),
  )
  to.gauge(
    'nbd_remap_spare_capacity_blocks',
    'Blocks that each spare can take.',
    spares.map(({ name, uuid, 'total-blocks': total }) => [{ spare: name, uuid }, total] as const),
  )
  to.gauge(
    'nbd_remap_spare_failing',
    '1 when the metadata of the spare could not be written, or it did not answer.',
    spares.map(({ name, uuid, state }) => [{ spare: name, uuid }, Number(state === 'failing')] as const),
  )
}

function aboutHealth(to: Exposition, { health, statistics }: Measured): void {
  to.gauge('nbd_remap_health_score', 'From 0 to 100, see docs/HEALTH.md.', health.score)
  to.gauge('nbd_remap_failed_blocks_per_day', 'At the present rate.', health.failedBlocksPerDay)
  const free = statistics.spareBlocks === 0 ? 0 : statistics.freeBlocks / statistics.spareBlocks
  to.gauge('nbd_remap_spare_free_ratio', 'Share of the spare blocks that are free.', free)
}

function aboutProcess(to: Exposition, { startedAt }: Facts): void {
  const { user, system } = process.cpuUsage()
  to.gauge('process_start_time_seconds', 'Since 1970, when the server was ready.', startedAt.getTime() / 1000)
  to.counter('process_cpu_seconds_total', 'User and system time.', (user + system) / 1e6)
  to.gauge('process_resident_memory_bytes', 'Resident memory.', process.memoryUsage.rss())
}
