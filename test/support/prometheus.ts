/**
 * A reader of Prometheus' text format (version 0.0.4) that forgives nothing: https://prometheus.io/docs/instrumenting/exposition_formats.
 * Beyond the grammar it wants HELP and TYPE before the samples of a family, all of them together, no sample twice, the names
 * that the conventions ask for, and histograms that add up.
 */

export interface PrometheusSample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

export interface Family {
  readonly name: string
  readonly help: string
  readonly type: string
  readonly samples: PrometheusSample[]
}

const TYPES = ['counter', 'gauge', 'histogram', 'summary', 'untyped']
const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*'
const SAMPLE = new RegExp(`^(${NAME})(?:\\{(.*)\\})? (\\S+)$`)
const LABEL = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)/
const NUMBER = /^(?:[+-]?Inf|NaN|[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)$/i
const SUFFIXES: Readonly<Record<string, readonly string[]>> = { histogram: ['_bucket', '_sum', '_count'] }

export function parsePrometheus(text: string): Map<string, Family> {
  if (!text.endsWith('\n')) throw new Error('the last line has no end')
  const families = new Map<string, Family>()
  let current: Family | undefined
  let help: { name: string; text: string } | undefined
  for (const line of text.slice(0, -1).split('\n')) {
    const comment = new RegExp(`^# (HELP|TYPE) (${NAME}) (.*)$`).exec(line)
    if (comment) {
      const [, kind, name = '', rest = ''] = comment
      if (kind === 'HELP') {
        if (help) throw new Error(`HELP of ${help.name} without TYPE`)
        help = { name, text: rest }
        continue
      }
      if (help?.name !== name) throw new Error(`TYPE of ${name} without HELP before it`)
      if (!TYPES.includes(rest)) throw new Error(`${name} has type ${rest}`)
      if (families.has(name)) throw new Error(`${name} comes twice`)
      current = { name, help: help.text, type: rest, samples: [] }
      families.set(name, current)
      help = undefined
    } else {
      if (!current || help) throw new Error(`a sample outside a family: ${line}`)
      current.samples.push(sampleIn(line, current))
    }
  }
  for (const family of families.values()) checkFamily(family)
  return families
}

function sampleIn(line: string, { name: family, type }: Family): PrometheusSample {
  const [, name = '', labels = '', number = ''] = SAMPLE.exec(line) ?? []
  if (name === '') throw new Error(`no sample: ${line}`)
  if (!(SUFFIXES[type] ?? ['']).some((suffix) => name === family + suffix)) throw new Error(`${name} in ${family}`)
  if (!NUMBER.test(number)) throw new Error(`no number: ${line}`)
  return { name, labels: labelsIn(labels, line), value: Number(number.replace(/inf/i, 'Infinity')) }
}

function labelsIn(text: string, line: string): Record<string, string> {
  const labels: Record<string, string> = {}
  for (let rest = text; rest !== '';) {
    const [whole = '', name = '', value = ''] = LABEL.exec(rest) ?? []
    if (whole === '' || Object.hasOwn(labels, name)) throw new Error(`labels of ${line}`)
    labels[name] = value.replace(/\\(.)/g, (_, it: string) => (it === 'n' ? '\n' : it))
    rest = rest.slice(whole.length)
  }
  return labels
}

const keyOf = ({ name, labels }: PrometheusSample): string => name + JSON.stringify(Object.entries(labels).sort())

function checkFamily({ name, help, type, samples }: Family): void {
  if (help.trim() === '') throw new Error(`${name} has no help`)
  if (new Set(samples.map(keyOf)).size !== samples.length) throw new Error(`${name} has a sample twice`)
  if ((type === 'counter') !== name.endsWith('_total')) throw new Error(`${name} is a ${type}`)
  if (/_(ms|us|milliseconds|kib|mib|sectors_bytes|percent)(_|$)/i.test(name))
    throw new Error(`${name}: not a base unit`)
  if (type === 'counter' && samples.some(({ value }) => !(value >= 0))) throw new Error(`${name} counts backwards`)
  if (type === 'histogram') checkHistogram(name, samples)
}

function checkHistogram(name: string, samples: readonly PrometheusSample[]): void {
  const series = new Map<string, PrometheusSample[]>()
  for (const sample of samples) {
    const { le, ...labels } = sample.labels
    if ((le !== undefined) !== sample.name.endsWith('_bucket')) throw new Error(`${name}: le belongs to buckets`)
    const key = JSON.stringify(labels)
    series.set(key, [...(series.get(key) ?? []), sample])
  }
  for (const [key, all] of series) {
    const buckets = all.filter((it) => it.name.endsWith('_bucket'))
    const bounds = buckets.map(({ labels }) => Number(labels['le']?.replace('+Inf', 'Infinity')))
    const isSorted = bounds.every((bound, n) => n === 0 || bound > (bounds[n - 1] ?? NaN))
    if (!isSorted || bounds.at(-1) !== Infinity) throw new Error(`${name}${key}: bounds ${bounds.join(' ')}`)
    if (buckets.some(({ value }, n) => value < (buckets[n - 1]?.value ?? 0)))
      throw new Error(`${name}${key}: not cumulative`)
    const count = all.find((it) => it.name === `${name}_count`)?.value
    if (count === undefined || count !== buckets.at(-1)?.value)
      throw new Error(`${name}${key}: the count is another one`)
    if (!all.some((it) => it.name === `${name}_sum`)) throw new Error(`${name}${key} has no sum`)
  }
}
