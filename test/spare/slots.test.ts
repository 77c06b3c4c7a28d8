import t from 'tap'
import { FaultyDevice } from '../support/faulty-device.js'
import { MemoryDevice } from '../../src/device/memory.js'
import { layOut, PAGE_SIZE, SLOTS_PER_PAGE, type Slot } from '../../src/spare/format.js'
import { SlotTable, type SlotUpdate } from '../../src/spare/slots.js'
import { silentLog } from '../../src/util/log.js'
import { mainBlock, MiB, slotNumber } from '../../src/util/units.js'
import { RecordingDevice } from '../support/recording-device.js'
import { SAMPLE_UUID } from '../support/samples.js'
import { seededRandom } from '../support/random.js'

const SIZE = 16 * MiB
const GEOMETRY = layOut(64 * MiB, SIZE, 4096)!
const [TABLE_0, TABLE_1] = GEOMETRY.slotTableOffsets

/** `copy 1 page 3..4` for writes to the slot table. */
function label(offset: number, length: number): string {
  const copy = offset >= TABLE_1 ? 1 : 0
  const first = (offset - GEOMETRY.slotTableOffsets[copy]) / PAGE_SIZE
  const last = first + length / PAGE_SIZE - 1
  return `copy ${copy} page ${first}${last > first ? `..${last}` : ''}`
}

async function newTable(pages = 4) {
  const memory = new MemoryDevice(SIZE, 'spare')
  const faults = new FaultyDevice(memory)
  const device = new RecordingDevice(faults, label)
  const table = new SlotTable(device, GEOMETRY, SAMPLE_UUID, silentLog)
  await table.initialise(pages)
  device.log.length = 0
  const load = async () => {
    const again = new SlotTable(faults, GEOMETRY, SAMPLE_UUID, silentLog)
    return { findings: await again.load(pages), table: again }
  }
  return { memory, faults, device, table, load }
}

const slotFor = (block: number, more: Partial<Slot> = {}): Slot => ({
  state: 'remapped',
  mainBlock: mainBlock(block),
  generation: 1,
  lostMask: 0n,
  ...more,
})
const update = (number: number, block = number, more: Partial<Slot> = {}): SlotUpdate => ({
  number: slotNumber(number),
  slot: slotFor(block, more),
})

void t.test('a commit: spare data flushed, copy 0, flush, copy 1, flush, and only then it resolves', async (t) => {
  const { device, table } = await newTable()
  const { log } = device
  await table.commit([update(5)]).then(() => log.push('resolved'))
  t.same(log, ['flush', 'write copy 0 page 0', 'flush', 'write copy 1 page 0', 'flush', 'resolved'])
})

void t.test('pages are written once for all their slots, neighbours in one write', async (t) => {
  const { device, table, load } = await newTable()
  const page = SLOTS_PER_PAGE
  await table.commit([update(3 * page), update(0), update(1), update(page + 2)])
  t.same(device.log, [
    'flush',
    'write copy 0 page 0..1',
    'write copy 0 page 3',
    'flush',
    'write copy 1 page 0..1',
    'write copy 1 page 3',
    'flush',
  ])
  const { table: again, findings } = await load()
  t.same(findings, [])
  t.same(
    [...again.used()].map(({ number }) => number),
    [0, 1, page + 2, 3 * page],
  )
  t.equal(again.count().remapped, 4)
})

void t.test(
  'commits that arrive meanwhile share the next flushes, and none resolves before they are done',
  async (t) => {
    const { device, table, load } = await newTable()
    const order: string[] = []
    const commits = Array.from({ length: 30 }, (_, n) =>
      table.commit([update(n)]).then(() => order.push(`${n} after ${device.log.length}`)),
    )
    await Promise.all(commits)
    t.equal(device.log.length, 10, 'two rounds of five')
    t.match(order[0], /^0 after [56]$/, 'the next round may have begun')
    t.ok(order.slice(1).every((entry) => entry.endsWith('after 10')))
    t.equal((await load()).table.count().remapped, 30)
  },
)

