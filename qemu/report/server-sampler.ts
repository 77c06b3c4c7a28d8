/**
 * `ServerSampler`: what a server does, seen from its control socket some times a second, as lines of a timeline. It lives
 * through restarts: while nobody answers, the lines have a gap.
 *
 * It asks for counters and latencies since the start, so that what happens between two looks is seen, however short.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { QmpClient, QmpError } from '../../src/qmp/index.js'
import { bucketsBetween, countOf, percentile, type HistogramBucket } from '../../src/util/histogram.js'
import { MiB } from '../../src/util/units.js'
import type { Series } from './record.js'
import { seriesOf, Track } from './track.js'

export const SAMPLE_INTERVAL_MS = 150
/** A server that takes longer is one of which nothing is known. */
const ANSWER_TIMEOUT_MS = 2000
const RECONNECT_MS = 25
/** Without requests there is no latency; the line waits so long for the next ones before it ends. */
const IDLE_MAX_MS = 1000

/** Of the reply to `query-stats` what is used here. */
interface Statistics {
  readonly 'bytes-read': number
  readonly 'bytes-written': number
  readonly latency: readonly {
    readonly histogram: readonly {
      readonly 'from-us': number
      readonly 'below-us': number
      readonly count: number
    }[]
  }[]
}

interface Look {
  readonly atMs: number
  readonly statistics: Statistics
}

export interface SamplerOptions {
  /** Milliseconds since the run began. */
  readonly now: () => number
  readonly intervalMs?: number
  /** Stands before the names of the lines when there are several servers. */
  readonly name?: string
}

export class ServerSampler {
  readonly #address: string
  readonly #now: () => number
  readonly #intervalMs: number
  readonly #end = new AbortController()
  readonly #tracks: Readonly<Record<'reads' | 'writes' | 'half' | 'most', Track>>
  readonly #done: Promise<void>
  #before: Look | undefined
  #latencyAtMs = 0

  private constructor(address: string, { now, intervalMs = SAMPLE_INTERVAL_MS, name = 'server' }: SamplerOptions) {
    this.#address = address
    this.#now = now
    this.#intervalMs = intervalMs
    const rate = { lane: 'throughput', unit: 'MiB/s' }
    const time = { lane: 'latency', unit: 'ms' }
    this.#tracks = {
      reads: new Track({ ...rate, name: `${name}, reads` }),
      writes: new Track({ ...rate, name: `${name}, writes` }),
      half: new Track({ ...time, name: `${name}, median` }),
      most: new Track({ ...time, name: `${name}, 99 %` }),
    }
    this.#done = this.#run()
  }

  /** @param address of the control socket; nobody has to listen there yet */
  static start(address: string, options: SamplerOptions): ServerSampler {
    return new ServerSampler(address, options)
  }

  /** What was seen so far, without the lines of which nothing was. */
  get series(): Series[] {
    return seriesOf(this.#tracks)
  }

  async stop(): Promise<void> {
    this.#end.abort()
    await this.#done
  }

  async #run(): Promise<void> {
    while (!this.#end.signal.aborted) {
      try {
        await this.#follow()
      } catch (error) {
        if (!(error instanceof QmpError)) throw error
        this.#gap()
      }
      await this.#pause(RECONNECT_MS)
    }
  }

  /** One server, until it goes. @throws QmpError */
  async #follow(): Promise<void> {
    const { signal } = this.#end
    const client = await QmpClient.connect(this.#address, { signal, connectTimeoutMs: ANSWER_TIMEOUT_MS })
    const hangUp = (): void => void client.close()
    signal.addEventListener('abort', hangUp, { once: true })
    try {
      while (!signal.aborted) {
        const statistics = (await client.execute('query-stats', {}, { timeoutMs: ANSWER_TIMEOUT_MS })) as Statistics
        this.#look({ atMs: this.#now(), statistics })
        await this.#pause(this.#intervalMs)
      }
    } finally {
      signal.removeEventListener('abort', hangUp)
      await client.close()
    }
  }

  #look(look: Look): void {
    const before = this.#before
    this.#before = look
    if (before === undefined) return
    const { atMs, statistics } = look
    const seconds = (atMs - before.atMs) / 1000
    const rate = (counter: 'bytes-read' | 'bytes-written'): number =>
      (statistics[counter] - before.statistics[counter]) / MiB / seconds
    this.#tracks.reads.add(atMs, rate('bytes-read'))
    this.#tracks.writes.add(atMs, rate('bytes-written'))
    this.#addLatency(atMs, bucketsBetween(bucketsOf(before.statistics), bucketsOf(statistics)))
  }

  #addLatency(atMs: number, buckets: readonly HistogramBucket[]): void {
    const { half, most } = this.#tracks
    if (countOf(buckets) > 0) {
      this.#latencyAtMs = atMs
      half.add(atMs, percentile(buckets, 0.5))
      most.add(atMs, percentile(buckets, 0.99))
    } else if (atMs - this.#latencyAtMs > IDLE_MAX_MS) {
      for (const track of [half, most]) track.gap(this.#latencyAtMs)
    }
  }

  #gap(): void {
    this.#before = undefined
    for (const track of Object.values(this.#tracks)) track.gap(this.#now())
  }

  /** Ends early when it is to stop. */
  async #pause(ms: number): Promise<void> {
    await pause(ms, undefined, { signal: this.#end.signal }).catch(() => undefined)
  }
}

/** Of all operations together, shortest times first. */
function bucketsOf({ latency }: Statistics): HistogramBucket[] {
  const found = new Map<number, HistogramBucket>()
  for (const bucket of latency.flatMap(({ histogram }) => histogram)) {
    const fromMs = bucket['from-us'] / 1000
    const count = bucket.count + (found.get(fromMs)?.count ?? 0)
    found.set(fromMs, { fromMs, belowMs: bucket['below-us'] / 1000, count })
  }
  return [...found.values()].sort((a, b) => a.fromMs - b.fromMs)
}
