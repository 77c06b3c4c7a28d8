/** What a timeline shows, and where: the decisions, without a drawing. */
import t from 'tap'
import {
  allMarks,
  gapsOf,
  markLanes,
  outagesOf,
  seriesLanes,
  spanOf,
  stepsOf,
} from '../../../qemu/report/html/lanes.js'
import { axisOf, niceTicks } from '../../../qemu/report/html/scale.js'
import { formatMs, formatNumber, formatQuantity } from '../../../qemu/report/quantity.js'
import type { Mark, Point, Series } from '../../../qemu/report/record.js'
import { thin } from '../../../qemu/report/thin.js'
import { killedRun } from '../../support/run-records.js'

const line = (points: readonly Point[], unit = 'MiB/s'): Series => ({
  lane: 'throughput',
  name: 'writes',
  unit,
  points,
})

void t.test('ticks are 1, 2 or 5 times a power of ten, and reach the greatest value', (t) => {
  t.same(niceTicks(60, 10), [0, 10, 20, 30, 40, 50, 60])
  t.same(niceTicks(38, 2), [0, 20, 40])
  t.same(niceTicks(0.0007, 2), [0, 0.0005, 0.001])
  t.same(niceTicks(0, 2), [0, 1], 'nothing to show')
  t.same(niceTicks(NaN, 2), [0, 1])
  t.end()
})

void t.test('an axis is logarithmic only where that is allowed and the values ask for it', (t) => {
  t.equal(axisOf([0.1, 900], true).logarithmic, true)
  t.equal(axisOf([0.1, 900], false).logarithmic, false)
  t.equal(axisOf([10, 900], true).logarithmic, false)
  const axis = axisOf([0.1, 1000], true)
  t.same(
    [0, 0.1, 10, 1000].map((value) => Number(axis.place(value).toFixed(6))),
    [0, 0, 0.5, 1],
  )
  t.end()
})

void t.test('a lane has the same axis as the one beside it', (t) => {
  const [lane] = seriesLanes(killedRun({ series: [line([[0, 10]])] }), [killedRun({ series: [line([[0, 95]])] })])
  t.equal(lane?.axis.ticks.at(-1), 100)
  t.end()
})

void t.test('series of one lane with different units do not share an axis', (t) => {
  const series = [line([[0, 10]]), line([[0, 99]], 'requests/s')]
  t.same(
    seriesLanes(killedRun({ series })).map(({ unit }) => unit),
    ['MiB/s', 'requests/s'],
  )
  t.end()
})

void t.test('a gap lasts from the last value before it to the first after it', (t) => {
  const points: Point[] = [
    [0, null],
    [1, 5],
    [2, null],
    [3, null],
    [7, 5],
    [8, null],
  ]
  t.same(gapsOf(line(points)), [{ fromMs: 1, toMs: 7 }])
  t.end()
})

void t.test('a step lasts until the next one, or as long as it says', (t) => {
  const marks: Mark[] = [
    { atMs: 5000, kind: 'step', text: 'second', durationMs: 1000 },
    { atMs: 0, kind: 'step', text: 'first' },
    { atMs: 9000, kind: 'step', text: 'third' },
  ]
  t.same(
    stepsOf(killedRun({ marks })).map(({ text, fromMs, toMs }) => [text, fromMs, toMs]),
    [
      ['first', 0, 5000],
      ['second', 5000, 6000],
      ['third', 9000, 12_000],
    ],
  )
  t.end()
})

void t.test('what happened after the end is still shown', (t) => {
  t.equal(spanOf(killedRun({ marks: [{ atMs: 13_000, kind: 'note', text: 'late', durationMs: 500 }] })), 13_500)
  t.same(outagesOf(killedRun()), [{ fromMs: 6000, toMs: 6240 }])
  t.end()
})

void t.test('a check is told once, and in red when it does not hold', (t) => {
  const checks = [
    { name: 'nothing is lost', ok: false, atMs: 1000 },
    { name: 'e2fsck finds nothing', ok: true, atMs: 2000 },
  ]
  const marks: Mark[] = [{ atMs: 1000, kind: 'check', text: 'NOT ok: nothing is lost' }]
  t.same(
    allMarks(killedRun({ checks, marks })).map(({ text, failed = false }) => [text, failed]),
    [
      ['NOT ok: nothing is lost', true],
      ['e2fsck finds nothing', false],
    ],
  )
  t.end()
})

void t.test('of very many marks an even selection is drawn, and all are counted', (t) => {
  const marks = Array.from({ length: 10_000 }, (_, n): Mark => ({ atMs: n, kind: 'fault', text: String(n) }))
  const [lane] = markLanes(killedRun({ marks, checks: [] }))
  t.equal(lane?.total, 10_000)
  t.equal(lane?.marks.length, 2000)
  t.same(
    lane?.marks.slice(0, 3).map(({ atMs }) => atMs),
    [0, 5, 10],
  )
  t.end()
})

void t.test('a line is thinned to its extremes, in order', (t) => {
  const points: Point[] = [
    [0, 1],
    [1, 9],
    [2, 0],
    [3, 1],
    [4, null],
    [5, 2],
    [6, 3],
    [7, 2],
  ]
  t.same(thin(points, 8), points)
  t.same(thin(points, 4), [
    [1, 9],
    [2, 0],
    [4, null],
    [5, 2],
    [6, 3],
  ])
  t.end()
})

void t.test('numbers as people read them', (t) => {
  t.same([0, 0.01234, 4.567, 99.96, 1234.5, NaN, Infinity].map(formatNumber), [
    '0',
    '0.0123',
    '4.57',
    '100',
    '1,235',
    'unknown',
    'unlimited',
  ])
  t.equal(formatQuantity(7, ''), '7')
  t.equal(formatQuantity(NaN, 'ms'), 'unknown')
  t.same([0.4, 240, 1580, 12_340, 125_000].map(formatMs), ['0.4 ms', '240 ms', '1.58 s', '12.3 s', '2 min 05 s'])
  t.end()
})