void t.test('a copy that cannot be written is given up, whichever it is', async (t) => {
  for (const [copy, offset] of [TABLE_0, TABLE_1].entries()) {
    const { faults, table, load } = await newTable()
    faults.add({ operations: ['write'], start: offset, end: offset + 1, code: 'EIO' })
    await table.commit([update(1, 77)])
    const { findings, table: again } = await load()
    t.match(findings, [{ page: 0, lost: false, bad: [{ copy, reason: /stale/ }] }])
    t.equal(again.get(slotNumber(1)).mainBlock, 77)
  }
})

void t.test(
  'before a commit resolves, the header says which copies missed it, and no longer when they are written',
  async (t) => {
    const { faults, device, table } = await newTable()
    const save = (): Promise<void> => {
      device.log.push(`header ${JSON.stringify(table.record(4).staleCopies)}`)
      return Promise.resolve()
    }
    table.header = { confirm: () => undefined, sequence: 1, save }
    faults.add({ operations: ['write'], start: TABLE_1, end: TABLE_1 + PAGE_SIZE, code: 'EIO' })
    const first = SLOTS_PER_PAGE - 1
    await table.commit([update(first), update(first + 1)]).then(() => device.log.push('resolved'))
    const written = ['write copy 1 page 1', 'flush', 'header [[1,0,1]]', 'resolved']
    t.same(device.log, ['flush', 'write copy 0 page 0..1', 'flush', ...written], 'only the bad page is given up')
    device.log.length = 0
    faults.clear()
    await table.commit([update(3)])
    const again = ['write copy 1 page 0', 'flush', 'header []', 'write copy 0 page 0', 'flush']
    t.same(
      device.log,
      ['flush', ...again],
      'the copy that is behind comes first, and is believed before the other changes',
    )
  },
)

void t.test('a copy that missed an update is not believed, even when it is the only intact one', async (t) => {
  const { memory, faults, table } = await newTable()
  faults.add({ operations: ['write'], start: TABLE_1, end: TABLE_1 + 1, code: 'EIO' })
  await table.commit([update(1, 77)])
  const { staleCopies } = table.record(4)
  const load = async () => {
    const again = new SlotTable(faults, GEOMETRY, SAMPLE_UUID, silentLog)
    return { again, findings: await again.load(4, staleCopies) }
  }
  t.match((await load()).findings, [{ page: 0, lost: false, bad: [{ copy: 1, reason: 'missed an update' }] }])
  memory.bytes[TABLE_0 + 99]! ^= 1
  t.match((await load()).findings, [{ page: 0, lost: true, bad: [{ copy: 0 }, { copy: 1 }] }])
  memory.bytes[TABLE_0 + 99]! ^= 1
  const { again, findings } = await load()
  await again.repair(findings)
  t.same(again.record(4).staleCopies, staleCopies, 'it still cannot be written')
  faults.clear()
  await again.repair(findings)
  t.same(again.record(4).staleCopies, [])
})

void t.test('the sum of the sequence numbers counts what is durable, and no more', async (t) => {
  const { faults, table, load } = await newTable()
  const sum = () => table.record(4).sequenceSum
  t.equal(sum(), 4, 'each page was written once')
  await table.commit([update(1), update(2), update(SLOTS_PER_PAGE)])
  t.equal(sum(), 6)
  faults.add({ operations: ['write'], start: TABLE_0, end: SIZE, code: 'EIO' })
  await t.rejects(table.commit([update(3)]))
  t.equal(sum(), 6)
  faults.clear()
  await table.commit([update(3)])
  t.equal(sum(), 8)
  t.equal((await load()).table.age.sequenceSum, 8)
})

void t.test('when no copy can be written the commit fails, and the next one may succeed', async (t) => {
  const { faults, table, load } = await newTable()
  faults.add({ operations: ['write'], start: TABLE_0, end: SIZE, code: 'EIO' })
  await t.rejects(table.commit([update(1, 77)]), { code: 'EIO', operation: 'write' })
  faults.clear()
  await table.commit([update(2, 78)])
  t.same((await load()).findings, [])
})

