/**
 * `ServerSampler`: what a server does, seen from its control socket some times a second, as lines of a timeline. It lives
 * through restarts: while nobody answers, the lines have a gap.
 *
 * It asks for counters and latencies since the start, so that what happens between two looks is seen, however short.
 */
import { QmpClient, QmpError } from '../../src/qmp/index.js'
import { bucketsBetween, countOf, percentile, type HistogramBucket } from '../../src/util/histogram.js'
import { MiB } from '../../src/util/units.js'
import { LATENCY, RATE, Sampler, type SamplerOptions } from './sampler.js'
import { Track } from './track.js'

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

export class ServerSampler extends Sampler<'reads' | 'writes' | 'half' | 'most'> {
  readonly #address: string
  #before: Look | undefined
  #latencyAtMs = 0

  private constructor(address: string, options: SamplerOptions) {
    const { name = 'server' } = options
    const tracks = {
      reads: new Track({ ...RATE, name: `${name}, reads` }),
      writes: new Track({ ...RATE, name: `${name}, writes` }),
      half: new Track({ ...LATENCY, name: `${name}, median` }),
      most: new Track({ ...LATENCY, name: `${name}, 99 %` }),
    }
    super(tracks, options)
    this.#address = address
  }

  /** @param address of the control socket; nobody has to listen there yet */
  static start(address: string, options: SamplerOptions): ServerSampler {
    return new ServerSampler(address, options).begin()
  }

  protected async run(): Promise<void> {
    while (!this.end.aborted) {
      try {
        await this.#follow()
      } catch (error) {
        if (!(error instanceof QmpError)) throw error
        this.#before = undefined
        this.gap()
      }
      await this.pause(RECONNECT_MS)
    }
  }

  /** One server, until it goes. @throws QmpError */
  async #follow(): Promise<void> {
    const signal = this.end
    const client = await QmpClient.connect(this.#address, { signal, connectTimeoutMs: ANSWER_TIMEOUT_MS })
    const hangUp = (): void => void client.close()
    signal.addEventListener('abort', hangUp, { once: true })
    try {
      while (!signal.aborted) {
        const statistics = (await client.execute('query-stats', {}, { timeoutMs: ANSWER_TIMEOUT_MS })) as Statistics
        this.#look({ atMs: this.now(), statistics })
        await this.pause()
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
    this.tracks.reads.add(atMs, rate('bytes-read'))
    this.tracks.writes.add(atMs, rate('bytes-written'))
    this.#addLatency(atMs, bucketsBetween(bucketsOf(before.statistics), bucketsOf(statistics)))
  }

  #addLatency(atMs: number, buckets: readonly HistogramBucket[]): void {
    const { half, most } = this.tracks
    if (countOf(buckets) > 0) {
      this.#latencyAtMs = atMs
      half.add(atMs, percentile(buckets, 0.5))
      most.add(atMs, percentile(buckets, 0.99))
    } else if (atMs - this.#latencyAtMs > IDLE_MAX_MS) {
      for (const track of [half, most]) track.gap(this.#latencyAtMs)
    }
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
