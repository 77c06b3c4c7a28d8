/** The commands of the control socket that tell numbers: counters, and how long requests take. */
import { command, type ArgumentsOf, type Command, type ValueOf } from '../qmp/schema.js'
import { COUNTERS, TIMED_OPERATIONS, type Counter, type Statistics, type TimedOperation } from '../remap/statistics.js'
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

export const COUNTS = {
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
} as const

export const STATISTICS = {
  kind: 'object',
  members: {
    ...COUNTS,
    'uptime-seconds': { kind: 'number' },
    since: { kind: 'str', description: 'ISO 8601; later than the start after reset-stats' },
    lifetime: { kind: 'object', members: { ...COUNTS, 'served-seconds': { kind: 'size' } } },
    latency: { kind: 'array', of: LATENCY },
  },
} as const

/** What `query-stats` returns. */
export type StatisticsReply = ValueOf<typeof STATISTICS>

type StatisticsSubject = Pick<DataPlane, 'facts' | 'statistics' | 'ask'>

export const statisticsCommands = (subject: StatisticsSubject): Record<string, Command> => ({
  'query-stats': command({
    description: 'Counters and latencies since the server was started, and counters since the pair was formatted',
    returns: STATISTICS,
    handler: () => queryStats(subject),
  }),
  'reset-stats': command({
    description: 'Counters and latencies begin anew',
    arguments: {
      lifetime: {
        kind: 'bool',
        optional: true,
        description: 'true: those of the lifetime, and the error history, too',
      },
    },
    handler: async (args) => {
      await subject.ask('reset-stats', args)
    },
  }),
})

async function queryStats(subject: StatisticsSubject): Promise<StatisticsReply> {
  const { startedAt } = await subject.facts
  const statistics = await subject.statistics()
  const servedSeconds = (Date.now() - (statistics.resetAtMs || startedAt.getTime())) / 1000
  const [servedBefore = 0, ...before] = statistics.before
  return {
    ...countsOf((counter) => statistics[counter]),
    'uptime-seconds': (Date.now() - startedAt.getTime()) / 1000,
    since: new Date(statistics.resetAtMs || startedAt).toISOString(),
    lifetime: {
      ...countsOf((counter) => statistics[counter] + (before[COUNTERS.indexOf(counter)] ?? 0)),
      'served-seconds': servedBefore + Math.round(Math.max(0, servedSeconds)),
    },
    latency: TIMED_OPERATIONS.map((operation) => latencyOf(operation, statistics)),
  }
}

const countsOf = (count: (counter: Counter) => number): ArgumentsOf<typeof COUNTS> => ({
  reads: count('reads'),
  writes: count('writes'),
  flushes: count('flushes'),
  trims: count('trims'),
  'write-zeroes': count('writeZeroes'),
  'bytes-read': count('bytesRead'),
  'bytes-written': count('bytesWritten'),
  'remapped-requests': count('remappedRequests'),
  'main-read-errors': count('mainReadErrors'),
  'main-write-errors': count('mainWriteErrors'),
  'spare-errors': count('spareErrors'),
  'slow-reads': count('slowReads'),
  'retried-reads': count('retriedReads'),
  'failed-blocks': count('failedBlocks'),
  'weak-blocks': count('weakBlocks'),
  'lost-sectors': count('lostSectors'),
  'failed-requests': count('failedRequests'),
})

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