void t.test('when the spare cannot be flushed nothing is written, and nothing changes', async (t) => {
  const { faults, device, table } = await newTable()
  faults.add({ operations: ['flush'], start: 0, end: SIZE, code: 'EIO', times: 1 })
  await t.rejects(table.commit([update(1)]), { code: 'EIO', operation: 'flush' })
  t.same(device.log, ['flush'])
  t.equal(table.state(slotNumber(1)), 'free')
})

void t.test('the second copy is not begun while the first is in flight', async (t) => {
  const { faults, device, table } = await newTable()
  const going = table.commit([update(1)])
  faults.add({ operations: ['flush'], start: 1, end: 2, code: 'EIO' })
  await t.rejects(going, { code: 'EIO', operation: 'flush' })
  t.notOk(
    device.log.some((entry) => entry.includes('copy 1')),
    device.log.join(', '),
  )
})

void t.test('any damaged subset of copies is repaired, as long as every page keeps one', async (t) => {
  const random = seededRandom(t)
  for (let round = 0; round < 30; round++) {
    const { memory, faults, table, load } = await newTable(10)
    const numbers = random.sample(100, 10 * SLOTS_PER_PAGE).sort((a, b) => a - b)
    await table.commit(numbers.map((number) => update(number, number * 3, { lostMask: 5n })))
    for (let page = 0; page < 10; page++) {
      const offset = random.pick([TABLE_0, TABLE_1]) + page * PAGE_SIZE
      const how = random.below(3)
      if (how === 0) random.bytes(100).copy(memory.bytes, offset + random.below(PAGE_SIZE - 100))
      else if (how === 1)
        faults.add({ operations: ['read'], start: offset, end: offset + 1, code: 'EIO', healsOnWrite: true })
    }
    const { table: again, findings } = await load()
    t.same(
      [...again.used()].map(({ number, slot }) => [number, slot.mainBlock]),
      numbers.map((number) => [number, number * 3]),
      `SEED=${random.seed} round ${round}`,
    )
    await again.repair(findings)
    t.same((await load()).findings, [])
  }
})

void t.test('repair rewrites the bad copy and leaves the intact one alone', async (t) => {
  for (const [bad, offset] of [TABLE_0, TABLE_1].entries()) {
    const { memory, device } = await newTable()
    memory.bytes.fill(0x55, offset + PAGE_SIZE, offset + 2 * PAGE_SIZE)
    const again = new SlotTable(device, GEOMETRY, SAMPLE_UUID, silentLog)
    await again.repair(await again.load(4))
    t.same(device.log, [`write copy ${bad} page 1`, 'flush'])
    t.same(await new SlotTable(device, GEOMETRY, SAMPLE_UUID, silentLog).load(4), [])
  }
})

void t.test('a page without an intact copy is lost, and repair leaves it alone', async (t) => {
  const { memory, device, load } = await newTable()
  for (const offset of [TABLE_0, TABLE_1]) memory.bytes.fill(0x55, offset + PAGE_SIZE, offset + 2 * PAGE_SIZE)
  const { findings, table } = await load()
  t.match(findings, [{ page: 1, lost: true, bad: [{ copy: 0 }, { copy: 1 }] }])
  await table.repair(findings)
  t.same(device.log, [])
})

void t.test('pages that cannot be initialised do not count as initialised', async (t) => {
  const { faults, table } = await newTable(1)
  faults.add({ operations: ['write'], start: TABLE_0, end: SIZE, code: 'EIO' })
  await t.rejects(table.initialise(3), { code: 'EIO' })
  t.equal(table.initialisedPages, 1)
  faults.clear()
  await table.initialise(GEOMETRY.slotPages)
  t.equal(table.initialisedSlots, GEOMETRY.slots)
  t.throws(() => void table.get(slotNumber(GEOMETRY.slotPages * SLOTS_PER_PAGE)), { name: 'InvariantError' })
})
