/** The text for Prometheus, and that its reader here would find what is wrong with one. */
import t from 'tap'
import { Exposition } from '../../src/control/exposition.js'
import { HISTOGRAM_LENGTH, LatencyHistogram } from '../../src/util/histogram.js'
import { parsePrometheus } from '../support/prometheus.js'

void t.test('what is written is read', (t) => {
  const latencies = new LatencyHistogram(new Float64Array(HISTOGRAM_LENGTH))
  for (const ms of [0.0005, 0.0015, 0.0016, 1, 999_999]) latencies.record(ms)
  const to = new Exposition()
  to.counter('a_total', 'Backslash \\ and\nnew line.', 5)
  to.gauge('b', 'Labels.', [
    [{ name: 'quote " backslash \\ and\nnew line, comma }' }, 0.5],
    [{ name: 'other' }, Infinity],
  ])
  to.histogram('c_seconds', 'Times.', [[{ operation: 'read' }, latencies]])
  const families = parsePrometheus(to.toString())
  t.same([...families.keys()], ['a_total', 'b', 'c_seconds'])
  t.match(families.get('b')?.samples, [
    { labels: { name: 'quote " backslash \\ and\nnew line, comma }' }, value: 0.5 },
    { value: Infinity },
  ])
  const samples = families.get('c_seconds')?.samples ?? []
  const below = (le: string): number | undefined => samples.find(({ labels }) => labels['le'] === le)?.value
  t.same([below('0.000001'), below('0.000002'), below('0.000512'), below('0.001024'), below('+Inf')], [1, 3, 3, 4, 5])
  const sum = samples.find(({ name }) => name === 'c_seconds_sum')?.value ?? NaN
  t.ok(Math.abs(sum - 1000.0000026) < 1e-6, String(sum))
  t.end()
})

void t.test('the reader refuses what Prometheus would refuse', (t) => {
  const head = '# HELP a_total x\n# TYPE a_total counter\n'
  const histogram = '# HELP h_seconds x\n# TYPE h_seconds histogram\n'
  for (const [text, message] of [
    [`${head}a_total 1`, /no end/],
    ['a_total 1\n', /outside a family/],
    ['# TYPE a_total counter\na_total 1\n', /without HELP/],
    [`${head}a_total 1\n${head}a_total 2\n`, /comes twice/],
    [`${head}a_total 1\na_total 2\n`, /twice/],
    [`${head}a_total{x="1",x="2"} 1\n`, /labels/],
    [`${head}a_total{x="a"b"} 1\n`, /labels/],
    [`${head}a_total 1,5\n`, /no number/],
    [`${head}b_total 1\n`, /b_total in a_total/],
    [`${head.replace('counter', 'gauge')}a_total 1\n`, /is a gauge/],
    [`${histogram}h_seconds_bucket{le="1"} 1\nh_seconds_sum 1\nh_seconds_count 1\n`, /bounds/],
    [`${histogram}h_seconds_bucket{le="1"} 2\nh_seconds_bucket{le="+Inf"} 1\nh_seconds_count 1\n`, /not cumulative/],
    [`${histogram}h_seconds_bucket{le="+Inf"} 1\nh_seconds_sum 1\nh_seconds_count 2\n`, /count/],
  ] as const) {
    t.throws(() => parsePrometheus(text), { message }, text)
  }
  t.end()
})
