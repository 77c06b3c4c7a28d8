import t from 'tap'
import { DeviceError } from '../../src/device/device.js'
import { addRemaps, batchOf } from '../../src/remap/admin.js'
import { mainBlock, SECTOR_SIZE, slotNumber } from '../../src/util/units.js'
import {
  answer,
  badSectors,
  createRig,
  onlySpare,
  pattern,
  POLICY,
  readFrom,
  spareOffsetOf,
  type Rig,
} from '../support/rig.js'
import { seededRandom } from '../support/random.js'

const BLOCK = 4096
const SECTORS = BLOCK / SECTOR_SIZE
const fill = (byte: number, length: number): Buffer[] => [Buffer.alloc(length, byte)]
const remappedBlocks = (rig: Rig): number[] =>
  [...rig.target.table.entries()].map(([block]) => block).sort((a, b) => a - b)
const eventsOf = (rig: Rig, name: string) => rig.events.filter(([event]) => event === name).map(([, data]) => data)

void t.test('without faults everything goes to main, and nothing is remapped', async (t) => {
  const rig = await createRig()
  await rig.target.write(1000, fill(1, 10_000))
  await rig.target.writeZeroes(20_000, 5000)
  await rig.target.trim(30_000, 1000)
  await rig.target.flush()
  t.same(await readFrom(rig.target, 990, 20), Buffer.concat([pattern(990, 10), ...fill(1, 10)]))
  t.same(rig.mainBytes.subarray(20_000, 25_000), Buffer.alloc(5000))
  t.equal(rig.target.table.count, 0)
  t.match(rig.target.statistics, { writes: 1, bytesWritten: 10_000, reads: 1, trims: 1, writeZeroes: 1, flushes: 1 })
})

void t.test('requests of no length touch nothing, requests that leave the disk are bugs', async (t) => {
  const rig = await createRig()
  await rig.target.read(rig.target.size, Buffer.alloc(0))
  await rig.target.write(0, [])
  await rig.target.trim(0, 0)
  await rig.target.writeZeroes(0, 0)
  t.equal(rig.target.statistics.writes, 0)
  await t.rejects(
    answer(() => rig.target.read(rig.target.size, Buffer.alloc(1))),
    { name: 'InvariantError' },
  )
  await t.rejects(
    answer(() => rig.target.write(-1, fill(1, 1))),
    { name: 'InvariantError' },
  )
})

void t.test('a failed write of any size and alignment moves exactly the bad blocks it touches', async (t) => {
  const random = seededRandom(t)
  for (let round = 0; round < 60; round++) {
    const rig = await createRig({ mainSize: 64 * BLOCK + random.pick([0, 700]) })
    const bad = random.sample(random.between(1, 8), 64)
    for (const block of bad) rig.main.add(badSectors(['write'], block * SECTORS, SECTORS))
    const offset = random.below(rig.target.size - 1)
    const data = random.bytes(random.between(1, rig.target.size - offset))
    await rig.target.write(offset, [data])
    const touched = bad.filter((block) => block * BLOCK < offset + data.length && (block + 1) * BLOCK > offset)
    t.same(
      remappedBlocks(rig),
      touched.sort((a, b) => a - b),
      `SEED=${random.seed} round ${round}`,
    )
    const expected = pattern(0, rig.target.size)
    data.copy(expected, offset)
    t.ok((await readFrom(rig.target, 0, rig.target.size)).equals(expected))
  }
})

void t.test('remaps of one request are announced together, and every bad block is reported', async (t) => {
  const rig = await createRig()
  rig.main.add(badSectors(['write'], 2 * SECTORS, 3 * SECTORS))
  await rig.target.write(0, fill(1, 8 * BLOCK))
  t.same(eventsOf(rig, 'REMAP_ADDED'), [
    { 'main-sector': 16, spare: 'spare', 'spare-sector': 0, sectors: 24, reason: 'write-error', 'lost-sectors': 0 },
  ])
  t.match(
    eventsOf(rig, 'IO_ERROR'),
    [16, 24, 32].map((sector) => ({ disk: 'main', sector, sectors: 8, action: 'remapped' })),
  )
})

