import t from 'tap'
import { STALE_RUNS_MAX } from '../../src/spare/format.js'
import { StaleCopies } from '../../src/spare/stale-copies.js'

void t.test('neighbours are one run, and come back from it', (t) => {
  const stale = new StaleCopies()
  for (const page of [7, 5, 6, 9]) stale.add(1, page)
  stale.add(0, 6)
  const runs = [
    [0, 6, 1],
    [1, 5, 3],
    [1, 9, 1],
  ]
  t.same(stale.runs(), runs)
  t.same(new StaleCopies(stale.runs()).runs(), runs)
  t.end()
})

void t.test('only changes count as changes', (t) => {
  const stale = new StaleCopies()
  stale.add(1, 5)
  stale.add(1, 5)
  stale.delete(0, 5)
  t.equal(stale.changes, 1)
  t.ok(stale.has(1, 5))
  stale.delete(1, 5)
  t.equal(stale.changes, 2)
  t.same(stale.runs(), [])
  t.end()
})

void t.test('runs that do not fit are joined where that costs least, and never over the only good copy', (t) => {
  const stale = new StaleCopies()
  for (let n = 0; n < STALE_RUNS_MAX; n++) stale.add(1, 10 * n)
  t.equal(stale.runs()?.length, STALE_RUNS_MAX)
  stale.add(1, 13)
  const runs = stale.runs()
  t.equal(runs?.length, STALE_RUNS_MAX)
  t.same(runs?.slice(0, 3), [
    [1, 0, 1],
    [1, 10, 4],
    [1, 20, 1],
  ])
  stale.add(0, 11)
  const apart = stale.runs()
  t.equal(apart?.length, STALE_RUNS_MAX)
  t.notOk(apart?.some(([copy, first, count]) => copy === 1 && first <= 11 && first + count > 11))
  t.end()
})

void t.test('what cannot be joined is said not to fit', (t) => {
  const stale = new StaleCopies()
  for (let n = 0; n <= STALE_RUNS_MAX; n++) stale.add(n % 2, n)
  t.equal(stale.runs(), undefined)
  t.end()
})
