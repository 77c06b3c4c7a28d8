/** What a rule of the vocabulary comes to in blkdebug: the same from the same seed, and within what was said. */
import t from 'tap'
import { beyondBlkdebug, sectorRules } from '../../qemu/blkdebug.js'
import type { FaultRule } from '../../src/faults/vocabulary.js'
import { Random } from '../../src/util/random.js'

const SIZE = 1024 * 1024
const sectors = (rule: Parameters<typeof sectorRules>[0], seed = 'a'): number[] =>
  sectorRules(rule, SIZE, new Random(seed)).map(({ sector = -1 }) => sector)

void t.test('places that are said', (t) => {
  t.same(sectors({ sector: 5, count: 3 }), [5, 6, 7])
  t.same(sectors({ sectors: [1, '4-6'] }), [1, 4, 5, 6])
  t.same(sectorRules({}, SIZE, new Random('a')), [{ operation: 'both', errno: 5 }], 'without a place, all of it')
  t.match(sectorRules({ sector: 1, operations: ['write'], errno: 'ENOSPC', times: 2 }, SIZE, new Random('a')), [
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
  t.equal(sectors({ percent: 10 }).length, 26, 'one for each 4 KiB')
  t.throws(() => sectors({ clusters: 200, within: '0-799' }), /there are 100 places to draw 200 from/)
  t.end()
})

void t.test('a map is a place, too', (t) => {
  t.same(sectors({ map: '7\n8\n', 'map-unit': 512 }), [7, 8])
  t.same(sectors({ map: '0x0 + 1\n0x0 0x400 +\n0x400 0x400 -\n' }), [2, 3])
  t.end()
})

void t.test('what blkdebug cannot say is refused, and who can is named', (t) => {
  t.equal(beyondBlkdebug({ operations: ['read', 'write'], errno: 'ENOSPC', times: 2, percent: 1 }), undefined)
  const beyond: readonly (readonly [FaultRule, RegExp])[] = [
    [{ effect: 'delay', 'delay-ms': 5 }, /has the effect 'delay', which blkdebug cannot do/],
    [{ probability: 0.5 }, /has 'probability', which/],
    [{ 'heals-on-write': true }, /'heals-on-write'/],
    [{ grow: { sectors: 1, 'every-requests': 1 } }, /'grow'/],
    [{ disk: 'spare-metadata' }, /'disk'/],
    [{ errno: 'ENODEV' }, /the errno 'ENODEV'/],
    [{ operations: ['flush'] }, /the operation 'flush'/],
  ]
  for (const [rule, message] of beyond) {
    t.throws(() => sectorRules(rule, SIZE, new Random('a')), { name: 'BeyondBlkdebugError', message })
    t.throws(() => sectorRules(rule, SIZE, new Random('a')), /built-in fault device can .*--fault-injection/)
  }
  t.end()
})
