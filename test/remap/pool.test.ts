/** Spares that fail, fill up, come and go while blocks look for a place. */
import t, { type Test } from 'tap'
import { batchOf, removeRemaps } from '../../src/remap/admin.js'
import { BLOCK, PoolRig, SECTORS } from '../support/pool-rig.js'
import { answer, badSectors, pattern, readFrom } from '../support/rig.js'

const filled = (byte: number): Buffer => Buffer.alloc(BLOCK, byte)
const read = (rig: PoolRig, block: number): Promise<Buffer> => readFrom(rig.pair.target, block * BLOCK, BLOCK)

/** All remapped blocks read as what was written to them, now and after a SIGKILL. */
async function assertContent(t: Test, rig: PoolRig, blocks: readonly number[], ...names: string[]): Promise<void> {
  for (const block of blocks) t.same(await read(rig, block), filled(block + 1), `block ${block}`)
  await rig.open(...names)
  for (const block of blocks) t.same(await read(rig, block), filled(block + 1), `block ${block}, opened again`)
}

void t.test('spares are filled in their order, and pieces never run from one into the next', async (t) => {
  const rig = await PoolRig.create([3, 5])
  for (let block = 0; block < 8; block++) await rig.remap(block)
  t.same(
    Array.from({ length: 8 }, (_, block) => rig.placeOf(block)),
    ['a', 'a', 'a', 'b', 'b', 'b', 'b', 'b'],
  )
  const whole = await readFrom(rig.pair.target, 0, 9 * BLOCK)
  t.same(whole, Buffer.concat([...Array.from({ length: 8 }, (_, n) => filled(n + 1)), pattern(8 * BLOCK, BLOCK)]))
  await rig.pair.target.write(2 * BLOCK + 100, [Buffer.alloc(2 * BLOCK, 0x77)])
  const seen = await readFrom(rig.pair.target, 2 * BLOCK, 3 * BLOCK)
  t.ok(seen.subarray(100, 100 + 2 * BLOCK).every((byte) => byte === 0x77))
  t.same([seen[99], seen[100 + 2 * BLOCK]], [3, 5])
})

void t.test('what leaves one spare is not found again in the slot table of another one', async (t) => {
  const rig = await PoolRig.create([2, 5])
  for (let block = 0; block < 3; block++) await rig.remap(block)
  t.equal(rig.placeOf(2), 'b')
  rig.main.clear()
  // The page of spare a is written while b holds block 2, and not afterwards.
  for (const block of [0, 2]) {
    const batch = batchOf(rig.pair.target, { mainSector: block * SECTORS, sectors: SECTORS })
    await removeRemaps(rig.pair.target, batch)
  }
  await rig.pair.target.write(2 * BLOCK, [filled(0x55)])
  await rig.open('a', 'b')
  t.equal(rig.placeOf(2), undefined)
  t.same(await read(rig, 2), filled(0x55))
})

void t.test('SPARE_LOW and SPARE_EXHAUSTED are sent once, and again after a spare was added', async (t) => {
  const rig = await PoolRig.create([4], { lowShare: 0.5 })
  for (const block of [0, 1, 2, 3]) await rig.remap(block)
  t.same(rig.eventsOf('SPARE_LOW'), [{ 'free-blocks': 1, 'total-blocks': 4 }])
  for (let n = 0; n < 2; n++) await t.rejects(rig.remap(4), { code: 'EIO' })
  t.same(rig.eventsOf('SPARE_EXHAUSTED'), [{ 'total-blocks': 4 }])
  const added = await rig.pair.addOpened(rig.disk(rig.newSpare('b', 8)), false)
  t.equal(added.name, 'b')
  t.same(rig.eventsOf('SPARE_ADDED'), [{ spare: 'b', uuid: added.uuid, 'total-blocks': 8 }])
  for (let block = 4; block < 12; block++) await rig.remap(block)
  await t.rejects(rig.remap(12), { code: 'EIO' })
  t.equal(rig.eventsOf('SPARE_LOW').length, 2)
  t.same(rig.eventsOf('SPARE_EXHAUSTED').at(-1), { 'total-blocks': 12 })
  await assertContent(t, rig, [0, 3, 4, 11], 'a', 'b')
})