void t.test('exactly the lost sectors answer EIO, their neighbours in the block stay readable', async (t) => {
  const rig = await createRig()
  rig.main.add(badSectors(['read'], 18, 2))
  await t.rejects(readFrom(rig.target, 2 * BLOCK, BLOCK), { code: 'EIO', operation: 'read', offset: 18 * SECTOR_SIZE })
  for (let sector = 16; sector < 24; sector++) {
    const read = readFrom(rig.target, sector * SECTOR_SIZE, SECTOR_SIZE)
    if (sector === 18 || sector === 19) await t.rejects(read, DeviceError)
    else t.same(await read, pattern(sector * SECTOR_SIZE, SECTOR_SIZE))
  }
  await t.rejects(readFrom(rig.target, 18 * SECTOR_SIZE - 1, 2), DeviceError, 'one byte of it is enough')
  rig.main.clear()
  const again = await rig.reopen()
  await t.rejects(readFrom(again.target, 19 * SECTOR_SIZE, 1), DeviceError, 'it stays lost after a restart')
  t.same(await readFrom(again.target, 20 * SECTOR_SIZE, 1), pattern(20 * SECTOR_SIZE, 1))
})

void t.test('a lost sector heals when it is written whole, and refuses to be written in part', async (t) => {
  const rig = await createRig()
  rig.main.add(badSectors(['read'], 18, 2))
  await t.rejects(readFrom(rig.target, 18 * SECTOR_SIZE, 1), DeviceError)
  await t.rejects(
    answer(() => rig.target.write(18 * SECTOR_SIZE, fill(7, 100))),
    { code: 'EIO', operation: 'write' },
  )
  await t.rejects(
    answer(() => rig.target.write(17 * SECTOR_SIZE, fill(7, SECTOR_SIZE + 1))),
    { code: 'EIO' },
  )
  await rig.target.write(16 * SECTOR_SIZE + 5, fill(7, 10))
  await rig.target.write(18 * SECTOR_SIZE, fill(7, SECTOR_SIZE))
  t.same(await readFrom(rig.target, 18 * SECTOR_SIZE, SECTOR_SIZE), Buffer.alloc(SECTOR_SIZE, 7))
  await t.rejects(readFrom(rig.target, 19 * SECTOR_SIZE, 1), DeviceError, 'the other one is still lost')
  await rig.target.writeZeroes(2 * BLOCK, BLOCK)
  const again = await rig.reopen()
  t.same(await readFrom(again.target, 2 * BLOCK, BLOCK), Buffer.alloc(BLOCK))
})

void t.test('the short last sector of an odd disk can be lost and healed', async (t) => {
  const rig = await createRig({ mainSize: 10 * BLOCK + 100 })
  rig.main.add({ operations: ['read'], start: 10 * BLOCK, end: 10 * BLOCK + 100, code: 'EIO' })
  await t.rejects(readFrom(rig.target, 10 * BLOCK, 100), DeviceError)
  await rig.target.write(10 * BLOCK, fill(7, 100))
  t.same(
    await readFrom(rig.target, 9 * BLOCK, BLOCK + 100),
    Buffer.concat([pattern(9 * BLOCK, BLOCK), ...fill(7, 100)]),
  )
})

void t.test('a write into a part of a bad block keeps the rest of it', async (t) => {
  const rig = await createRig()
  rig.main.add(badSectors(['write'], 16, 8), badSectors(['read'], 23))
  await rig.target.write(2 * BLOCK + 700, fill(7, 600))
  const expected = pattern(2 * BLOCK, 7 * SECTOR_SIZE)
  expected.fill(7, 700, 1300)
  t.same(await readFrom(rig.target, 2 * BLOCK, 7 * SECTOR_SIZE), expected)
  await t.rejects(readFrom(rig.target, 23 * SECTOR_SIZE, 1), DeviceError, 'what could not be read is lost')
  t.match(eventsOf(rig, 'REMAP_ADDED'), [{ reason: 'write-error', 'lost-sectors': 1 }])
})

void t.test('a block that is read late is weak and moves while it can be read', async (t) => {
  const rig = await createRig()
  // The request, and the read again that precedes the rescue of the block.
  rig.main.add(badSectors(['read'], 18, 1, { times: 2 }))
  t.same(await readFrom(rig.target, 2 * BLOCK, BLOCK), pattern(2 * BLOCK, BLOCK))
  t.match(eventsOf(rig, 'REMAP_ADDED'), [{ reason: 'weak', 'main-sector': 16, 'lost-sectors': 0 }])
  t.match(eventsOf(rig, 'IO_ERROR'), [{ action: 'recovered' }])
})

