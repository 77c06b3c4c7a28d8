/**
 * What dm-remap's users read: the reports of the messages `status`, `stats` and `spare_stats`, and the lines of `dmsetup
 * table` and `dmsetup status`. Fields have dm-remap's order and this program's true values, see docs/DMSETUP.md.
 */
import type { Statistics } from '../remap/statistics.js'
import { TIMED_OPERATIONS } from '../remap/statistics.js'
import { countOf } from '../util/histogram.js'
import { SECTOR_SIZE } from '../util/units.js'
import type { DeviceSubject, LookAtHealth } from './device-commands.js'
import type { WatchedHealth } from './health-watch.js'
import type { SpareState } from './spare-commands.js'

export const TARGET_NAME = 'dm-remap-v4'

const sectorsOf = (bytes: number): number => Math.floor(bytes / SECTOR_SIZE)

/** Under a title, `label: value` with the values below each other. */
function report(title: string, rows: readonly (readonly [string, string | number])[]): string {
  const width = Math.max(...rows.map(([label]) => label.length)) + 1
  return [`${title}:`, ...rows.map(([label, value]) => `  ${`${label}:`.padEnd(width)} ${value}`)].join('\n')
}

export const MESSAGE_REPORTS = { status: deviceStatus, stats: deviceStatistics } as const

async function deviceStatus(subject: DeviceSubject): Promise<string> {
  const { main, blockSize, size, readOnly } = await subject.facts
  const { remaps, buckets, resizes, suspended } = await subject.statistics()
  const state = await subject.state()
  return report('Device status', [
    ['Device', `${sectorsOf(size)} sectors${readOnly ? ', read-only' : ''}`],
    ['State', suspended === 1 ? 'SUSPENDED' : state === 'stalled' ? 'STALLED' : 'ACTIVE'],
    ['Main device', `${main.name} (sectors: ${sectorsOf(main.size)})`],
    ...subject.spares.map((spare) => ['Spare device', describeSpare(spare, blockSize)] as const),
    ['Sectors in a block', blockSize / SECTOR_SIZE],
    ['Remaps active', remaps],
    ['Hash table size', buckets],
    ['Load factor', (remaps / buckets).toFixed(2)],
    ['Resize count', resizes],
  ])
}

const describeSpare = ({ name, state, ...counts }: SpareState, blockSize: number): string => {
  const perBlock = blockSize / SECTOR_SIZE
  return `${name} (sectors: ${counts['total-blocks'] * perBlock}, free: ${counts['free-blocks'] * perBlock}, ${state})`
}

async function deviceStatistics(subject: DeviceSubject): Promise<string> {
  const statistics = await subject.statistics()
  const { ios, averageNs } = timesOf(statistics)
  return report('I/O Statistics', [
    ['Read operations', statistics.reads],
    ['Write operations', statistics.writes],
    ['Flush operations', statistics.flushes],
    ['Remap hits', statistics.remappedRequests],
    ['Remap misses', Math.max(0, dataRequests(statistics) - statistics.remappedRequests)],
    ['I/O errors', statistics.failedRequests],
    ['Main device errors', statistics.mainReadErrors + statistics.mainWriteErrors],
    ['Spare device errors', statistics.spareErrors],
    ['Lost sectors', statistics.lostSectors],
    ['Completed requests', ios],
    ['Average latency', `${(averageNs / 1000).toFixed(1)} us`],
  ])
}

export const healthReport = ({ score, status, trend, reasons, daysLeft }: WatchedHealth): string =>
  report('Health Status', [
    // A number and nothing behind it: scripts take the last word of the line.
    ['Health score', score],
    ['Status', status.toUpperCase()],
    ['Trend', trend.toUpperCase()],
    ...reasons.map(({ points, text }) => ['Reason', `-${points} ${text}`] as const),
    ...(daysLeft === undefined ? [] : [['Days left', daysLeft.toFixed(1)] as const]),
  ])

export async function spareReport(subject: DeviceSubject): Promise<string> {
  const { blockSize } = await subject.facts
  await subject.state()
  const rows = subject.spares.map((spare, n) => [`Spare ${n + 1}`, describeSpare(spare, blockSize)] as const)
  return report('Spare Pool Statistics', rows)
}

export interface DeviceLines {
  readonly sectors: number
  readonly table: string
  readonly status: string
}

/** The lines without the name of the device. */
export async function deviceLines(subject: DeviceSubject, look: LookAtHealth): Promise<DeviceLines> {
  const { main, size, version, blockSize } = await subject.facts
  const state = await subject.state()
  const statistics = await subject.statistics()
  const [spare] = subject.spares
  const sectors = sectorsOf(size)
  const head = `0 ${sectors} ${TARGET_NAME}`
  const disks = `${main.location} ${spare?.location ?? '-'}`
  const table = `${head} ${disks}`
  const mode = statistics.suspended === 1 ? 'suspended' : state === 'stalled' ? 'stalled' : 'operational'
  const { score } = await look()
  const fields = [...statusFields(statistics, blockSize, score), mode, 'real']
  return { sectors, table, status: `${head} v${version} ${disks} ${fields.join(' ')}` }
}

/** From the reads on. */
function statusFields(statistics: Statistics, blockSize: number, score: number): readonly (number | string)[] {
  const perBlock = blockSize / SECTOR_SIZE
  const { ios, totalNs, averageNs, bytesPerSecond } = timesOf(statistics)
  const { reads, writes, remaps, failedRequests, remappedRequests, freeBlocks } = statistics
  const data = dataRequests(statistics)
  const normal = Math.max(0, data - remappedRequests)
  return [
    ...[reads, writes, statistics.failedBlocks, failedRequests],
    remaps,
    ...[ios, totalNs, averageNs, bytesPerSecond],
    blockSize,
    freeBlocks * perBlock,
    ...[data, normal, remappedRequests, remaps * perBlock],
    ...[remappedRequests, normal, normal, remappedRequests],
    statistics.scrubs,
    score,
    statistics.weakBlocks,
    data === 0 ? 0 : Math.floor((remappedRequests * 100) / data),
  ]
}

const dataRequests = ({ reads, writes, trims, writeZeroes }: Statistics): number => reads + writes + trims + writeZeroes

/** Requests that have ended, the time they took, and the rate of their data in that time. */
function timesOf(statistics: Statistics): { ios: number; totalNs: number; averageNs: number; bytesPerSecond: number } {
  const { latencies, bytesRead, bytesWritten } = statistics
  const ios = TIMED_OPERATIONS.reduce((sum, operation) => sum + countOf(latencies[operation].buckets()), 0)
  const totalMs = TIMED_OPERATIONS.reduce((sum, operation) => sum + latencies[operation].sumMs, 0)
  const averageNs = ios === 0 ? 0 : Math.round((totalMs * 1e6) / ios)
  const bytesPerSecond = totalMs === 0 ? 0 : Math.round((bytesRead + bytesWritten) / (totalMs / 1000))
  return { ios, totalNs: Math.round(totalMs * 1e6), averageNs, bytesPerSecond }
}