void t.test('told to pause, a write without a place gets ENOSPC, and a read that finds none EIO as ever', async (t) => {
  const rig = await PoolRig.create([1], { onExhausted: 'pause' })
  await rig.remap(0)
  await t.rejects(rig.remap(1), { code: 'ENOSPC' })
  rig.main.add(badSectors(['read'], 2 * SECTORS))
  await t.rejects(read(rig, 2), { code: 'EIO' })
  t.same(await readFrom(rig.pair.target, 2 * BLOCK + 512, 512), pattern(2 * BLOCK + 512, 512))
  await rig.pair.addOpened(rig.disk(rig.newSpare('b', 4)), false)
  await rig.remap(1)
  t.equal(rig.placeOf(1), 'b')
})

for (const [how, code, ...operations] of [
  ['cannot be written', 'EIO', 'write'],
  ['is gone', 'ENODEV', 'read', 'write', 'flush'],
  ['cannot be flushed', 'EIO', 'flush'],
  ['has no space left under it', 'ENOSPC', 'write'],
] as const) {
  void t.test(`a spare that ${how} is left for the next one`, async (t) => {
    const rig = await PoolRig.create([20, 20])
    rig.break('a', code, ...operations)
    for (const block of [3, 4, 9]) await rig.remap(block)
    t.same(
      [3, 4, 9].map((block) => rig.placeOf(block)),
      ['b', 'b', 'b'],
    )
    rig.spares.get('a')!.clear()
    await assertContent(t, rig, [3, 4, 9], 'a', 'b')
  })
}

void t.test('space that runs out under the only spare is EIO, not ENOSPC, and the blocks are not lost', async (t) => {
  const rig = await PoolRig.create([20])
  rig.break('a', 'ENOSPC', 'write')
  await t.rejects(rig.remap(3), { code: 'EIO' })
  t.equal(rig.eventsOf('SPARE_EXHAUSTED').length, 1)
  rig.spares.get('a')!.clear()
  const { free } = rig.pair.target.pool
  await rig.remap(3)
  t.equal(rig.pair.target.pool.free, free - 1, 'nothing was retired')
  await rig.pair.target.write(3 * BLOCK, [filled(4)])
  rig.spares.get('a')!.add({ operations: ['flush'], start: 0, end: 1, code: 'ENOSPC' })
  await t.rejects(rig.pair.target.flush() ?? Promise.resolve(), { code: 'EIO' })
})

void t.test('a remapped block whose spare fails moves to another spare', async (t) => {
  const rig = await PoolRig.create([20, 20])
  for (const block of [0, 1, 2]) await rig.remap(block)
  rig.break('a', 'EIO', 'write')
  await rig.pair.target.write(BLOCK + 10, [Buffer.alloc(20, 2)])
  t.equal(rig.placeOf(1), 'b', 'a write in part, for the rest can be read')
  rig.spares.get('a')!.clear()
  rig.break('a', 'ENODEV', 'read', 'write', 'flush')
  await rig.pair.target.write(0, [filled(1)])
  t.equal(rig.placeOf(0), 'b', 'a whole block, for which nothing has to be read')
  await t.rejects(
    answer(() => rig.pair.target.write(2 * BLOCK + 10, [Buffer.alloc(20)])),
    { code: 'ENODEV' },
  )
  rig.spares.get('a')!.clear()
  await assertContent(t, rig, [0, 1, 2], 'a', 'b')
})

void t.test('spare blocks that cannot be read move on, with the sectors that are lost', async (t) => {
  const rig = await PoolRig.create([20, 20])
  await rig.remap(1)
  const offset = rig.member('a').spare.geometry.dataOffset
  rig.spares.get('a')!.add(badSectors(['read'], offset / 512 + 2))
  await t.rejects(read(rig, 1), { code: 'EIO' })
  t.same(await readFrom(rig.pair.target, BLOCK, 1024), Buffer.alloc(1024, 2))
  await t.rejects(readFrom(rig.pair.target, BLOCK + 1024, 512), { code: 'EIO' })
  t.match(rig.member('a').spare.counts, { remapped: 1, retired: 1, lost: 1 })
})