void t.test('a disk on which nothing can be read loses no block', async (t) => {
  const rig = await createRig()
  rig.main.add(badSectors(['read'], 0, 64 * SECTORS))
  await t.rejects(readFrom(rig.target, 2 * BLOCK, BLOCK), { code: 'ENODEV' })
  rig.main.clear()
  t.same(await readFrom(rig.target, 2 * BLOCK, BLOCK), pattern(2 * BLOCK, BLOCK))
  t.equal(rig.target.table.count, 0)
})

void t.test(
  'a disk that reads somewhere is not gone, although its first, middle and last sectors are bad',
  async (t) => {
    const rig = await createRig()
    rig.main.add(
      badSectors(['read'], 0, SECTORS),
      badSectors(['read'], 32 * SECTORS - 2, 4),
      badSectors(['read'], 64 * SECTORS - 1),
    )
    rig.main.add(badSectors(['write'], 0, SECTORS))
    await rig.target.write(SECTOR_SIZE, fill(7, SECTOR_SIZE))
    t.same(await readFrom(rig.target, SECTOR_SIZE, SECTOR_SIZE), Buffer.alloc(SECTOR_SIZE, 7))
    await t.rejects(readFrom(rig.target, 0, 1), { code: 'EIO' })
  },
)

void t.test('a disk that is gone, or refuses, is not remapped away', async (t) => {
  for (const code of ['ENODEV', 'ETIMEDOUT', 'ESHUTDOWN', 'ENOSPC', 'ENOMEM'] as const) {
    const rig = await createRig()
    rig.main.add(badSectors(['read', 'write'], 0, 8, { code }))
    await t.rejects(
      answer(() => rig.target.write(0, fill(1, 8 * BLOCK))),
      { code },
    )
    await t.rejects(readFrom(rig.target, 0, BLOCK), { code })
    t.equal(rig.target.table.count, 0)
    rig.main.clear()
    await rig.target.write(0, fill(1, BLOCK))
  }
})

void t.test('with onReadError zero lost sectors read as zeros, and nothing else does', async (t) => {
  const rig = await createRig({ policy: { onReadError: 'zero' } })
  rig.main.add(badSectors(['read'], 18))
  const expected = pattern(2 * BLOCK, 2 * BLOCK)
  expected.fill(0, 2 * SECTOR_SIZE, 3 * SECTOR_SIZE)
  t.same(await readFrom(rig.target, 2 * BLOCK, 2 * BLOCK), expected)
  t.same(await readFrom(rig.target, 2 * BLOCK + 1030, 500), expected.subarray(1030, 1530), 'again, now from the spare')
})

void t.test('a spare block that fails a write is retired alone, and its content moves on', async (t) => {
  const rig = await createRig()
  rig.main.add(badSectors(['write'], 2 * SECTORS, 3 * SECTORS))
  await rig.target.write(2 * BLOCK, fill(1, 3 * BLOCK))
  rig.spare.add(badSectors(['write'], spareOffsetOf(rig.target, 3)! / SECTOR_SIZE))
  await rig.target.write(2 * BLOCK, fill(2, 3 * BLOCK))
  const { slots } = onlySpare(rig.target)
  t.same(
    [0, 1, 2, 3].map((slot) => slots.state(slotNumber(slot))),
    ['remapped', 'retired', 'remapped', 'remapped'],
    'the healthy blocks beside it stay',
  )
  t.equal(rig.target.table.lookup(mainBlock(3)), 3)
  const again = await rig.reopen()
  t.same(await readFrom(again.target, 2 * BLOCK, 3 * BLOCK), Buffer.alloc(3 * BLOCK, 2))
})

void t.test('a spare block that cannot be read loses its unreadable sectors only', async (t) => {
  const rig = await createRig()
  rig.main.add(badSectors(['write'], 2 * SECTORS, SECTORS))
  await rig.target.write(2 * BLOCK, fill(1, BLOCK))
  rig.spare.add(badSectors(['read'], spareOffsetOf(rig.target, 2)! / SECTOR_SIZE + 3))
  await t.rejects(readFrom(rig.target, 2 * BLOCK, BLOCK), { code: 'EIO', offset: 2 * BLOCK + 3 * SECTOR_SIZE })
  t.same(await readFrom(rig.target, 2 * BLOCK, 3 * SECTOR_SIZE), Buffer.alloc(3 * SECTOR_SIZE, 1))
  t.match(eventsOf(rig, 'REMAP_ADDED').at(-1), { reason: 'spare-error', 'lost-sectors': 1 })
})

