import t from 'tap'
import { Budget } from '../../src/server/budget.js'
import { InvariantError } from '../../src/util/assert.js'

void t.test('those who wait are woken in their order while there is something to have', (t) => {
  const budget = new Budget(100)
  const woken: string[] = []
  const first = () => {
    woken.push('first')
    budget.take(60)
  }
  const second = () => void woken.push('second')
  budget.take(150)
  t.ok(budget.exhausted)
  budget.wait(first)
  budget.wait(second)
  budget.wait(first)
  budget.giveBack(50)
  t.same(woken, [], 'still exhausted')
  budget.giveBack(60)
  t.same(woken, ['first'], 'who took what there was')
  budget.giveBack(50)
  t.same(woken, ['first', 'second'])
  t.equal(budget.held, 50)
  t.end()
})

void t.test('one that waits again, or no more, is not woken twice', (t) => {
  const budget = new Budget(10)
  let wakes = 0
  const greedy = () => {
    wakes++
    budget.take(10)
    budget.wait(greedy)
  }
  budget.take(10)
  budget.wait(greedy)
  budget.giveBack(10)
  t.equal(wakes, 1)
  budget.stopWaiting(greedy)
  budget.giveBack(10)
  t.equal(wakes, 1)
  t.end()
})

void t.test('giving back more than was taken is a bug', (t) => {
  t.throws(() => {
    new Budget(10).giveBack(1)
  }, InvariantError)
  t.end()
})
