/**
 * `Recording`: what a part of the demonstration leaves behind for its report. It follows servers and machines from when
 * they are told to it until `end`, through their restarts.
 */
import { EventLog, follow, followAgain } from '../lab/events.js'
import { Timeline } from '../lab/timeline.js'
import type { Machine } from '../machine.js'
import type { RemapServer } from '../remap-server.js'
import { MachineSampler } from '../report/machine-sampler.js'
import type { RunRecord, Series } from '../report/record.js'
import { ServerSampler } from '../report/server-sampler.js'
import type { Narrator } from './narrator.js'

/** The line of a server that is shown. */
const SLOWEST = 'server, 99 %'

export class Recording {
  readonly timeline = new Timeline()
  readonly #events = new EventLog(this.timeline)
  readonly #end = new AbortController()
  /** By control socket: the next server at the same one is the same line. */
  readonly #servers = new Map<string, ServerSampler>()
  readonly #machines: MachineSampler[] = []
  readonly #following: Promise<void>[] = []

  /** Tells the timeline what it tells the narrator: the acts are its headings. */
  narrator(narrator: Narrator): Narrator {
    const { timeline } = this
    return {
      act: (title) => {
        timeline.mark('step', title)
        narrator.act(title)
      },
      step: (text) => {
        timeline.mark('note', text)
        narrator.step(text)
      },
      fact: (text) => {
        timeline.mark('note', text)
        narrator.fact(text)
      },
    }
  }

  server({ controlPath }: RemapServer): void {
    if (this.#servers.has(controlPath)) return
    this.#servers.set(controlPath, ServerSampler.start(controlPath, { now: this.#now }))
    this.#following.push(followAgain(this.#events, 'server', controlPath, this.#end.signal))
  }

  machine({ qmp }: Machine): void {
    this.#machines.push(MachineSampler.start(qmp, { now: this.#now }))
    // It ends with the connection.
    void follow(this.#events, 'QEMU', qmp)
  }

  /** Ends following. The timeline stays. */
  async end(): Promise<void> {
    this.#end.abort()
    await Promise.all([...this.#servers.values(), ...this.#machines].map((sampler) => sampler.stop()))
    await Promise.all(this.#following)
  }

  /** What a record has of it. */
  get told(): Pick<RunRecord, 'startedAt' | 'durationMs' | 'series' | 'marks'> {
    const { timeline } = this
    const series = joined([...this.#machines.flatMap((sampler) => sampler.series), ...this.#latencies])
    const marks = [...timeline.marks].sort((a, b) => a.atMs - b.atMs)
    return { startedAt: timeline.startedAt.toISOString(), durationMs: timeline.now(), series, marks }
  }

  /** What the guest reads and writes is seen from QEMU; what of its latency is the server's, only from the server. */
  get #latencies(): Series[] {
    return [...this.#servers.values()].flatMap((sampler) => sampler.series.filter(({ name }) => name === SLOWEST))
  }

  readonly #now = (): number => this.timeline.now()
}

/** One machine after the other is one line. */
function joined(series: readonly Series[]): Series[] {
  const lines = new Map<string, Series>()
  for (const one of series) {
    const line = lines.get(one.name)
    lines.set(one.name, line === undefined ? one : { ...line, points: [...line.points, ...one.points] })
  }
  return [...lines.values()]
}
