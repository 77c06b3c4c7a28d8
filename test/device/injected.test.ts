/** What a disk does on order: every effect of the vocabulary, over a disk in memory. */
import t from 'tap'
import { InjectedDevice } from '../../src/device/injected.js'
import { MemoryDevice } from '../../src/device/memory.js'
import type { FaultEntry } from '../../src/faults/fault-log.js'
import { FaultInjection } from '../../src/faults/injection.js'
import type { FaultRule } from '../../src/faults/vocabulary.js'
import { SECTOR_SIZE } from '../../src/util/units.js'
import { answer, pattern, readFrom } from '../support/rig.js'

const SECTORS = 64
const SIZE = SECTORS * SECTOR_SIZE

function newDisk(...rules: FaultRule[]) {
  const below = new MemoryDevice(SIZE, 'disk')
  pattern(0, SIZE).copy(below.bytes)
  const injection = new FaultInjection('seed')
  const book = injection.newBook('main', 'disk')
  const dropped: string[] = []
  const device = new InjectedDevice(below, book, {
    onDrop: (connection) => {
      dropped.push(connection)
    },
  })
  injection.attach({
    role: 'main',
    name: 'disk',
    size: SIZE,
    book,
    isUpstream: true,
    settle: () => device.settle(),
    cutPower: () => device.cutPower(),
  })
  injection.inject(rules)
  return { below, device, injection, dropped, log: () => entriesOf(injection) }
}

const entriesOf = ({ log }: FaultInjection): FaultEntry[] => log.query({ since: 0, limit: 1000 })

const sector = (bytes: Buffer, n: number): Buffer => bytes.subarray(n * SECTOR_SIZE, (n + 1) * SECTOR_SIZE)
const original = (n: number): Buffer => pattern(n * SECTOR_SIZE, SECTOR_SIZE)
const filled = (value: number, sectors = 1): Buffer => Buffer.alloc(sectors * SECTOR_SIZE, value)
const changed = (bytes: Buffer): number[] =>
  Array.from({ length: SECTORS }, (_, n) => n).filter((n) => !sector(bytes, n).equals(original(n)))

void t.test('error: the request fails with the number of its entry, and the disk is not touched', async (t) => {
  const { device, below, log } = newDisk({ id: 'bad', sector: 8, errno: 'ENOSPC' })
  await t.rejects(
    answer(() => device.write(7 * SECTOR_SIZE, [filled(9, 2)])),
    { code: 'ENOSPC', fault: 1, message: /injected, fault 1/ },
  )
  t.same(changed(below.bytes), [])
  await device.write(9 * SECTOR_SIZE, [filled(9)])
  t.match(log(), [
    {
      number: 1,
      rule: 'bad',
      disk: 'main',
      operation: 'write',
      offset: 7 * SECTOR_SIZE,
      length: 1024,
      error: 'ENOSPC',
    },
  ])
})

void t.test('requests that no rule can strike stay synchronous, and others do not', async (t) => {
  const { device, injection } = newDisk({ sector: 8 })
  const into = Buffer.alloc(SECTOR_SIZE)
  t.equal(device.read(0, into), undefined)
  t.equal(device.write(0, [into]), undefined)
  t.equal(device.readNow(8 * SECTOR_SIZE, into, 0, SECTOR_SIZE), false)
  t.equal(injection.log.last, 0, 'and what is not done at once counts nothing')
  const struck = device.read(8 * SECTOR_SIZE, into)
  t.ok(struck instanceof Promise)
  await t.rejects(Promise.resolve(struck))
})

