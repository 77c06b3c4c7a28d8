import t from 'tap'
import { Budget, type Account } from '../../src/server/budget.js'
import { InvariantError } from '../../src/util/assert.js'

/** Accounts that note in `taken` when they get what they waited for. */
function setUp(bytesOwnMax: number, bytesSharedMax: number) {
  const budget = new Budget({ bytesOwnMax, bytesSharedMax })
  const taken: string[] = []
  const open = (name: string): Account => budget.open(() => taken.push(name))
  return { budget, taken, open }
}

void t.test('a connection always has its own bytes, and more while there is some', (t) => {
  const { budget, taken, open } = setUp(10, 100)
  const [a, b, c] = [open('a'), open('b'), open('c')]
  t.ok(a.take(10))
  t.notOk(a.holdsShared)
  t.ok(a.take(100))
  t.ok(a.holdsShared)
  t.notOk(b.take(11), 'nothing is left of the shared part')
  t.ok(budget.isContended)
  t.ok(c.take(10), 'its own bytes are left to it')
  t.equal(budget.held, 120)
  a.giveBack(1)
  t.same(taken, ['b'])
  t.equal(b.held, 11)
  t.notOk(budget.isContended)
  t.end()
})

void t.test('those who wait get something in the order in which they asked', (t) => {
  const { budget, taken, open } = setUp(0, 100)
  const [greedy, large, small] = [open('greedy'), open('large'), open('small')]
  t.ok(greedy.take(60))
  t.notOk(large.take(90))
  t.notOk(small.take(10), 'there would be room, but somebody was first')
  greedy.giveBack(40)
  t.same(taken, [])
  greedy.giveBack(20)
  t.same(taken, ['large', 'small'])
  t.equal(budget.held, 100)
  t.notOk(greedy.take(50))
  small.giveBack(10)
  t.same(taken, ['large', 'small'])
  large.giveBack(90)
  t.same(taken, ['large', 'small', 'greedy'])
  t.end()
})

void t.test('more than all there is is given to one at a time', (t) => {
  const { budget, taken, open } = setUp(10, 100)
  const [a, b, c] = [open('a'), open('b'), open('c')]
  t.ok(a.take(500))
  t.notOk(b.take(500))
  t.ok(c.take(10))
  a.giveBack(499)
  t.same(taken, ['b'])
  t.equal(budget.held, 511)
  t.end()
})

void t.test('who gives back enough need not wait for others', (t) => {
  const { taken, open } = setUp(10, 100)
  const [hog, first, second] = [open('hog'), open('first'), open('second')]
  t.ok(hog.take(110))
  t.ok(second.take(10))
  t.notOk(first.take(20))
  t.notOk(second.take(10))
  second.giveBack(10)
  t.same(taken, ['second'], 'its own bytes are enough again')
  hog.giveBack(110)
  t.same(taken, ['second', 'first'])
  t.end()
})

void t.test('who stops waiting makes room in the queue', (t) => {
  const { budget, taken, open } = setUp(0, 100)
  const [hog, large, small] = [open('hog'), open('large'), open('small')]
  t.ok(hog.take(50))
  t.notOk(large.take(100))
  t.notOk(small.take(50))
  large.stopWaiting()
  large.stopWaiting()
  t.same(taken, ['small'])
  t.notOk(budget.isContended)
  hog.giveBack(50)
  t.same(taken, ['small'], 'it gets nothing any more')
  t.end()
})

void t.test('giving back more than was taken is a bug', (t) => {
  const { open } = setUp(10, 100)
  t.throws(() => {
    open('a').giveBack(1)
  }, InvariantError)
  t.end()
})
