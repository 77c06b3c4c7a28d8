/** Numbers in the text format of Prometheus (version 0.0.4): families with HELP and TYPE, samples with labels. */
import { countBelow, countOf, type LatencyHistogram } from '../util/histogram.js'

export const EXPOSITION_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

export type Labels = Readonly<Record<string, string>>
export type Sample = readonly [labels: Labels, value: number]

/** 1 us, 2 us, ... up to a bit more than a minute. */
const BOUNDS_MS = Array.from({ length: 27 }, (_, power) => 2 ** power / 1000)

export class Exposition {
  #text = ''

  /** The name of a counter ends in `_total`. */
  counter(name: string, help: string, samples: number | readonly Sample[]): void {
    this.#family(name, 'counter', help)
    this.#samples(name, samples)
  }

  gauge(name: string, help: string, samples: number | readonly Sample[]): void {
    this.#family(name, 'gauge', help)
    this.#samples(name, samples)
  }

  /** In seconds; the name should end so. */
  histogram(
    name: string,
    help: string,
    series: readonly (readonly [labels: Labels, latencies: LatencyHistogram])[],
  ): void {
    this.#family(name, 'histogram', help)
    for (const [labels, latencies] of series) {
      const buckets = latencies.buckets()
      const count = countOf(buckets)
      for (const boundMs of BOUNDS_MS) {
        this.#sample(`${name}_bucket`, { ...labels, le: String(boundMs / 1000) }, countBelow(buckets, boundMs))
      }
      this.#sample(`${name}_bucket`, { ...labels, le: '+Inf' }, count)
      this.#sample(`${name}_sum`, labels, latencies.sumMs / 1000)
      this.#sample(`${name}_count`, labels, count)
    }
  }

  toString(): string {
    return this.#text
  }

  #family(name: string, type: string, help: string): void {
    this.#text += `# HELP ${name} ${help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}\n# TYPE ${name} ${type}\n`
  }

  #samples(name: string, samples: number | readonly Sample[]): void {
    if (typeof samples === 'number') this.#sample(name, {}, samples)
    else for (const [labels, value] of samples) this.#sample(name, labels, value)
  }

  #sample(name: string, labels: Labels, value: number): void {
    const inside = Object.entries(labels).map(([label, text]) => `${label}="${escape(text)}"`)
    this.#text += `${name}${inside.length > 0 ? `{${inside.join(',')}}` : ''} ${String(value).replace('Infinity', 'Inf')}\n`
  }
}

const escape = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
