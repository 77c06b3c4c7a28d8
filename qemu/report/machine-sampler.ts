/**
 * `MachineSampler`: what a virtual machine gets from its disks, seen from QEMU some times a second, as lines of a timeline.
 * Requests that QEMU holds while a server is away count when they end, so that a blackout is a stretch of nothing.
 */
import { QmpError, type QmpClient } from '../../src/qmp/index.js'
import { MiB } from '../../src/util/units.js'
import { LATENCY, RATE, Sampler, type SamplerOptions } from './sampler.js'
import { Track } from './track.js'

const NS_PER_MS = 1e6

const COUNTERS = [
  'rd_bytes',
  'wr_bytes',
  'rd_operations',
  'wr_operations',
  'flush_operations',
  'rd_total_time_ns',
  'wr_total_time_ns',
  'flush_total_time_ns',
] as const
type Counters = Record<(typeof COUNTERS)[number], number>

/** Of the reply to `query-blockstats` what is used here. */
type BlockStatistics = readonly { readonly qdev?: string; readonly stats: Counters }[]

export class MachineSampler extends Sampler<'reads' | 'writes' | 'mean'> {
  readonly #qmp: QmpClient

  private constructor(qmp: QmpClient, options: SamplerOptions) {
    const { name = 'guest' } = options
    const tracks = {
      reads: new Track({ ...RATE, name: `${name}, reads` }),
      writes: new Track({ ...RATE, name: `${name}, writes` }),
      mean: new Track({ ...LATENCY, name: `${name}, mean` }),
    }
    super(tracks, options)
    this.#qmp = qmp
  }

  /** @param qmp of QEMU, which others may use as well; the sampler ends with it */
  static start(qmp: QmpClient, options: SamplerOptions): MachineSampler {
    return new MachineSampler(qmp, options).begin()
  }

  protected async run(): Promise<void> {
    let before: { readonly atMs: number; readonly counters: Counters } | undefined
    try {
      while (!this.end.aborted) {
        const counters = sum((await this.#qmp.execute('query-blockstats')) as BlockStatistics)
        const atMs = this.now()
        if (before !== undefined) this.#look(before.counters, counters, before.atMs, atMs)
        before = { atMs, counters }
        await this.pause()
      }
    } catch (error) {
      if (!(error instanceof QmpError)) throw error
      this.gap()
    }
  }

  #look(before: Counters, now: Counters, beforeMs: number, atMs: number): void {
    const grown = (...names: readonly (keyof Counters)[]): number =>
      names.reduce((total, name) => total + now[name] - before[name], 0)
    const seconds = (atMs - beforeMs) / 1000
    this.tracks.reads.add(atMs, grown('rd_bytes') / MiB / seconds)
    this.tracks.writes.add(atMs, grown('wr_bytes') / MiB / seconds)
    const requests = grown('rd_operations', 'wr_operations', 'flush_operations')
    const ns = grown('rd_total_time_ns', 'wr_total_time_ns', 'flush_total_time_ns')
    if (requests > 0) this.tracks.mean.add(atMs, ns / requests / NS_PER_MS)
  }
}

/** Of all disks that the guest has; nodes without a device are parts of them. */
function sum(disks: BlockStatistics): Counters {
  const total = (name: keyof Counters): number =>
    disks.filter(({ qdev }) => qdev !== undefined).reduce((all, { stats }) => all + stats[name], 0)
  return Object.fromEntries(COUNTERS.map((name) => [name, total(name)])) as Counters
}
