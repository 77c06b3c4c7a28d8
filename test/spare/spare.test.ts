import t from 'tap'
import { FaultyDevice } from '../support/faulty-device.js'
import { MemoryDevice } from '../../src/device/memory.js'
import { HEADER_OFFSETS, HEADER_SIZE, PAGE_SIZE, SLOTS_PER_PAGE } from '../../src/spare/format.js'
import { Spare } from '../../src/spare/spare.js'
import { verifySpare } from '../../src/spare/verify.js'
import { silentLog } from '../../src/util/log.js'
import { mainBlock, MiB, slotNumber } from '../../src/util/units.js'

const MAIN = { id: 'file:1', location: '/disks/main.img', fingerprint: [1, 2, 3] }

async function newSpare(size = 9 * MiB, blockSize = 4096) {
  const memory = new MemoryDevice(size, 'spare')
  const device = new FaultyDevice(memory)
  await Spare.format(device, { blockSize, main: { ...MAIN, size: MiB }, force: false }, silentLog)
  return { memory, device, open: () => Spare.open(device, silentLog) }
}

const use = (spare: Spare, number: number) =>
  spare.commit([
    {
      number: slotNumber(number),
      slot: { state: 'remapped', mainBlock: mainBlock(number % 100), generation: 1, lostMask: 0n },
    },
  ])

void t.test('a new spare is clean, empty, intact and belongs to its main', async (t) => {
  const { device, open } = await newSpare()
  const spare = await open()
  t.match(spare.header, { clean: true, ownerEpoch: 0, notes: { main: MAIN } })
  t.match(spare.geometry, { mainSize: MiB, blockSize: 4096 })
  t.same(spare.findings, { headerCopies: [], pages: [] })
  t.equal(spare.free, spare.geometry.slots)
  t.same((await verifySpare(device)).problems, [])
})

void t.test('what is not blank is not formatted unless forced, and refusing writes nothing', async (t) => {
  const { memory } = await newSpare()
  const options = { blockSize: 4096, main: { ...MAIN, size: MiB }, force: false }
  const before = Buffer.from(memory.bytes)
  await t.rejects(Spare.format(memory, options, silentLog), {
    name: 'RefusedError',
    message: /already formatted.*--force/,
  })
  const data = new MemoryDevice(9 * MiB, 'data')
  data.bytes[5 * MiB] = 1
  await t.rejects(Spare.format(data, options, silentLog), { name: 'RefusedError', message: /not blank.*--force/ })
  const small = new MemoryDevice(8 * MiB, 'small')
  await t.rejects(Spare.format(small, options, silentLog), {
    name: 'RefusedError',
    message: /too small: 8388608 bytes/,
  })
  const long = { ...options, force: true, main: { ...options.main, id: 'x'.repeat(5000) } }
  await t.rejects(Spare.format(memory, long, silentLog), { name: 'RangeError' })
  t.ok(memory.bytes.equals(before))
  await Spare.format(memory, { ...options, force: true }, silentLog)
  t.notOk((await Spare.open(memory, silentLog)).header.uuid.equals(before.subarray(16, 32)))
})

void t.test('a disk that is not a spare is refused with the way out', async (t) => {
  const blank = new MemoryDevice(9 * MiB, 'disk')
  await t.rejects(Spare.open(blank, silentLog), { name: 'RefusedError', message: /is blank: add --create/ })
  blank.bytes.fill(1)
  await t.rejects(Spare.open(blank, silentLog), { name: 'RefusedError', message: /not formatted and not blank/ })
})

void t.test('a truncated spare is refused, one that grew is not', async (t) => {
  const { memory } = await newSpare()
  const resized = (size: number) => {
    const device = new MemoryDevice(size, 'spare')
    memory.bytes.copy(device.bytes)
    return device
  }
  await t.rejects(Spare.open(resized(9 * MiB - 1), silentLog), { name: 'RefusedError', message: /truncated/ })
  await t.rejects(Spare.open(resized(3 * MiB), silentLog), { name: 'RefusedError', message: /truncated/ })
  t.equal((await Spare.open(resized(10 * MiB), silentLog)).free, (await Spare.open(memory, silentLog)).free)
})

void t.test('opening writes nothing, taking over repairs every copy and counts the owner', async (t) => {
  const { memory, device, open } = await newSpare()
  const first = await open()
  await first.takeOver(MAIN)
  await use(first, 7)
  for (const copy of [0, 1, 2, 4]) memory.bytes.fill(0x55, HEADER_OFFSETS[copy], HEADER_OFFSETS[copy]! + HEADER_SIZE)
  memory.bytes.fill(0x55, first.geometry.slotTableOffsets[0], first.geometry.slotTableOffsets[0] + PAGE_SIZE)
  const before = Buffer.from(memory.bytes)
  const spare = await open()
  t.ok(memory.bytes.equals(before))
  t.equal(spare.findings.headerCopies.length, 4)
  t.match(spare.findings.pages, [{ page: 0, lost: false }])
  t.match(await verifySpare(device), { problems: { length: 5 } })
  await spare.takeOver({ ...MAIN, location: '/new/place' })
  t.same((await verifySpare(device)).problems, [])
  const again = await open()
  t.match(again.header, { ownerEpoch: 2, clean: false, notes: { main: { location: '/new/place' } } })
  t.equal(again.slots.state(slotNumber(7)), 'remapped')
  await again.markClean(MAIN)
  t.equal((await open()).header.clean, true)
})