void t.test('a map of 100,000 bad sectors is asked in no time', (t) => {
  const size = 200_000 * SECTOR_SIZE
  const injection = new FaultInjection('seed')
  const book = injection.newBook('main', 'disk')
  injection.attach({
    role: 'main',
    name: 'disk',
    size,
    book,
    isUpstream: false,
    settle: () => Promise.resolve(),
    cutPower: () => 0,
  })
  const map = Array.from({ length: 100_000 }, (_, n) => `${2 * n}\n`).join('')
  const [rule] = injection.inject([{ map, 'map-unit': 512 }])
  t.match(rule, { parts: [{ sectors: 100_000, places: { length: 100 } }] })
  t.equal((rule?.rule.map?.length ?? 0) < 300, true, 'its text is not shown whole')
  let bad = 0
  for (let n = 0; n < 200_000; n++) if (book.concerns('read', n * SECTOR_SIZE, SECTOR_SIZE)) bad++
  t.equal(bad, 100_000)
  t.end()
})

void t.test('hang: held until the rule is cleared, and then carried out', async (t) => {
  const { device, injection, below } = newDisk({ effect: 'hang', sector: 3, operations: ['write'] })
  const order: string[] = []
  const hanging = answer(() => device.write(3 * SECTOR_SIZE, [filled(9)])).then(() => order.push('written'))
  await device.write(0, [filled(9)])
  order.push('another one')
  t.same(changed(below.bytes), [0])
  await injection.clear()
  order.push('cleared')
  await hanging
  t.same(order.slice(0, 1), ['another one'])
  t.ok(order.includes('written'))
  t.same(changed(below.bytes), [0, 3])
})

void t.test('hang and gone for a time end by themselves', async (t) => {
  const { device } = newDisk(
    { effect: 'hang', 'duration-ms': 1, sector: 3 },
    { effect: 'gone', 'duration-ms': 1, after: 1 },
  )
  await readFrom(device, 3 * SECTOR_SIZE, SECTOR_SIZE)
  await t.rejects(readFrom(device, 0, SECTOR_SIZE), { code: 'ENODEV' })
  const isBack = async (): Promise<boolean> =>
    readFrom(device, 0, SECTOR_SIZE).then(
      () => true,
      () => false,
    )
  while (!(await isBack()));
  t.pass('it is back')
})

void t.test('gone: everything fails until so many requests have, or it is cleared', async (t) => {
  const { device, injection } = newDisk({ effect: 'gone', times: 2 })
  await t.rejects(readFrom(device, 0, SECTOR_SIZE), { code: 'ENODEV' })
  await t.rejects(
    answer(() => device.flush()),
    { code: 'ENODEV' },
  )
  await device.flush()
  injection.inject([{ effect: 'gone' }])
  await t.rejects(
    answer(() => device.trim(0, SIZE)),
    { code: 'ENODEV' },
  )
  await injection.clear()
  await device.trim(0, SIZE)
})

void t.test('delay: a request is late, and further rules strike it all the same', async (t) => {
  const { device, log } = newDisk({ effect: 'delay', 'delay-ms': 5 }, { sector: 1, operations: ['read'] })
  const startMs = performance.now()
  await device.write(0, [filled(1)])
  t.ok(performance.now() - startMs >= 4, 'timers are allowed to be a little early')
  await t.rejects(readFrom(device, SECTOR_SIZE, SECTOR_SIZE), { code: 'EIO' })
  t.match(log().slice(1), [{ effect: 'delay', 'delay-ms': 5 }, { effect: 'error' }])
})

void t.test('corrupt: reads bring other bits, and the disk has the true ones', async (t) => {
  const { device, below } = newDisk({ effect: 'corrupt', sectors: '2-3', bits: 5 })
  const seen = await readFrom(device, 0, 4 * SECTOR_SIZE)
  t.same(changed(below.bytes), [])
  for (const n of [0, 1]) t.ok(sector(seen, n).equals(original(n)))
  for (const n of [2, 3]) t.equal(differingBits(sector(seen, n), original(n)), 5)
})

const differingBits = (a: Buffer, b: Buffer): number => {
  let bits = 0
  for (const [n, byte] of a.entries()) for (let x = byte ^ (b[n] ?? 0); x > 0; x >>= 1) bits += x & 1
  return bits
}

