import t from 'tap'
import { ChangeMarks } from '../../src/remap/change-marks.js'
import { seededRandom } from '../support/random.js'

const SIZE = 40 * 4096 + 700

void t.test('agrees with a map of sectors, at random', (t) => {
  const random = seededRandom(t)
  const [marks, model] = [new ChangeMarks(SIZE), new Set<number>()]
  const sectorsOf = (offset: number, length: number): number[] => {
    const first = Math.floor(offset / 512)
    return Array.from({ length: Math.ceil((offset + length) / 512) - first }, (_, n) => first + n)
  }
  const range = (longest: number): [number, number] => {
    const offset = random.below(SIZE)
    return [offset, Math.min(random.between(1, longest), SIZE - offset)]
  }
  for (let n = 0; n < 60; n++) {
    const [offset, length] = range(random.pick([1, 512, 9000]))
    marks.add(offset, length)
    for (const sector of sectorsOf(offset, length)) model.add(sector)
    for (let look = 0; look < 50; look++) {
      const seen = range(6000)
      const expected = sectorsOf(...seen).some((sector) => model.has(sector))
      if (marks.touches(...seen) !== expected) throw new Error(`${n}: ${seen.join(' ')} is ${expected}`)
    }
    t.equal(marks.count, new Set([...model].map((sector) => Math.floor(sector / 8))).size)
  }
  const sum = new ChangeMarks(SIZE)
  sum.add(0, 100)
  sum.addAll(marks)
  for (let sector = 0; sector * 512 < SIZE; sector++) {
    t.equal(sum.touches(sector * 512, 1), sector === 0 || model.has(sector))
  }
  t.end()
})

void t.test('when too many have changed in part, further ones count as changed as a whole', (t) => {
  const marks = new ChangeMarks(70_000 * 4096)
  for (let n = 0; n < 70_000; n++) marks.add(n * 4096, 1)
  t.equal(marks.count, 70_000)
  t.notOk(marks.touches(512, 3584))
  t.ok(marks.touches(69_999 * 4096 + 512, 1))
  t.end()
})