void t.test('a block that moves from one spare block to another keeps its lost sectors', async (t) => {
  for (const operation of ['read', 'write'] as const) {
    const rig = await createRig()
    rig.main.add(badSectors(['read'], 18))
    await t.rejects(readFrom(rig.target, 18 * SECTOR_SIZE, 1), DeviceError)
    rig.spare.add(badSectors([operation], spareOffsetOf(rig.target, 2)! / SECTOR_SIZE + 4))
    if (operation === 'read') await t.rejects(readFrom(rig.target, 20 * SECTOR_SIZE, 1), DeviceError)
    else await rig.target.write(20 * SECTOR_SIZE, fill(7, SECTOR_SIZE))
    t.equal(rig.target.table.lookup(mainBlock(2)), 1)
    rig.spare.clear()
    await t.rejects(readFrom(rig.target, 18 * SECTOR_SIZE, 1), { code: 'EIO' }, operation)
    t.same(await readFrom(rig.target, 19 * SECTOR_SIZE, 1), pattern(19 * SECTOR_SIZE, 1))
  }
})

void t.test('of two slots for one block the newer one wins, and the other is retired', async (t) => {
  for (const [newer, older] of [
    [3, 5],
    [5, 3],
  ] as const) {
    const rig = await createRig()
    const spare = onlySpare(rig.target)
    for (const [slot, generation] of [
      [newer, 20],
      [older, 10],
    ] as const) {
      const number = slotNumber(slot)
      await spare.reserve(number)
      await spare.device.write(spare.dataOffset(number), fill(generation, BLOCK))
      const content = { state: 'remapped', mainBlock: mainBlock(9), lostMask: 0n, generation } as const
      await spare.commit([{ number, slot: content }])
    }
    const { target } = await rig.reopen()
    t.equal(target.table.lookup(mainBlock(9)), newer)
    t.same(await readFrom(target, 9 * BLOCK, BLOCK), Buffer.alloc(BLOCK, 20))
    t.equal(onlySpare(target).slots.state(slotNumber(older)), 'retired')
    await target.placement.setLostMask(slotNumber(newer), 0n)
    t.ok(onlySpare(target).slots.get(slotNumber(newer)).generation > 20, 'generations go on from the highest')
  }
})

void t.test('flush covers the spare when something was written there, and main always', async (t) => {
  const rig = await createRig()
  rig.main.add(badSectors(['write'], 16, 8))
  await rig.target.write(2 * BLOCK, fill(1, BLOCK))
  rig.spare.add({ operations: ['flush'], start: 0, end: rig.spare.size, code: 'EIO' })
  await rig.target.flush()
  await rig.target.write(2 * BLOCK, fill(2, BLOCK))
  await t.rejects(
    answer(() => rig.target.flush()),
    { code: 'EIO', operation: 'flush' },
  )
  await t.rejects(
    answer(() => rig.target.flush()),
    { code: 'EIO' },
    'and it fails until it succeeds',
  )
  rig.spare.clear()
  await rig.target.flush()
  rig.main.add({ operations: ['flush'], start: 0, end: rig.main.size, code: 'EIO' })
  await t.rejects(
    answer(() => rig.target.flush()),
    { code: 'EIO' },
  )
})

void t.test('FUA reaches the disk that is written to, on main, on the spare, and beside lost sectors', async (t) => {
  const rig = await createRig()
  rig.main.add(badSectors(['write'], 16, 8), badSectors(['read'], 24))
  await rig.target.write(2 * BLOCK, fill(1, BLOCK))
  await t.rejects(readFrom(rig.target, 3 * BLOCK, 1), DeviceError)
  const places = [
    { name: 'main', device: rig.main, offset: 0 },
    { name: 'spare', device: rig.spare, offset: 2 * BLOCK },
    { name: 'spare beside a lost sector', device: rig.spare, offset: 3 * BLOCK + SECTOR_SIZE },
  ]
  for (const { name, device, offset } of places) {
    const remaps = rig.target.table.count
    device.add({ operations: ['flush'], start: 0, end: device.size, code: 'EIO', times: 1 })
    await rig.target.write(offset, fill(2, 100))
    t.match(device.rules, [{}], `${name}: no flush without FUA`)
    await t.rejects(
      answer(() => rig.target.write(offset, fill(2, 100), { fua: true })),
      { code: 'EIO', operation: 'flush' },
      name,
    )
    t.equal(rig.target.table.count, remaps, `${name}: a flush that fails moves no block`)
    await rig.target.write(offset, fill(2, 100), { fua: true })
    device.clear()
    rig.main.add(badSectors(['write'], 16, 8))
  }
})

