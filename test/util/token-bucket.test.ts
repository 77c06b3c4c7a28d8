import t from 'tap'
import { TokenBucket } from '../../src/util/token-bucket.js'

void t.test('a burst, then so many a second, and never more than a burst', (t) => {
  const bucket = new TokenBucket(10, 3)
  const taken = (nowMs: number, tries: number): number =>
    Array.from({ length: tries }, () => bucket.take(nowMs)).filter(Boolean).length
  t.equal(taken(1000, 5), 3)
  t.equal(taken(1099, 5), 0)
  t.equal(taken(1100, 5), 1)
  t.equal(taken(1350, 5), 2)
  t.equal(taken(1_000_000, 50), 3)
  t.end()
})