void t.test('a removed spare hands its blocks to the others while clients go on', async (t) => {
  const rig = await PoolRig.create([20, 40])
  const blocks = Array.from({ length: 20 }, (_, n) => n * 2)
  for (const block of blocks) await rig.remap(block)
  t.equal(rig.placeOf(38), 'a')
  const { drain, done } = rig.pair.removeSpare(rig.member('a'))
  t.throws(() => rig.pair.removeSpare(rig.member('a')), { name: 'RefusedError', message: /being removed already/ })
  t.equal(drain.total, 20)
  const writes = blocks.map((block) => rig.pair.target.write(block * BLOCK, [filled(block + 1)]))
  await rig.remap(41)
  await Promise.all([done, ...writes])
  t.equal(drain.moved, 20)
  t.equal(rig.pair.target.pool.members.length, 1)
  t.match(rig.eventsOf('SPARE_REMOVED'), [{ spare: 'a', 'moved-blocks': 20 }])
  await assertContent(t, rig, [...blocks, 41], 'b')
  t.equal(rig.pair.target.pool.used, 21)
})

void t.test('what cannot be read on a spare that is removed is lost, and the rest is not', async (t) => {
  const rig = await PoolRig.create([20, 20])
  await rig.remap(1)
  await rig.remap(2)
  rig.spares.get('a')!.add(badSectors(['read'], rig.member('a').spare.geometry.dataOffset / 512 + 2))
  await rig.pair.removeSpare(rig.member('a')).done
  t.same(await read(rig, 2), filled(3))
  await t.rejects(readFrom(rig.pair.target, BLOCK + 1024, 512), { code: 'EIO' })
  t.same(await readFrom(rig.pair.target, BLOCK + 1536, 512), Buffer.alloc(512, 2))
})

void t.test('a spare is not removed when there is no room, or when it is the only one', async (t) => {
  const rig = await PoolRig.create([4, 3])
  for (const block of [0, 1, 2, 3]) await rig.remap(block)
  t.throws(() => rig.pair.removeSpare(rig.member('a')), { message: /holds 4 blocks, and the other spares have 3 free/ })
  await rig.pair.removeSpare(rig.member('b')).done
  t.throws(() => rig.pair.removeSpare(rig.member('a')), { message: /is the only one: add another one first/ })
  await rig.pair.addOpened(rig.disk(rig.newSpare('c', 5)), false)
  await rig.pair.removeSpare(rig.member('a')).done
  await assertContent(t, rig, [0, 1, 2, 3], 'c')
})

void t.test('a removal that is cancelled, or fails, leaves a member like before', async (t) => {
  const rig = await PoolRig.create([100, 200])
  const blocks = Array.from({ length: 60 }, (_, n) => n)
  for (const block of blocks) await rig.remap(block)
  const cancelled = rig.pair.removeSpare(rig.member('a'))
  cancelled.drain.cancel()
  await t.rejects(cancelled.done, { name: 'DrainError', message: /cancelled/ })
  t.match(rig.eventsOf('SPARE_REMOVAL_FAILED'), [{ spare: 'a', 'remaining-blocks': 60 }])
  rig.break('a', 'ENODEV', 'read')
  await t.rejects(rig.pair.removeSpare(rig.member('a')).done, { name: 'DrainError', message: /ENODEV/ })
  rig.spares.get('a')!.clear()
  await rig.remap(61)
  t.equal(rig.placeOf(61), 'a')
  await assertContent(t, rig, [...blocks, 61], 'a', 'b')
})

void t.test('a stop ends a removal, and is clean', async (t) => {
  const rig = await PoolRig.create([100, 200])
  for (let block = 0; block < 60; block++) await rig.remap(block)
  const { done } = rig.pair.removeSpare(rig.member('a'))
  const ended = t.rejects(done, { name: 'DrainError' })
  await rig.pair.close()
  await ended
  await rig.open('a', 'b')
  t.equal(rig.pair.target.table.count, 60)
})

void t.test('the slot pages of one spare say nothing of the slots of the next one', async (t) => {
  const rig = await PoolRig.create([3, 5])
  for (let block = 0; block < 6; block++) await rig.remap(block)
  const { target } = rig.pair
  rig.main.clear()
  // The last page of the first spare is written while the second one holds blocks, which go back to main afterwards.
  await removeRemaps(target, batchOf(target, { mainSector: 0, sectors: SECTORS }))
  await removeRemaps(target, batchOf(target, { mainSector: 3 * SECTORS, sectors: 3 * SECTORS }))
  await target.write(4 * BLOCK, [filled(0x55)])
  await rig.open('a', 'b')
  t.equal(rig.pair.target.table.count, 2)
  t.equal(rig.placeOf(4), undefined)
  t.same(await read(rig, 4), filled(0x55))
})
