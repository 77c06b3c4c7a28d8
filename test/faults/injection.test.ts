/** Rules of a whole server: on which disks they are, from when on, and that a seed says all of it. */
import t from 'tap'
import type { DiskRole } from '../../src/faults/fault-log.js'
import { FaultInjection, type FaultedDisk, type SpareLayout } from '../../src/faults/injection.js'
import type { FaultRule } from '../../src/faults/vocabulary.js'
import { MiB, SECTOR_SIZE } from '../../src/util/units.js'

const SIZE = 16 * MiB
const DATA = { start: 8 * MiB, end: 15 * MiB }

function attach(injection: FaultInjection, role: DiskRole, name: string, layout?: () => SpareLayout | undefined) {
  const book = injection.newBook(role, name)
  const disk: FaultedDisk = {
    role,
    name,
    size: SIZE,
    book,
    isUpstream: false,
    settle: () => Promise.resolve(),
    cutPower: () => 0,
    ...(layout && { layout }),
  }
  injection.attach(disk)
  return book
}

function newServer(seed = 'seed') {
  const injection = new FaultInjection(seed)
  const main = attach(injection, 'main', 'main.img')
  const spare = attach(injection, 'spare', 'a.img', () => ({ data: DATA }))
  const second = attach(injection, 'spare', 'b.img', () => ({ data: DATA }))
  return { injection, main, spare, second }
}

const places = (injection: FaultInjection, ...rules: FaultRule[]): (readonly string[])[] =>
  injection.inject(rules).flatMap(({ parts }) => parts.map((part) => part.places))

void t.test('the same seed draws the same places, for each rule and disk others', (t) => {
  const rules: FaultRule[] = [{ 'random-sectors': 5 }, { 'random-sectors': 5 }, { disk: 'spare', clusters: 3 }]
  const first = places(newServer().injection, ...rules)
  t.same(places(newServer().injection, ...rules), first)
  t.equal(first.length, 4, 'the last one is on two spares')
  t.equal(new Set(first.map(String)).size, 4, 'and no two are alike')
  t.notSame(places(newServer('another').injection, ...rules), first)
  const own = { ...rules[0], seed: 'its own' }
  t.same(
    places(newServer('another').injection, own),
    places(newServer().injection, own),
    'a seed of its own counts more',
  )
  t.end()
})

void t.test('faults can be aimed at the metadata or the data of a spare alone', (t) => {
  const { injection, spare, main } = newServer()
  injection.inject([
    { disk: 'spare-metadata', index: 0, operations: ['write'] },
    { disk: 'spare-data', index: 0, operations: ['read'] },
  ])
  const last = SIZE - SECTOR_SIZE
  t.ok(spare.concerns('write', 0, 512) && spare.concerns('write', last, 512), 'both copies of the slot table')
  t.notOk(spare.concerns('write', DATA.start, 7 * MiB))
  t.notOk(spare.concerns('read', 0, DATA.start))
  t.ok(spare.concerns('read', DATA.end - 1, 1))
  t.notOk(main.concerns('write', 0, SIZE))
  t.match(injection.rules, [{ parts: [{ name: 'a.img', sectors: 9 * 2048, places: ['0-16383', '30720-32767'] }] }, {}])
  t.end()
})

void t.test('a rule about spares holds for those that come later, once they are formatted', (t) => {
  const injection = new FaultInjection('seed')
  injection.inject([{ disk: 'spare-metadata', clusters: 2 }, { disk: 'replica' }], true)
  t.match(injection.rules, [{ state: 'waiting' }, { state: 'waiting' }])
  const known: { layout?: SpareLayout } = {}
  const book = attach(injection, 'spare', 'later.img', () => known.layout)
  t.ok(book.isEmpty)
  known.layout = { data: DATA }
  injection.refresh()
  t.match(injection.rules, [{ state: 'active', parts: [{ sectors: 16 }] }, { state: 'waiting' }])
  injection.detach(book)
  t.match(injection.rules, [{ state: 'waiting' }, {}])
  t.end()
})

const REFUSALS: readonly (readonly [FaultRule, RegExp])[] = [
  [{ sector: 32768 }, /sector 32768 is beyond the end of main \(main\.img\), which has 32768/],
  [{ map: '5\n99999999\n' }, /'map', line 2: sector 199999998 is beyond the end/],
  [{ map: '5 x y z\n' }, /'map', line 1: is in none of the known forms/],
  [{ disk: 'replica' }, /there is no replica/],
  [{ disk: 'spare', index: 2 }, /there is no spare 2/],
  [{ disk: 'spare-data', sector: 5 }, /none of its sectors is in that part of spare 0 \(a\.img\)/],
  [{ 'random-sectors': 40_000 }, /there are 32768 places to draw 40000 from/],
  [{ within: '40000-50000', clusters: 1 }, /'within' is not on main/],
  [{ effect: 'drop-connection' }, /main \(main\.img\) is no NBD server/],
  [{ id: 'taken' }, /there is a rule 'taken' already/],
]

for (const [rule, message] of REFUSALS) {
  void t.test(`refused, with all that came with it: ${JSON.stringify(rule)}`, (t) => {
    const { injection, main } = newServer()
    injection.inject([{ id: 'taken', sector: 1 }])
    t.throws(() => injection.inject([{ sector: 2 }, rule]), { name: 'FaultRuleError', message })
    t.equal(main.rules.length, 1)
    t.match(injection.inject([{ sector: 2 }]), [{ id: 'fault-1' }], 'and no name is used up')
    t.end()
  })
}

void t.test('rules are cleared by name or all together, but only when there are all of them', async (t) => {
  const { injection, main } = newServer()
  injection.inject([{ id: 'a' }, { id: 'b' }, {}])
  await t.rejects(injection.clear(['a', 'x']), /there is no rule 'x'/)
  t.equal(main.rules.length, 3)
  t.same(await injection.clear(['a']), ['a'])
  t.same(await injection.clear(), ['b', 'fault-1'])
  t.ok(main.isEmpty)
})

void t.test('after, times and probability decide request by request', (t) => {
  const { injection, main } = newServer()
  injection.inject([{ sector: 0, after: 2, times: 3, operations: ['read'] }])
  const strikes = Array.from({ length: 8 }, () => main.strikes('read', 0, 512).length)
  t.same(strikes, [0, 0, 1, 1, 1, 0, 0, 0])
  t.match(injection.rules, [{ state: 'spent', parts: [{ requests: 5, struck: 3 }] }])
  injection.inject([{ sector: 1, probability: 0.3, operations: ['read'] }])
  let struck = 0
  for (let n = 0; n < 1000; n++) struck += main.strikes('read', 512, 512).length
  t.ok(struck > 230 && struck < 370, `${struck} of 1000`)
  t.end()
})