void t.test('corrupt: writes put zeros, garbage, nothing, or something elsewhere on the disk', async (t) => {
  const write = async (corruption: NonNullable<FaultRule['corruption']>): Promise<Buffer> => {
    const { device, below } = newDisk({ effect: 'corrupt', corruption, operations: ['write'], sector: 5 })
    await device.write(4 * SECTOR_SIZE, [filled(9, 2)])
    return below.bytes
  }
  const zeros = await write('zeros')
  t.ok(sector(zeros, 4).equals(filled(9)) && sector(zeros, 5).equals(filled(0)))
  const garbage = await write('garbage')
  t.ok(sector(garbage, 4).equals(filled(9)) && !sector(garbage, 5).equals(filled(9)))
  t.same(changed(await write('stale')), [], 'a lost write: the old content stays')
  const elsewhere = changed(await write('misdirected'))
  t.equal(elsewhere.length, 2)
  t.not(elsewhere[0], 4)
  const { device } = newDisk({ effect: 'corrupt', corruption: 'misdirected' })
  const seen = await readFrom(device, 0, SECTOR_SIZE)
  t.notOk(seen.equals(original(0)), 'a read from another place')
})

void t.test('tear: some sectors reach the disk, never all of them', async (t) => {
  const { device, below } = newDisk({ effect: 'tear', id: 'torn' })
  await t.rejects(
    answer(() => device.write(0, [filled(9, 16)])),
    { code: 'EIO', fault: 1 },
  )
  const torn = changed(below.bytes)
  t.ok(torn.length > 0 && torn.length < 16, `sectors ${torn.join(' ')}`)
  const silent = newDisk({ effect: 'tear', tearing: 'prefix', acknowledge: true })
  await silent.device.write(0, [filled(9, 16)])
  const prefix = changed(silent.below.bytes)
  t.ok(prefix.length < 16)
  t.same(prefix, [...prefix.keys()], 'the first ones')
})

void t.test('lie: what was acknowledged, and flushed, is gone after a power cut', async (t) => {
  const { device, below, injection } = newDisk({ effect: 'lie' })
  await device.write(100, [Buffer.alloc(1000, 9)])
  await device.flush()
  await device.write(20 * SECTOR_SIZE, [filled(8)], { fua: true })
  await device.writeZeroes(30 * SECTOR_SIZE, SECTOR_SIZE)
  t.same(changed(below.bytes), [], 'nothing has reached the disk')
  const seen = await readFrom(device, 0, SIZE)
  t.same(changed(seen), [0, 1, 2, 20, 30], 'and everything can be read')
  t.ok(seen.subarray(0, 100).equals(pattern(0, 100)), 'around what was written in part, too')
  t.match(injection.cutPower(), [{ disk: 'main', 'lost-bytes': 5 * SECTOR_SIZE }])
  t.same(changed(await readFrom(device, 0, SIZE)), [])
})

void t.test('lie: without flush among its operations it is an honest cache', async (t) => {
  const { device, below, injection } = newDisk({ effect: 'lie', operations: ['write'] })
  await device.write(0, [filled(9, 2)])
  await device.write(8 * SECTOR_SIZE, [filled(9)], { fua: true })
  t.same(changed(below.bytes), [0, 1, 8], 'FUA is a flush')
  await device.write(10 * SECTOR_SIZE, [filled(9)])
  await device.flush()
  t.same(changed(below.bytes), [0, 1, 8, 10])
  await device.write(12 * SECTOR_SIZE, [filled(9)])
  await injection.clear()
  t.same(changed(below.bytes), [0, 1, 8, 10, 12], 'and so is the end of the rule')
})

