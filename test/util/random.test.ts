import t from 'tap'
import { Random } from '../../src/util/random.js'

void t.test('the same seed gives the same numbers, for ever', (t) => {
  const random = new Random('nbd-remap')
  t.equal(random.seed, 'nbd-remap')
  t.same([random.uint32(), random.uint32(), random.uint32()], [1327533584, 4250235312, 3107307838])
  t.same(new Random(5).bytes(7), new Random('5').bytes(7))
  t.notSame(new Random('a').bytes(16), new Random('b').bytes(16))
  t.end()
})

void t.test('without a seed it makes one up that can be used again', (t) => {
  const random = new Random()
  t.match(random.seed, /^[0-9a-f]{8}$/)
  t.not(new Random().seed, random.seed)
  t.equal(new Random(random.seed).next(), random.next())
  t.end()
})

void t.test('numbers are in their range and spread over it', (t) => {
  const random = new Random('spread')
  const counts = new Map<number, number>()
  for (let n = 0; n < 7000; n++) {
    const value = random.below(7)
    counts.set(value, (counts.get(value) ?? 0) + 1)
    const next = random.next()
    if (next < 0 || next >= 1) t.fail(`next() is ${next}`)
  }
  t.same([...counts.keys()].sort(), [0, 1, 2, 3, 4, 5, 6])
  for (const [value, count] of counts) t.ok(count > 850 && count < 1150, `${value} came ${count} times`)
  t.equal(random.below(1), 0)
  const heads = Array.from({ length: 1000 }, () => random.chance(30)).filter(Boolean).length
  t.ok(heads > 230 && heads < 370, `${heads} of 1000 where 300 are expected`)
  t.same([random.chance(0), random.chance(100)], [false, true])
  t.equal(random.between(5, 5), 5)
  t.throws(() => random.below(0), { name: 'InvariantError' })
  t.end()
})

void t.test('shuffle keeps the items, sample draws no number twice', (t) => {
  const random = new Random('shuffle')
  const items = Array.from({ length: 100 }, (_, index) => index)
  const shuffled = random.shuffle(items)
  t.notSame(shuffled, items)
  t.same(
    shuffled.toSorted((a, b) => a - b),
    items,
  )
  for (const [count, n] of [
    [0, 5],
    [5, 5],
    [200, 1_000_000],
  ] as const) {
    const sample = random.sample(count, n)
    t.equal(new Set(sample).size, count)
    t.ok(sample.every((value) => value >= 0 && value < n))
  }
  t.throws(() => random.sample(6, 5), { name: 'InvariantError' })
  t.ok(items.includes(random.pick(items)))
  t.end()
})
