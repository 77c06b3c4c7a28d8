import t from 'tap'
import { RemapTable, type Resize } from '../../src/remap/table.js'
import { Random } from '../../src/util/random.js'
import { mainBlock, slotNumber } from '../../src/util/units.js'
import { seededRandom } from '../support/random.js'

const set = (table: RemapTable, block: number, slot = block): void => {
  table.set(mainBlock(block), slotNumber(slot))
}

void t.test('grows when the load is over 150 and shrinks when it is under 50, never below 64 buckets', (t) => {
  const resizes: Resize[] = []
  const table = new RemapTable(10_000, (resize) => resizes.push(resize))
  for (let n = 0; n < 96; n++) set(table, n)
  t.same([table.buckets, table.load, resizes.length], [64, 150, 0])
  set(table, 96)
  t.same(resizes, [{ from: 64, to: 128, count: 97 }], 'as dm-remap prints it')
  t.equal(table.load, 75)
  for (let n = 97; n < 193; n++) set(table, n)
  t.same(resizes.at(-1), { from: 128, to: 256, count: 193 })
  for (let n = 192; n >= 128; n--) table.delete(mainBlock(n))
  t.same([table.count, table.buckets], [128, 256], 'a load of 50 is not under 50')
  table.delete(mainBlock(0))
  t.same(resizes.at(-1), { from: 256, to: 128, count: 127 })
  for (let n = 1; n < 128; n++) table.delete(mainBlock(n))
  t.same([table.count, table.buckets, table.load, table.resizes], [0, 64, 0, resizes.length])
  t.end()
})

void t.test('agrees with a Map, at random, also for blocks beyond 32 bits', (t) => {
  const random = seededRandom(t)
  const blocks = 2 ** 35
  const base = random.pick([0, 2 ** 32 - 300, blocks - 5000])
  const table = new RemapTable(blocks)
  const map = new Map<number, number>()
  for (let step = 0; step < 30_000; step++) {
    const block = base + random.below(random.pick([50, 5000]))
    const isGrowing = Math.floor(step / 5000) % 2 === 0
    if (random.below(10) < (isGrowing ? 7 : 3)) {
      const slot = random.uint32()
      set(table, block, slot)
      map.set(block, slot)
    } else if (table.delete(mainBlock(block)) !== map.delete(block)) t.fail(`SEED=${random.seed} step ${step}: delete`)
    const probe = base + random.below(5000)
    if (table.lookup(mainBlock(probe)) !== map.get(probe)) t.fail(`SEED=${random.seed} step ${step}: lookup`)
    if (table.count !== map.size) t.fail(`SEED=${random.seed} step ${step}: count`)
  }
  t.same(
    [...table.entries()].sort(([a], [b]) => a - b),
    [...map].sort(([a], [b]) => a - b),
  )
  t.ok(table.resizes > 2)
  t.end()
})

void t.test('the summary of regions never hides a remap', (t) => {
  const random = new Random('regions')
  const table = new RemapTable(50_000)
  t.equal(table.mayTouch(mainBlock(0), 50_000), false)
  const remapped = random.sample(12, 50_000)
  for (const block of remapped) set(table, block)
  for (let round = 0; round < 3000; round++) {
    const first = random.below(50_000)
    const count = random.between(1, Math.min(3000, 50_000 - first))
    const next = Math.min(...remapped.filter((block) => block >= first), Infinity)
    if (next < first + count && !table.mayTouch(mainBlock(first), count)) t.fail('a remap is hidden')
    if (table.skipUnmapped(mainBlock(first)) > next) t.fail('a remap is skipped')
  }
  for (const block of remapped) table.delete(mainBlock(block))
  t.equal(table.mayTouch(mainBlock(0), 50_000), false)
  t.ok(table.skipUnmapped(mainBlock(0)) >= 50_000)
  t.end()
})

void t.test('setting a block again replaces its slot', (t) => {
  const table = new RemapTable(100)
  set(table, 5, 1)
  set(table, 5, 2)
  t.same([...table.entries()], [[5, 2]])
  t.equal(table.delete(mainBlock(6)), false)
  t.equal(table.delete(mainBlock(5)), true)
  t.equal(table.lookup(mainBlock(5)), undefined)
  t.end()
})