void t.test('lie: a write that is not held does not lose to an older one that is', async (t) => {
  const { device, below, injection } = newDisk({ effect: 'lie', times: 1 })
  await device.write(0, [filled(1, 4)])
  await device.write(SECTOR_SIZE, [filled(2)])
  t.ok(sector(await readFrom(device, 0, SIZE), 1).equals(filled(2)))
  await injection.clear()
  t.ok(sector(below.bytes, 1).equals(filled(2)))
  t.ok(sector(below.bytes, 3).equals(filled(1)))
})

void t.test('lie: a part of the sectors reaches the disk all the same', async (t) => {
  const { device, below } = newDisk({ effect: 'lie', 'kept-percent': 50 })
  await device.write(0, [filled(9, SECTORS)])
  const kept = changed(below.bytes).length
  t.ok(kept > 0 && kept < SECTORS, `${kept} sectors`)
  t.same(changed(await readFrom(device, 0, SIZE)).length, SECTORS)
})

void t.test('drop-connection: once, and the request goes its way', async (t) => {
  const { device, dropped } = newDisk(
    { effect: 'drop-connection', after: 1 },
    { effect: 'drop-connection', connection: 'clients', times: 2 },
  )
  for (let n = 0; n < 4; n++) await readFrom(device, 0, SECTOR_SIZE)
  t.same(dropped, ['clients', 'upstream', 'clients'])
})

void t.test('heals-on-write: whole sectors are good again', async (t) => {
  const { device, injection } = newDisk({ sectors: '0-7', operations: ['read'], 'heals-on-write': true })
  await device.write(0, [filled(1, 4)])
  await readFrom(device, 0, 4 * SECTOR_SIZE)
  await t.rejects(readFrom(device, 4 * SECTOR_SIZE, SECTOR_SIZE))
  t.match(injection.rules, [{ parts: [{ sectors: 4, places: ['4-7'] }] }])
})

void t.test('grow: by the requests of the disk, at its edges, within bounds', async (t) => {
  const { device, injection } = newDisk({
    sector: 20,
    within: '16-31',
    operations: ['trim'],
    grow: { sectors: 2, 'every-requests': 2, 'up-to': 9 },
  })
  const sizes: (number | undefined)[] = []
  for (let n = 0; n < 40; n++) {
    await readFrom(device, 0, SECTOR_SIZE)
    sizes.push(injection.rules[0]?.parts[0]?.sectors)
  }
  t.same(sizes.slice(0, 4), [1, 3, 3, 5])
  t.ok((sizes.at(-1) ?? 0) <= 9 && (sizes.at(-1) ?? 0) > 5, `${String(sizes.at(-1))} sectors`)
  const [place = ''] = injection.rules[0]?.parts[0]?.places ?? []
  const [first = 0, last = 0] = place.split('-').map(Number)
  t.ok(first >= 16 && last <= 31 && first <= 20 && last >= 20, place)
})

void t.test('ageing: slow first, then in need of retries, then bad', async (t) => {
  const { device, injection, log } = newDisk({
    effect: 'ageing',
    sector: 5,
    'delay-ms': 1,
    'slow-after': 10,
    'weak-after': 100,
    'bad-after': 300,
  })
  const stages = new Map<number, string>()
  for (let n = 0; n < 460; n++) {
    const outcome = await readFrom(device, 5 * SECTOR_SIZE, SECTOR_SIZE).then(
      () => 'read',
      () => 'failed',
    )
    stages.set(n, outcome)
  }
  const outcomes = [...stages.values()]
  t.notOk(outcomes.slice(0, 50).includes('failed'))
  t.ok(outcomes.slice(150, 160 + 140).includes('failed'), 'weak: some reads fail')
  t.notOk(outcomes.slice(-5).includes('read'), 'bad: all fail')
  t.ok(log().some(({ effect, error, ...entry }) => effect === 'ageing' && entry['delay-ms'] === 1 && !error))
  await t.rejects(
    answer(() => device.write(5 * SECTOR_SIZE, [filled(1)])),
    { code: 'EIO' },
  )
  t.match(injection.rules, [{ parts: [{ 'bad-sectors': 1 }] }])
})
