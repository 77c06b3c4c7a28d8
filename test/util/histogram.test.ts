import t from 'tap'
import { countBelow, countOf, HISTOGRAM_LENGTH, LatencyHistogram, percentile } from '../../src/util/histogram.js'
import { seededRandom } from '../support/random.js'

const newHistogram = (): LatencyHistogram =>
  new LatencyHistogram(new Float64Array(new SharedArrayBuffer(HISTOGRAM_LENGTH * 8)))

void t.test('every time falls into the bucket that says so, and buckets are an eighth of a power of two', (t) => {
  for (const ms of [0, 0.0001, 0.000125, 0.001, 0.00199, 0.002, 0.0156, 0.0157, 1, 1.024, 999, 100_000]) {
    const histogram = newHistogram()
    histogram.record(ms)
    const [bucket, ...more] = histogram.buckets()
    t.same(more, [])
    t.ok(bucket && bucket.fromMs <= ms && ms < bucket.belowMs, `${ms}: ${JSON.stringify(bucket)}`)
    t.ok(bucket && bucket.belowMs - bucket.fromMs <= Math.max(0.000125, ms / 8), `${ms}: not too wide`)
  }
  t.end()
})

void t.test('what takes for ever is counted in the last bucket', (t) => {
  const histogram = newHistogram()
  histogram.record(1e12)
  t.equal(countOf(histogram.buckets()), 1)
  t.equal(histogram.longestMs, 1e12)
  t.end()
})

void t.test('percentiles are those of the times, but for 7 percent', (t) => {
  const random = seededRandom(t)
  const histogram = newHistogram()
  const times = Array.from({ length: 20_000 }, () => 0.01 * 10 ** (random.next() * 4))
  for (const ms of times) histogram.record(ms)
  times.sort((a, b) => a - b)
  for (const share of [0.01, 0.5, 0.9, 0.99, 0.999]) {
    const exact = times[Math.ceil(times.length * share) - 1] ?? NaN
    const ratio = percentile(histogram.buckets(), share) / exact
    t.ok(ratio > 0.93 && ratio < 1.07, `${share}: ${ratio}`)
  }
  t.ok(Math.abs(histogram.sumMs / times.reduce((a, b) => a + b) - 1) < 1e-9)
  t.equal(histogram.longestMs, times.at(-1))
  for (const ms of [0.016, 1.024, 65.536]) {
    t.equal(countBelow(histogram.buckets(), ms), times.filter((time) => time < ms).length, `below ${ms} ms`)
  }
  t.end()
})

void t.test('without requests there is nothing, and clear makes it so', (t) => {
  const histogram = newHistogram()
  t.equal(percentile(histogram.buckets(), 0.5), 0)
  histogram.record(3)
  histogram.clear()
  t.same(histogram.buckets(), [])
  t.equal(histogram.sumMs + histogram.longestMs, 0)
  t.end()
})
