/** What happened between two looks at the counters of a server. */
import type { StatisticsReply } from '../../control/statistics-commands.js'
import { bucketsBetween, countOf, percentile, type HistogramBucket } from '../../util/histogram.js'

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
      const buckets = bucketsBetween(histogramOf(before, operation), histogramOf(now, operation))
      if (countOf(buckets) === 0) return undefined
      return { half: percentile(buckets, 0.5) * 1000, most: percentile(buckets, 0.99) * 1000 }
    },
  }
}

function histogramOf({ latency }: StatisticsReply, operation: Latency['operation']): HistogramBucket[] {
  const histogram = latency.find((it) => it.operation === operation)?.histogram ?? []
  return histogram.map((it) => ({ fromMs: it['from-us'] / 1000, belowMs: it['below-us'] / 1000, count: it.count }))
}
