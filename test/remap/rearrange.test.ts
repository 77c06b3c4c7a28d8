import t from 'tap'
import { batchOf } from '../../src/remap/admin.js'
import { arrange, type Arranged } from '../../src/remap/rearrange.js'
import { mainBlock, SECTOR_SIZE, slotNumber } from '../../src/util/units.js'
import { badSectors, createRig, onlySpare, pattern, POLICY, readFrom, type Rig } from '../support/rig.js'

const BLOCK = 4096
const SECTORS = BLOCK / SECTOR_SIZE

const put = ({ target }: Rig, block: number, slot: number, count: number): Promise<Arranged> => {
  const range = { mainSector: block * SECTORS, spareSector: slot * SECTORS, sectors: count * SECTORS }
  return arrange(target, batchOf(target, range), POLICY)
}
const places = ({ target }: Rig): [number, number][] =>
  [...target.table.entries()].map(([block, slot]): [number, number] => [block, slot]).sort(([a], [b]) => a - b)

void t.test('blocks come from main, from elsewhere on the spare, or are there', async (t) => {
  const rig = await createRig()
  t.same(await put(rig, 3, 10, 1), { added: 1, moved: 0 })
  await rig.target.write(3 * BLOCK, [Buffer.alloc(BLOCK, 7)])
  t.same(await put(rig, 4, 23, 1), { added: 1, moved: 0 })
  t.same(await put(rig, 2, 21, 3), { added: 1, moved: 1 })
  t.same(await put(rig, 2, 21, 3), { added: 0, moved: 0 })
  const expected = [
    [2, 21],
    [3, 22],
    [4, 23],
  ]
  t.same(places(rig), expected)
  const content = Buffer.concat([pattern(2 * BLOCK, BLOCK), Buffer.alloc(BLOCK, 7), pattern(4 * BLOCK, BLOCK)])
  t.ok((await readFrom(rig.target, 2 * BLOCK, 3 * BLOCK)).equals(content))
  t.ok(await onlySpare(rig.target).reserve(slotNumber(10)), 'the old place is free again')
  const again = await rig.reopen()
  t.same(places(again), expected)
  t.ok((await readFrom(again.target, 2 * BLOCK, 3 * BLOCK)).equals(content))
})

void t.test('a place in use is refused, and nothing has changed', async (t) => {
  const rig = await createRig()
  await put(rig, 1, 1, 2)
  await put(rig, 9, 31, 1)
  const free = rig.target.pool.free
  await t.rejects(put(rig, 1, 30, 2), { name: 'RemapRequestError', message: /spare sector 248 is in use/ })
  t.same(places(rig), [
    [1, 1],
    [2, 2],
    [9, 31],
  ])
  t.equal(rig.target.pool.free, free, 'what was reserved is given back')
})

void t.test('a place that cannot be written is refused and retired; the block stays where it is', async (t) => {
  const rig = await createRig()
  await put(rig, 1, 1, 1)
  const spare = onlySpare(rig.target)
  rig.spare.add(badSectors(['write'], spare.dataOffset(slotNumber(30)) / SECTOR_SIZE, SECTORS))
  await t.rejects(put(rig, 1, 30, 1), { name: 'RemapRequestError', message: /spare sector 240 cannot be written/ })
  t.equal(rig.target.table.lookup(mainBlock(1)), 1)
  t.notOk(await spare.reserve(slotNumber(30)))
  t.ok((await readFrom(rig.target, BLOCK, BLOCK)).equals(pattern(BLOCK, BLOCK)))
})

void t.test('lost sectors stay lost in the new place', async (t) => {
  const rig = await createRig()
  rig.main.add(badSectors(['read'], SECTORS + 2))
  await put(rig, 1, 1, 1)
  t.equal(rig.target.pool.get(slotNumber(1)).lostMask, 4n)
  await put(rig, 1, 30, 1)
  t.equal(rig.target.pool.get(slotNumber(30)).lostMask, 4n)
})
