/** What happened between two looks at the counters of a server. */
import type { StatisticsReply } from '../../control/statistics-commands.js'
import { countOf, percentile, type HistogramBucket } from '../../util/histogram.js'

export type Latency = StatisticsReply['latency'][number]

export interface Rates {
  /** Per second. */
  readonly of: (counter: Counter) => number
  /** Of the requests since the first look; `undefined`: there were none. */
  readonly latency: (operation: Latency['operation']) => { readonly half: number; readonly most: number } | undefined
}

type Counter = Exclude<keyof StatisticsReply, 'latency' | 'lifetime' | 'since'>

const NOTHING: Rates = { of: () => 0, latency: () => undefined }

/** A server that was restarted in between begins at zero. */
export function ratesBetween(before: StatisticsReply | undefined, now: StatisticsReply): Rates {
  if (before === undefined) return NOTHING
  const seconds = now['uptime-seconds'] - before['uptime-seconds']
  if (seconds <= 0) return NOTHING
  return {
    of: (counter) => Math.max(0, now[counter] - before[counter]) / seconds,
    latency: (operation) => {
      const buckets = difference(histogramOf(before, operation), histogramOf(now, operation))
      if (countOf(buckets) === 0) return undefined
      return { half: percentile(buckets, 0.5) * 1000, most: percentile(buckets, 0.99) * 1000 }
    },
  }
}

const histogramOf = ({ latency }: StatisticsReply, operation: Latency['operation']): Latency['histogram'] =>
  latency.find((it) => it.operation === operation)?.histogram ?? []

function difference(before: Latency['histogram'], now: Latency['histogram']): HistogramBucket[] {
  const counts = new Map(before.map((bucket) => [bucket['from-us'], bucket.count]))
  return now
    .map((bucket) => ({
      fromMs: bucket['from-us'] / 1000,
      belowMs: bucket['below-us'] / 1000,
      count: bucket.count - (counts.get(bucket['from-us']) ?? 0),
    }))
    .filter(({ count }) => count > 0)
}
