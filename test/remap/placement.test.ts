import t from 'tap'
import { DeviceError } from '../../src/device/device.js'
import { FaultyDevice } from '../support/faulty-device.js'
import { MemoryDevice } from '../../src/device/memory.js'
import { Placement, type NewRemap } from '../../src/remap/placement.js'
import { listRemaps } from '../../src/remap/listing.js'
import { rescue } from '../../src/remap/rescue.js'
import { RemapTable } from '../../src/remap/table.js'
import { PAGE_SIZE, SLOTS_PER_PAGE, type Geometry } from '../../src/spare/format.js'
import { SparePool } from '../../src/spare/pool.js'
import { Spare } from '../../src/spare/spare.js'
import { silentLog } from '../../src/util/log.js'
import { mainBlock, MiB, slotNumber } from '../../src/util/units.js'
import { RecordingDevice } from '../support/recording-device.js'
import { answer, badSectors, createRig, onlySpare, pattern, POLICY, readFrom } from '../support/rig.js'

const BLOCK = 4096

async function newPlacement(size = 9 * MiB) {
  const memory = new MemoryDevice(size, 'spare')
  const faults = new FaultyDevice(memory)
  const main = { id: 'x', location: 'y', fingerprint: [], size: MiB }
  await Spare.format(memory, { blockSize: BLOCK, main, force: false }, silentLog)
  const log: string[] = []
  const geometry = (await Spare.open(memory, silentLog)).geometry
  const device = new RecordingDevice(faults, (offset) => placeOf(offset, geometry), log)
  const found = await Spare.identify(device)
  const pool = await SparePool.open([{ ...found, device, location: '/spare' }], found.header.notes.pool, silentLog)
  const { spare } = pool.memberOf(slotNumber(0))
  const table = new RemapTable(256, pool.records)
  const tell = table.set.bind(table)
  table.set = (block, slot) => {
    log.push(`table ${block} -> ${slot}`)
    tell(block, slot)
  }
  const events: string[] = []
  const emit = (name: string) => events.push(name)
  const placement = new Placement({ pool, table, generation: 1, lowShare: 0.1, emit, log: silentLog })
  return { faults, spare, table, log, events, placement }
}

function placeOf(offset: number, geometry: { dataOffset: number; slotTableOffsets: readonly number[] }): string {
  const copy = geometry.slotTableOffsets.indexOf(offset)
  return copy >= 0 ? `slots ${copy}` : `block ${(offset - geometry.dataOffset) / BLOCK}`
}

const remap = (block: number, more: Partial<NewRemap> = {}): NewRemap => ({
  block: mainBlock(block),
  content: [Buffer.alloc(BLOCK, block)],
  lostMask: 0n,
  reason: 'write-error',
  ...more,
})

const COMMIT = ['flush', 'write slots 0', 'flush', 'write slots 1', 'flush']

void t.test('content is written before the commit, and the table is told after it', async (t) => {
  const { placement, log, events } = await newPlacement()
  await placement.place([remap(7), remap(9)]).then(() => log.push('resolved'))
  t.same(log, ['write block 0', 'write block 1', ...COMMIT, 'table 7 -> 0', 'table 9 -> 1', 'resolved'])
  t.same(events, ['REMAP_ADDED', 'REMAP_ADDED'])
})

void t.test('a slot that is replaced is retired in a commit of its own, after the new one is in force', async (t) => {
  const { placement, log, spare } = await newPlacement()
  await placement.place([remap(7)])
  log.length = 0
  await placement.place([remap(7, { retires: slotNumber(0), reason: 'spare-error' })])
  t.same(log, ['write block 1', ...COMMIT, 'table 7 -> 1', ...COMMIT])
  t.equal(spare.slots.state(slotNumber(0)), 'retired')
})

