/** What a fault comes to on a disk: the same from the same seed, and within what was said. */
import t from 'tap'
import { faultRules } from '../../../qemu/lab/disk.js'
import { Random } from '../../../src/util/random.js'

const SIZE = 1024 * 1024
const sectors = (rule: Parameters<typeof faultRules>[0], seed = 'a'): number[] =>
  faultRules(rule, SIZE, new Random(seed)).map(({ sector = -1 }) => sector)

void t.test('places that are said', (t) => {
  t.same(sectors({ sector: 5, count: 3 }), [5, 6, 7])
  t.same(sectors({ sectors: [1, '4-6'] }), [1, 4, 5, 6])
  t.same(faultRules({}, SIZE, new Random('a')), [{ operation: 'both', errno: 5 }], 'without a place, all of it')
  t.match(faultRules({ sector: 1, operations: ['write'], errno: 'ENOSPC', times: 2 }, SIZE, new Random('a')), [
    { sector: 1, operation: 'write', errno: 28, times: 2 },
  ])
  t.end()
})

void t.test('places that are drawn', (t) => {
  const drawn = sectors({ clusters: 20, within: '800-1599' })
  t.equal(new Set(drawn).size, 20)
  t.ok(drawn.every((at) => at >= 800 && at + 7 <= 1599 && at % 8 === 0))
  t.same(sectors({ clusters: 20, within: '800-1599' }), drawn, 'the same seed')
  t.not(sectors({ clusters: 20, within: '800-1599' }, 'b').join(), drawn.join(), 'another seed')
  t.equal(sectors({ clusters: 2, 'cluster-sectors': 3 }).length, 6)
  t.throws(() => sectors({ clusters: 200, within: '0-799' }), /cannot draw 200 clusters from 100/)
  t.end()
})
