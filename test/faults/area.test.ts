import t from 'tap'
import { Area } from '../../src/faults/area.js'
import { seededRandom } from '../support/random.js'

const ranges = (area: Area): number[][] => [...area.ranges()].map(({ start, end }) => [start, end])

void t.test('ranges in any order become sorted, disjoint ones', (t) => {
  const area = Area.of([
    { start: 10, end: 20 },
    { start: 0, end: 5 },
    { start: 15, end: 25 },
    { start: 5, end: 6 },
  ])
  t.same(ranges(area), [
    [0, 6],
    [10, 25],
  ])
  t.equal(area.size, 21)
  t.same(area.within(4, 12), [
    { start: 4, end: 6 },
    { start: 10, end: 12 },
  ])
  t.end()
})

void t.test('it grows and heals as a set of bytes does', (t) => {
  const random = seededRandom(t)
  const area = new Area()
  const model = new Set<number>()
  for (let step = 0; step < 2000; step++) {
    const start = random.below(300)
    const end = start + random.below(20)
    const isAdding = random.below(2) === 0
    if (isAdding) area.add(start, end)
    else area.remove(start, end)
    for (let byte = start; byte < end; byte++) {
      if (isAdding) model.add(byte)
      else model.delete(byte)
    }
    const at = random.below(320)
    const length = 1 + random.below(10)
    const isBad = Array.from({ length }, (_, n) => model.has(at + n)).includes(true)
    const isSame = area.size === model.size && area.overlaps(at, at + length) === isBad
    if (!isSame) t.fail(`step ${step}: ${area.size} of ${model.size} bytes, ${at}+${length}`)
  }
  const listed = ranges(area)
  t.ok(
    listed.every(([, end = 0], n) => n === listed.length - 1 || end < (listed[n + 1]?.[0] ?? 0)),
    'no two ranges touch',
  )
  t.end()
})

void t.test('100,000 ranges are made, asked and healed without delay', (t) => {
  const area = Area.of(Array.from({ length: 100_000 }, (_, n) => ({ start: n * 1024, end: n * 1024 + 512 })))
  let found = 0
  for (let n = 0; n < 100_000; n++) if (area.overlaps(n * 1024 + 511, n * 1024 + 1024)) found++
  t.equal(found, 100_000)
  for (let n = 0; n < 1000; n++) area.remove(n * 1024, n * 1024 + 512)
  t.equal(area.count, 99_000)
  t.end()
})