void t.test('spare blocks that cannot be written are retired, and the next ones are taken', async (t) => {
  const { placement, faults, spare, table } = await newPlacement()
  const first = spare.dataOffset(slotNumber(0))
  faults.add({ operations: ['write'], start: first, end: first + 2 * BLOCK, code: 'EIO' })
  const free = spare.free
  await placement.place([remap(7)])
  t.equal(table.lookup(mainBlock(7)), 2)
  t.same(
    [0, 1, 2].map((n) => spare.slots.state(slotNumber(n))),
    ['retired', 'retired', 'remapped'],
  )
  t.equal(spare.free, free - 3)
})

void t.test('a full spare says so once, and gives back what the request had taken', async (t) => {
  const { placement, spare, table, events } = await newPlacement(8 * MiB + 14 * BLOCK)
  const { slots } = spare.geometry
  await placement.place(Array.from({ length: slots - 1 }, (_, n) => remap(n)))
  t.ok(events.includes('SPARE_LOW'))
  for (let n = 0; n < 2; n++)
    await t.rejects(placement.place([remap(100), remap(101)]), { name: 'SpareExhaustedError' })
  t.equal(spare.free, 1)
  t.equal(table.lookup(mainBlock(100)), undefined)
  await placement.place([remap(100)])
  t.equal(events.filter((event) => event === 'SPARE_EXHAUSTED').length, 1)
})

/** Makes the writes of both copies of these slot pages fail. */
function failPages(faults: FaultyDevice, { slotTableOffsets }: Geometry, first: number, count: number): void {
  for (const table of slotTableOffsets) {
    const start = table + first * PAGE_SIZE
    faults.add({ operations: ['write'], start, end: start + count * PAGE_SIZE, code: 'EIO' })
  }
}

void t.test('when a slot page cannot be written in any copy, a slot in another page is taken', async (t) => {
  const { placement, faults, spare, table } = await newPlacement()
  failPages(faults, spare.geometry, 0, 1)
  await placement.place([remap(7), remap(8)])
  t.same(
    [7, 8].map((block) => table.lookup(mainBlock(block))),
    [SLOTS_PER_PAGE, SLOTS_PER_PAGE + 1],
  )
  t.equal(placement.inDoubt.size, 0, 'the newer slot settles it')
  t.ok(placement.haunted.has(mainBlock(7)), 'but the older one may be on the disk')
  await placement.place([remap(9)])
  t.equal(table.lookup(mainBlock(9)), SLOTS_PER_PAGE + 2, 'the failing page is left alone while there are others')
})

void t.test('when no slot page can be written the blocks are in doubt, and not in force', async (t) => {
  const { placement, faults, spare, table } = await newPlacement()
  const { slotPages } = spare.geometry
  failPages(faults, spare.geometry, 0, slotPages)
  await t.rejects(placement.place([remap(7)]), { name: 'InDoubtError' })
  t.ok(placement.inDoubt.has(mainBlock(7)))
  t.equal(table.count, 0)
  faults.clear()
  await placement.place([remap(8)])
  t.not(table.lookup(mainBlock(8)), 0, 'nobody else gets the slot in doubt')
  await placement.place([remap(7)])
  t.equal(placement.inDoubt.size, 0)
})

void t.test('when nothing was committed nothing is in doubt, and the slot is free again', async (t) => {
  const { placement, faults, spare, table } = await newPlacement()
  const free = spare.free
  faults.add({ operations: ['flush'], start: 0, end: 1, code: 'EIO', times: 1 })
  await t.rejects(placement.place([remap(7)]), { code: 'EIO', operation: 'flush' })
  t.equal(placement.inDoubt.size, 0)
  t.equal(spare.free, free)
  await placement.place([remap(7)])
  t.equal(table.lookup(mainBlock(7)), 0)
})

