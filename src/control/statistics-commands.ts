/** The commands of the control socket that tell numbers: counters, and how long requests take. */
import { command, type Command, type ValueOf } from '../qmp/schema.js'
import { TIMED_OPERATIONS, type Statistics, type TimedOperation } from '../remap/statistics.js'
import { countOf, percentile } from '../util/histogram.js'
import type { DataPlane } from './data-plane.js'

const LATENCY = {
  kind: 'object',
  members: {
    operation: { kind: 'enum', values: TIMED_OPERATIONS },
    count: { kind: 'size', description: 'requests that have ended' },
    'mean-us': { kind: 'number', description: 'microseconds, like all that ends in -us' },
    'p50-us': { kind: 'number', description: 'half of the requests took no longer' },
    'p90-us': { kind: 'number' },
    'p99-us': { kind: 'number' },
    'p999-us': { kind: 'number' },
    'max-us': { kind: 'number' },
    histogram: {
      kind: 'array',
      of: {
        kind: 'object',
        members: {
          'from-us': { kind: 'number', description: 'requests that took at least this' },
          'below-us': { kind: 'number', description: 'and less than this' },
          count: { kind: 'size' },
        },
      },
    },
  },
} as const

export const STATISTICS = {
  kind: 'object',
  members: {
    reads: { kind: 'size' },
    writes: { kind: 'size' },
    flushes: { kind: 'size' },
    trims: { kind: 'size' },
    'write-zeroes': { kind: 'size' },
    'bytes-read': { kind: 'size' },
    'bytes-written': { kind: 'size' },
    'remapped-requests': { kind: 'size', description: 'requests near a remapped block' },
    'main-read-errors': { kind: 'size', description: 'blocks of the main disk that failed to read' },
    'main-write-errors': { kind: 'size', description: 'blocks of the main disk that failed to write' },
    'spare-errors': { kind: 'size', description: 'blocks of the spare that failed' },
    'slow-reads': { kind: 'size', description: 'reads of the main disk that took longer than --slow-read' },
    'retried-reads': { kind: 'size', description: 'blocks that were read only when tried again' },
    'failed-blocks': { kind: 'size', description: 'blocks that moved because a disk failed them' },
    'weak-blocks': { kind: 'size', description: 'of these the ones that could still be read, but late' },
    'lost-sectors': { kind: 'size', description: 'sectors whose content was lost' },
    'failed-requests': { kind: 'size', description: 'requests that were answered with an error' },
    'uptime-seconds': { kind: 'number' },
    latency: { kind: 'array', of: LATENCY },
  },
} as const

/** What `query-stats` returns. */
export type StatisticsReply = ValueOf<typeof STATISTICS>

export const statisticsCommands = (subject: Pick<DataPlane, 'facts' | 'statistics'>): Record<string, Command> => ({
  'query-stats': command({
    description: 'Counters and latencies since the server was started',
    returns: STATISTICS,
    handler: () => queryStats(subject),
  }),
})

async function queryStats(subject: Pick<DataPlane, 'facts' | 'statistics'>): Promise<StatisticsReply> {
  const { startedAt } = await subject.facts
  const statistics = await subject.statistics()
  return {
    reads: statistics.reads,
    writes: statistics.writes,
    flushes: statistics.flushes,
    trims: statistics.trims,
    'write-zeroes': statistics.writeZeroes,
    'bytes-read': statistics.bytesRead,
    'bytes-written': statistics.bytesWritten,
    'remapped-requests': statistics.remappedRequests,
    'main-read-errors': statistics.mainReadErrors,
    'main-write-errors': statistics.mainWriteErrors,
    'spare-errors': statistics.spareErrors,
    'slow-reads': statistics.slowReads,
    'retried-reads': statistics.retriedReads,
    'failed-blocks': statistics.failedBlocks,
    'weak-blocks': statistics.weakBlocks,
    'lost-sectors': statistics.lostSectors,
    'failed-requests': statistics.failedRequests,
    'uptime-seconds': (Date.now() - startedAt.getTime()) / 1000,
    latency: TIMED_OPERATIONS.map((operation) => latencyOf(operation, statistics)),
  }
}

function latencyOf(operation: TimedOperation, { latencies }: Statistics): ValueOf<typeof LATENCY> {
  const { sumMs, longestMs } = latencies[operation]
  const buckets = latencies[operation].buckets()
  const count = countOf(buckets)
  const at = (share: number): number => us(Math.min(percentile(buckets, share), longestMs))
  return {
    operation,
    count,
    'mean-us': count === 0 ? 0 : us(sumMs / count),
    'p50-us': at(0.5),
    'p90-us': at(0.9),
    'p99-us': at(0.99),
    'p999-us': at(0.999),
    'max-us': us(longestMs),
    histogram: buckets.map(({ fromMs, belowMs, count }) => ({
      'from-us': us(fromMs),
      'below-us': us(belowMs),
      count,
    })),
  }
}

/** Nanoseconds are as fine as clocks get. */
const us = (ms: number): number => Math.round(ms * 1e6) / 1e3