void t.test('a failed FUA write is durable after its repair, the good blocks too', async (t) => {
  const rig = await createRig()
  rig.main.add(badSectors(['write'], 16, 8))
  rig.main.add({ operations: ['flush'], start: 0, end: rig.main.size, code: 'EIO', times: 1 })
  await t.rejects(
    answer(() => rig.target.write(0, fill(1, 8 * BLOCK), { fua: true })),
    { code: 'EIO', operation: 'flush' },
  )
})

void t.test('trim and zeroes over a mixture of main and spare', async (t) => {
  const rig = await createRig()
  rig.main.add(badSectors(['write', 'write-zeroes', 'trim'], 16, 16))
  await rig.target.write(2 * BLOCK, fill(1, BLOCK))
  await rig.target.trim(0, 8 * BLOCK)
  t.same(remappedBlocks(rig), [2], 'a trim moves nothing')
  t.same(await readFrom(rig.target, 2 * BLOCK, BLOCK), Buffer.alloc(BLOCK, 1), 'a remapped block keeps its content')
  await rig.target.writeZeroes(BLOCK + 5, 4 * BLOCK, { fua: true, noHole: true })
  t.same(remappedBlocks(rig), [2, 3], 'zeros that main refuses are written, and the bad block moves')
  t.same(await readFrom(rig.target, BLOCK + 5, 4 * BLOCK), Buffer.alloc(4 * BLOCK))
  rig.main.add({ operations: ['trim'], start: 0, end: 512, code: 'ENODEV' })
  await t.rejects(
    answer(() => rig.target.trim(0, 512)),
    { code: 'ENODEV' },
  )
})

void t.test('a read-only pair refuses to change anything, and still reads around bad sectors', async (t) => {
  const rig = await createRig()
  const before = Buffer.from(rig.spareBytes)
  Object.defineProperty(rig.main, 'readOnly', { value: true })
  rig.main.add(badSectors(['read'], 18))
  await t.rejects(
    answer(() => rig.target.write(0, fill(1, 1))),
    { code: 'EPERM' },
  )
  await t.rejects(
    answer(() => rig.target.trim(0, 1)),
    { code: 'EPERM' },
  )
  await t.rejects(
    answer(() => rig.target.writeZeroes(0, 1)),
    { code: 'EPERM' },
  )
  await t.rejects(readFrom(rig.target, 2 * BLOCK, BLOCK), { code: 'EIO' })
  t.same(await readFrom(rig.target, 2 * BLOCK, 1024), pattern(2 * BLOCK, 1024))
  await rig.pair.close()
  t.ok(rig.spareBytes.equals(before), 'the spare is untouched')
})

void t.test('overlapping requests take effect in the order in which they came', async (t) => {
  const rig = await createRig()
  rig.main.add(badSectors(['write'], 16, 8))
  const requests = Array.from({ length: 20 }, (_, n) => rig.target.write(2 * BLOCK - n, fill(n, BLOCK)))
  const seen = readFrom(rig.target, 2 * BLOCK - 19, BLOCK)
  await Promise.all(requests.map((request) => answer(() => request)))
  t.same(await seen, Buffer.alloc(BLOCK, 19))
})

void t.test('what a disk failed is counted, and what an operator moves is not', async (t) => {
  const rig = await createRig()
  rig.main.add(badSectors(['write'], 2 * SECTORS, 2 * SECTORS), badSectors(['read'], 8 * SECTORS + 1))
  await rig.target.write(0, fill(1, 8 * BLOCK))
  await t.rejects(answer(() => rig.target.read(8 * BLOCK, Buffer.alloc(BLOCK))))
  t.match(rig.target.statistics, { failedBlocks: 3, weakBlocks: 0, lostSectors: 1 })
  await rig.target.moveWeak(mainBlock(20))
  const counted = { failedBlocks: 4, weakBlocks: 1, lostSectors: 1 }
  t.match(rig.target.statistics, counted)
  const batch = batchOf(rig.target, { mainSector: 30 * SECTORS, sectors: SECTORS })
  await addRemaps(rig.target, batch, { copy: true, skipRemapped: false, policy: POLICY })
  t.equal(rig.target.table.count, 5)
  t.match(rig.target.statistics, counted)
})