void t.test('blocks in doubt refuse writes until a slot can be written, and then take them', async (t) => {
  const rig = await createRig()
  rig.main.add(badSectors(['read'], 18), badSectors(['write'], 40, 8))
  await t.rejects(readFrom(rig.target, 18 * 512, 1), DeviceError)
  const { geometry } = onlySpare(rig.target)
  failPages(rig.spare, geometry, 0, geometry.slotPages)
  await t.rejects(
    answer(() => rig.target.write(18 * 512, [Buffer.alloc(512, 7)])),
    { code: 'EIO' },
    'healing',
  )
  await t.rejects(
    answer(() => rig.target.write(5 * BLOCK, [Buffer.alloc(BLOCK, 7)])),
    { code: 'EIO' },
    'moving',
  )
  rig.main.clear()
  await t.rejects(
    answer(() => rig.target.write(5 * BLOCK, [Buffer.alloc(BLOCK, 8)])),
    { code: 'EIO' },
  )
  await t.rejects(
    answer(() => rig.target.writeZeroes(0, 8 * BLOCK)),
    { code: 'EIO' },
  )
  await rig.target.write(0, [Buffer.alloc(2 * BLOCK, 8)])
  t.same(await readFrom(rig.target, 4 * BLOCK, BLOCK), pattern(4 * BLOCK, BLOCK))
  rig.spare.clear()
  await rig.target.write(5 * BLOCK + 1, [Buffer.alloc(BLOCK - 1, 8)])
  const { ranges } = await listRemaps(rig.target, { fromSector: 40, limit: 10 })
  t.same(
    ranges.map(({ mainSector, sectors }) => [mainSector, sectors]),
    [[40, 8]],
    'listed once, where it is now',
  )
  await rig.target.write(18 * 512, [Buffer.alloc(512, 9)])
  const again = await rig.reopen()
  t.same(await readFrom(again.target, 5 * BLOCK + 1, BLOCK - 1), Buffer.alloc(BLOCK - 1, 8))
  t.same(await readFrom(again.target, 18 * 512, 512), Buffer.alloc(512, 9))
  t.same(await readFrom(again.target, 5 * BLOCK, 1), pattern(5 * BLOCK, 1))
})

void t.test('a lost sector of a block whose move is in doubt stays lost', async (t) => {
  const rig = await createRig()
  rig.main.add(badSectors(['read'], 18))
  await t.rejects(readFrom(rig.target, 18 * 512, 1), DeviceError)
  const spare = onlySpare(rig.target)
  failPages(rig.spare, spare.geometry, 0, spare.geometry.slotPages)
  const block = spare.dataOffset(slotNumber(0)) / 512
  rig.spare.add(badSectors(['write'], block, 8))
  await t.rejects(
    answer(() => rig.target.write(16 * 512, [Buffer.alloc(512, 7)])),
    { code: 'EIO' },
  )
  await t.rejects(readFrom(rig.target, 18 * 512, 1), { code: 'EIO' })
  t.same(await readFrom(rig.target, 19 * 512, 512), pattern(19 * 512, 512))
})

void t.test('rescue: whole when it can be read late, sector by sector when not, ENODEV when nothing can', async (t) => {
  const memory = new MemoryDevice(64 * BLOCK)
  pattern(0, memory.size).copy(memory.bytes)
  const disk = new FaultyDevice(memory)
  disk.add(badSectors(['read'], 9, 1, { times: 1 }))
  t.same(await rescue(disk, BLOCK, BLOCK, { ...POLICY, retries: 2 }), { content: pattern(BLOCK, BLOCK), lostMask: 0n })
  disk.add(badSectors(['read'], 9), badSectors(['read'], 15))
  const partial = pattern(BLOCK, BLOCK)
  partial.fill(0, 512, 1024)
  partial.fill(0, 3584, 4096)
  t.same(await rescue(disk, BLOCK, BLOCK, POLICY), { content: partial, lostMask: 0b1000_0010n })
  disk.add(badSectors(['read'], 8, 8))
  t.match(await rescue(disk, BLOCK, BLOCK, { ...POLICY, retries: 0 }), { lostMask: 0xffn })
  disk.add(badSectors(['read'], 0, 512))
  await t.rejects(rescue(disk, BLOCK, BLOCK, POLICY), { code: 'ENODEV' })
  disk.clear()
  disk.add(badSectors(['read'], 9, 1, { code: 'ETIMEDOUT' }))
  await t.rejects(rescue(disk, BLOCK, BLOCK, POLICY), { code: 'ETIMEDOUT' })
})