void t.test('a lost slot page is refused and left alone', async (t) => {
  const { memory, open } = await newSpare()
  for (const offset of (await open()).geometry.slotTableOffsets) memory.bytes.fill(0x55, offset, offset + PAGE_SIZE)
  const before = Buffer.from(memory.bytes)
  const spare = await open()
  await t.rejects(spare.takeOver(MAIN), { name: 'RefusedError', message: /1 slot page.*no intact copy/ })
  t.ok(memory.bytes.equals(before))
})

void t.test(
  'slot pages are initialised in strides, recorded in the header before a slot in them is used',
  async (t) => {
    const { memory, device, open } = await newSpare(8 * MiB + 6 * MiB, 512)
    const initial = await open()
    t.equal(initial.header.initialisedPages, 64)
    // What an earlier formatting left behind is not taken for slots.
    const beyond = initial.geometry.slotTableOffsets[0] + 64 * PAGE_SIZE
    memory.bytes.fill(0x55, beyond, beyond + PAGE_SIZE)
    const far = 64 * SLOTS_PER_PAGE
    t.ok(initial.geometry.slots > far)
    const reserved = await Promise.all([0, 1, 2].map((n) => initial.reserve(slotNumber(far + n))))
    t.same(reserved, [true, true, true])
    t.equal((await open()).header.initialisedPages, initial.geometry.slotPages)
    await use(initial, far + 1)
    t.equal((await open()).slots.state(slotNumber(far + 1)), 'remapped')
    t.same((await verifySpare(device)).problems, [])
    await t.rejects(
      initial
        .reserve(slotNumber(initial.geometry.slots))
        .then(() => initial.dataOffset(slotNumber(initial.geometry.slots))),
    )
  },
)

void t.test('a slot whose page cannot be initialised is not leaked, and one in another page is taken', async (t) => {
  const { device, open } = await newSpare(8 * MiB + 6 * MiB, 512)
  const spare = await open()
  const initialised = 64 * SLOTS_PER_PAGE
  for (let n = 0; n < initialised; n++) await spare.allocate()
  const { free } = spare
  for (const table of spare.geometry.slotTableOffsets) {
    const start = table + 64 * PAGE_SIZE
    device.add({ operations: ['write'], start, end: start + 1, code: 'EIO' })
  }
  await t.rejects(spare.allocate(), { code: 'EIO' })
  await t.rejects(spare.reserve(slotNumber(initialised)), { code: 'EIO' })
  t.equal(spare.free, free)
  spare.release([slotNumber(7)])
  t.equal(await spare.allocate(), 7)
  device.clear()
  t.equal(await spare.allocate(), initialised)
})

void t.test('a spare hands out every block once, and knows when it is full', async (t) => {
  const { open } = await newSpare(8 * MiB + 40 * 4096)
  const spare = await open()
  const { slots } = spare.geometry
  const numbers = new Set<number | undefined>()
  for (let n = 0; n < slots; n++) numbers.add(await spare.allocate())
  t.equal(numbers.size, slots)
  t.equal(await spare.allocate(), undefined)
  t.equal(spare.free, 0)
  spare.release([slotNumber(3)])
  t.equal(await spare.allocate(), 3)
})

void t.test('a spare whose metadata cannot be written at all is not taken over', async (t) => {
  const { device, open } = await newSpare()
  device.add({ operations: ['write'], start: 0, end: 9 * MiB, code: 'EIO' })
  const spare = await open()
  await t.rejects(spare.takeOver(MAIN), { code: 'EIO' })
  t.equal(spare.header.ownerEpoch, 0)
})

void t.test('header copies of an update that failed do not contradict those of the next one', async (t) => {
  const { device, open } = await newSpare()
  const spare = await open()
  await spare.takeOver(MAIN)
  device.add({ operations: ['flush'], start: 0, end: 1, code: 'EIO', times: 2 })
  await t.rejects(spare.update({ healing: 'one' }), { code: 'EIO' })
  device.add({ operations: ['write'], start: HEADER_OFFSETS[0] ?? 0, end: HEADER_SIZE, code: 'EIO' })
  await spare.update({ healing: 'two' })
  const again = await open()
  t.equal(again.header.notes.healing, 'two')
  t.equal(again.header.sequence, spare.header.sequence)
})
