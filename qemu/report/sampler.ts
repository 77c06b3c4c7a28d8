/** What samplers share: lines that grow while somebody looks again and again, until told to stop. */
import { setTimeout as pause } from 'node:timers/promises'
import type { Series } from './record.js'
import { seriesOf, type Track } from './track.js'

const INTERVAL_MS = 150

export interface SamplerOptions {
  /** Milliseconds since the run began. */
  readonly now: () => number
  readonly intervalMs?: number
  /** Stands before the names of the lines when there are several. */
  readonly name?: string
}

/** The lines that all of them have. */
export const RATE = { lane: 'throughput', unit: 'MiB/s' } as const
export const LATENCY = { lane: 'latency', unit: 'ms' } as const

export abstract class Sampler<Line extends string> {
  protected readonly tracks: Readonly<Record<Line, Track>>
  protected readonly now: () => number
  readonly #intervalMs: number
  readonly #end = new AbortController()
  #done = Promise.resolve()

  protected constructor(tracks: Readonly<Record<Line, Track>>, { now, intervalMs = INTERVAL_MS }: SamplerOptions) {
    this.tracks = tracks
    this.now = now
    this.#intervalMs = intervalMs
  }

  /** What was seen so far, without the lines of which nothing was. */
  get series(): Series[] {
    return seriesOf(this.tracks)
  }

  async stop(): Promise<void> {
    this.#end.abort()
    await this.#done
  }

  /** Looks until `end` fires. */
  protected abstract run(): Promise<void>

  /** By those who make one, when it is complete. */
  protected begin(): this {
    this.#done = this.run()
    return this
  }

  protected get end(): AbortSignal {
    return this.#end.signal
  }

  /** Nothing is known from here on. */
  protected gap(): void {
    for (const track of Object.values<Track>(this.tracks)) track.gap(this.now())
  }

  /** Until the next look; ends early when it is to stop. */
  protected async pause(ms = this.#intervalMs): Promise<void> {
    await pause(ms, undefined, { signal: this.#end.signal }).catch(() => undefined)
  }
}
