/** A spare that is removed while others have taken slots on it. */
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { addRemaps, batchOf, clearRemaps, removeRemaps } from '../../src/remap/admin.js'
import { BLOCK, PoolRig, SECTORS } from '../support/pool-rig.js'
import { pattern, POLICY, readFrom } from '../support/rig.js'

const OPTIONS = { copy: true, skipRemapped: false, policy: POLICY }

/** Holds the next flush of a spare. Copies are made durable while no block is locked. */
function holdFlush(rig: PoolRig, name: string): { isHeld: boolean; go: () => void } {
  const spare = rig.spares.get(name)!
  const flush = spare.flush.bind(spare)
  const hold = { isHeld: false, go: (): void => undefined }
  spare.flush = async () => {
    spare.flush = flush
    await new Promise<void>((resolve) => {
      hold.isHeld = true
      hold.go = resolve
    })
    await flush()
  }
  return hold
}

void t.test('a spare on which an operator is remapping blocks is removed when that is done', async (t) => {
  const rig = await PoolRig.create([40, 40])
  const { target } = rig.pair
  const copies = holdFlush(rig, 'a')
  const adding = addRemaps(target, batchOf(target, { mainSector: 0, sectors: 30 * SECTORS }), OPTIONS)
  while (!copies.isHeld) await turn()
  const { done } = rig.pair.removeSpare(rig.member('a'))
  // More than enough for a removal that does not wait.
  for (let n = 0; n < 1000; n++) await turn()
  t.equal(target.pool.members.length, 2)
  copies.go()
  t.same(await adding, { blocks: 30, skipped: 0 })
  await done
  t.equal(target.table.count, 30)
  t.equal(rig.placeOf(0), 'b')
  t.same(await readFrom(target, 0, 64 * BLOCK), pattern(0, 64 * BLOCK))
  await rig.open('b')
  t.same(await readFrom(rig.pair.target, 0, 64 * BLOCK), pattern(0, 64 * BLOCK), 'opened again')
})

void t.test('a stop ends what an operator is doing, and is clean', async (t) => {
  const rig = await PoolRig.create([40, 40])
  const { target } = rig.pair
  const copies = holdFlush(rig, 'a')
  const adding = addRemaps(target, batchOf(target, { mainSector: 0, sectors: 30 * SECTORS }), OPTIONS)
  const refused = t.rejects(adding, { name: 'RemapRequestError', message: /the server is stopping/ })
  while (!copies.isHeld) await turn()
  const closed = rig.pair.close()
  copies.go()
  await Promise.all([refused, closed])
  await rig.open('a', 'b')
  t.equal(rig.pair.target.table.count, 0)
  t.equal(rig.pair.target.pool.free, 80)
})

void t.test('a removal that waits for a request which hangs holds no other one up', async (t) => {
  const rig = await PoolRig.create([40, 40])
  const { target } = rig.pair
  await rig.remap(1)
  const read = rig.main.read.bind(rig.main)
  let answer: () => void = () => undefined
  rig.main.read = (offset, into) =>
    new Promise((resolve) => {
      rig.main.read = read
      answer = () => {
        resolve(read(offset, into))
      }
    })
  const hanging = readFrom(target, 5 * BLOCK, BLOCK)
  const { done, drain } = rig.pair.removeSpare(rig.member('a'))
  while (drain.moved === 0) await turn()
  for (let n = 0; n < 100; n++) await turn()
  t.same(await readFrom(target, 4 * BLOCK, BLOCK), pattern(4 * BLOCK, BLOCK))
  await target.write(6 * BLOCK, [Buffer.alloc(BLOCK, 6)])
  t.equal(target.pool.members.length, 2)
  answer()
  t.same(await hanging, pattern(5 * BLOCK, BLOCK))
  await done
  t.equal(target.pool.members.length, 1)
})

void t.test('when one spare of several fails an operator learns how much is done', async (t) => {
  const rig = await PoolRig.create([20, 40])
  const { target } = rig.pair
  rig.break('b', 'EIO', 'flush')
  target.pool.flush = () => Promise.resolve()
  const adding = addRemaps(target, batchOf(target, { mainSector: 0, sectors: 30 * SECTORS }), OPTIONS)
  await t.rejects(adding, { name: 'RemapRequestError', message: /\(20 blocks of the request are remapped\)$/ })
  t.equal(target.table.count, 20)
  t.same([target.pool.used, target.pool.free], [20, 40])
  rig.spares.get('b')!.clear()
  await addRemaps(target, batchOf(target, { mainSector: 20 * SECTORS, sectors: 10 * SECTORS }), OPTIONS)
  rig.break('b', 'EIO', 'flush')
  await t.rejects(removeRemaps(target, batchOf(target, { mainSector: 0, sectors: 30 * SECTORS })), {
    message: /\(20 blocks of the request are back on the main disk\)$/,
  })
  t.equal(target.table.count, 10)
  rig.spares.get('b')!.clear()
  t.same(await clearRemaps(target), { blocks: 10, kept: 0 })
})
