import t from 'tap'
import { RemapTable, type RemapTableOptions, type Resize } from '../../src/remap/table.js'
import { settingsProblem, TABLE_SETTINGS_DEFAULT, type TableSettings } from '../../src/remap/table-settings.js'
import { MAIN_BLOCK_MAX, SlotRecords } from '../../src/spare/slot-records.js'
import { Random } from '../../src/util/random.js'
import { mainBlock, slotNumber, type SlotNumber } from '../../src/util/units.js'
import { seededRandom } from '../support/random.js'

/** A table with the records that its entries are, and what it tells of its resizes. */
class Subject {
  readonly records = new SlotRecords()
  readonly began: Resize[] = []
  readonly completed: Resize[] = []
  readonly table: RemapTable

  constructor(blocks: number, options: RemapTableOptions = {}) {
    const listener = {
      began: (resize: Resize) => this.began.push(resize),
      completed: (resize: Resize) => this.completed.push(resize),
    }
    this.table = new RemapTable(blocks, this.records, { listener, ...options })
  }

  set(block: number, number = block): void {
    const slot = slotNumber(number)
    this.records.put(slot, { state: 'remapped', mainBlock: mainBlock(block), generation: 1, lostMask: 0n })
    this.table.set(mainBlock(block), slot)
  }
}

void t.test('grows when the load is over 150 and shrinks when it is under 50, never below 64 buckets', (t) => {
  const subject = new Subject(10_000)
  const { table, completed: resizes } = subject
  for (let n = 0; n < 96; n++) subject.set(n)
  t.same([table.buckets, table.load, resizes.length], [64, 150, 0])
  subject.set(96)
  t.same(resizes, [{ from: 64, to: 128, count: 97 }], 'as dm-remap prints it')
  t.equal(table.load, 75)
  for (let n = 97; n < 193; n++) subject.set(n)
  t.same(resizes.at(-1), { from: 128, to: 256, count: 193 })
  for (let n = 192; n >= 128; n--) table.delete(mainBlock(n))
  t.same([table.count, table.buckets], [128, 256], 'a load of 50 is not under 50')
  table.delete(mainBlock(0))
  t.same(resizes.at(-1), { from: 256, to: 128, count: 127 })
  for (let n = 1; n < 128; n++) table.delete(mainBlock(n))
  t.same([table.count, table.buckets, table.load, table.resizes], [0, 64, 0, resizes.length])
  t.end()
})

void t.test('agrees with a Map, at random, while it is resized, also for blocks beyond 32 bits', (t) => {
  const random = seededRandom(t)
  const { seed } = random
  const blocks = 2 ** 35
  const base = random.pick([0, 2 ** 32 - 300, blocks - 50_000])
  const subject = new Subject(blocks)
  const { table } = subject
  const map = new Map<number, SlotNumber>()
  const free = random.shuffle(
    Array.from({ length: 50_000 }, (_, n) => slotNumber(n + random.pick([0, 2 ** 32 - 60_000]))),
  )
  for (let step = 0; step < 60_000; step++) {
    let block = base + random.below(random.pick([500, 50_000, 50_000]))
    const isGrowing = Math.floor(step / 15_000) % 2 === 0
    if (random.below(10) < (isGrowing ? 8 : 2)) {
      const before = map.get(block)
      const slot = free.pop() ?? slotNumber(0)
      subject.set(block, slot)
      map.set(block, slot)
      if (before !== undefined) free.push(before)
    } else {
      const [oldest = block] = map.keys()
      block = random.pick([block, oldest])
      const slot = map.get(block)
      if (table.delete(mainBlock(block)) !== map.delete(block)) t.fail(`SEED=${seed} step ${step}: delete`)
      if (slot !== undefined) free.push(slot)
    }
    const probe = base + random.below(50_000)
    if (table.lookup(mainBlock(probe)) !== map.get(probe)) t.fail(`SEED=${seed} step ${step}: lookup`)
    if (table.count !== map.size) t.fail(`SEED=${seed} step ${step}: count`)
    if (random.below(1000) === 0) t.same(sorted(table.entries()), sorted(map), `SEED=${seed} step ${step}: entries`)
  }
  t.same(sorted(table.entries()), sorted(map))
  t.ok(
    subject.completed.some(({ from, to }) => to > from && from >= 2048),
    'it grew bit by bit',
  )
  t.ok(
    subject.completed.some(({ from, to }) => to < from && to >= 2048),
    'and shrank',
  )
  t.end()
})

function sorted(entries: Iterable<[number, number]>): [number, number][] {
  return [...entries].sort(([a], [b]) => a - b)
}

void t.test('a large table is resized by a few buckets with each change', (t) => {
  const subject = new Subject(100_000)
  const { table } = subject
  let n = 0
  while (subject.completed.at(-1)?.to !== 2048) subject.set(n++)
  while (!table.isResizing) subject.set(n++)
  t.same([table.buckets, n], [4096, 3073], 'the new number counts at once')
  let changes = 0
  for (; table.isResizing; changes++) subject.set(n++)
  t.equal(changes, 2048 / 4)
  t.same(subject.began, subject.completed)
  for (let block = 0; block < n; block++) if (table.lookup(mainBlock(block)) !== block) t.fail(`block ${block}`)
  t.end()
})

void t.test('a resize goes on without changes when it is told to', (t) => {
  const subject = new Subject(100_000, { settings: { ...TABLE_SETTINGS_DEFAULT, bucketsMin: 4096 } })
  const { table } = subject
  for (let n = 0; n < 6145; n++) subject.set(n)
  t.equal(table.isResizing, true)
  let steps = 0
  while (table.resizeStep(1000)) steps++
  t.same([steps, table.isResizing, table.buckets, subject.completed.length], [4, false, 8192, 1])
  t.end()
})

void t.test('the settings can be changed while it is in use', (t) => {
  const subject = new Subject(100_000)
  const { table } = subject
  const configure = (settings: Partial<TableSettings>): void => {
    table.configure({ ...table.settings, ...settings })
    while (table.resizeStep(100));
  }
  for (let n = 0; n < 1000; n++) subject.set(n)
  t.equal(table.buckets, 1024)
  configure({ bucketsMin: 8192, shrinkLoad: 10 })
  t.equal(table.buckets, 8192, 'raised to the minimum')
  configure({ bucketsMin: 64 })
  t.equal(table.buckets, 8192, 'a load of 12 is not under 10')
  configure({ shrinkLoad: 50 })
  t.equal(table.buckets, 1024, 'halved until the load is 50 or more')
  configure({ growLoad: 800, shrinkLoad: 200 })
  t.equal(table.buckets, 256)
  t.equal(table.load, 390)
  configure({ growLoad: 40, shrinkLoad: 0 })
  t.equal(table.buckets, 4096)
  for (let n = 0; n < 1000; n++) if (table.lookup(mainBlock(n)) !== n) t.fail(`block ${n}`)
  t.end()
})

void t.test('a table that is about to be filled has its size at once', (t) => {
  const subject = new Subject(1e6, { expected: 100_000 })
  for (let n = 0; n < 100_000; n++) subject.set(n)
  t.same([subject.table.resizes, subject.table.buckets], [0, 131_072])
  t.end()
})

void t.test('settings that cannot be are told from those that can', (t) => {
  const problem = (settings: Partial<TableSettings>): string | undefined =>
    settingsProblem({ ...TABLE_SETTINGS_DEFAULT, ...settings })
  t.equal(problem({}), undefined)
  t.equal(problem({ shrinkLoad: 75 }), undefined)
  t.match(problem({ shrinkLoad: 76 }), /load to shrink at \(76\) must be at most half of the load to grow at \(150\)/)
  for (const bucketsMin of [0, -64, 100, 2 ** 26, 64.5, NaN]) t.match(problem({ bucketsMin }), /power of two/)
  for (const growLoad of [0, 1, 10_001, 1.5, NaN]) t.match(problem({ growLoad, shrinkLoad: 0 }), /load to grow at/)
  for (const shrinkLoad of [-1, 0.5, NaN]) t.match(problem({ shrinkLoad }), /load to shrink at must be a whole number/)
  t.end()
})

void t.test('a disk of 8 PiB has no more regions than one of 4 TiB', (t) => {
  const subject = new Subject(2 ** 44)
  t.ok(subject.table.bytes < 6 * 2 ** 20)
  subject.set(2 ** 44 - 1, 0)
  t.equal(subject.table.lookup(mainBlock(2 ** 44 - 1)), 0)
  t.equal(subject.table.mayTouch(mainBlock(2 ** 44 - 1), 1), true)
  t.equal(subject.table.mayTouch(mainBlock(0), 2 ** 43), false)
  t.end()
})

void t.test('the summary of regions never hides a remap', (t) => {
  const random = new Random('regions')
  const subject = new Subject(50_000)
  const { table } = subject
  t.equal(table.mayTouch(mainBlock(0), 50_000), false)
  const remapped = random.sample(12, 50_000)
  for (const block of remapped) subject.set(block)
  for (let round = 0; round < 3000; round++) {
    const first = random.below(50_000)
    const count = random.between(1, Math.min(3000, 50_000 - first))
    const next = Math.min(...remapped.filter((block) => block >= first), Infinity)
    if (next < first + count && !table.mayTouch(mainBlock(first), count)) t.fail('a remap is hidden')
    if (table.skipUnmapped(mainBlock(first)) > next) t.fail('a remap is skipped')
    const near = table.skipUnmapped(mainBlock(first), first + count)
    if (near > next) t.fail('a remap is skipped when it looks no further')
    if (near < Math.min(first + count, table.skipUnmapped(mainBlock(first)))) t.fail('it stops before it need to')
  }
  for (const block of remapped) table.delete(mainBlock(block))
  t.equal(table.mayTouch(mainBlock(0), 50_000), false)
  t.ok(table.skipUnmapped(mainBlock(0)) >= 50_000)
  t.end()
})

void t.test('setting a block again replaces its slot', (t) => {
  const subject = new Subject(100)
  const { table } = subject
  subject.set(5, 1)
  subject.set(5, 2)
  t.same([...table.entries()], [[5, 2]])
  t.equal(table.delete(mainBlock(6)), false)
  t.equal(table.delete(mainBlock(5)), true)
  t.equal(table.lookup(mainBlock(5)), undefined)
  t.end()
})

void t.test('the highest slots and the highest main blocks there can be', (t) => {
  const LAST_SLOT = 4_294_967_294
  const blocks = MAIN_BLOCK_MAX + 1
  const subject = new Subject(blocks)
  const { table, records } = subject
  // Two neighbours at each border of a number: signed and unsigned 32 bits, and chunks of records.
  const slots = [0, 65_535, 65_536, 2 ** 31 - 1, 2 ** 31, LAST_SLOT - 1, LAST_SLOT]
  const places = slots.map((slot, n) => [slot, n % 2 === 0 ? MAIN_BLOCK_MAX - slot : slot] as const)
  for (const [slot, block] of places) subject.set(block, slot)
  for (const [slot, block] of places) {
    t.equal(table.lookup(mainBlock(block)), slot)
    t.equal(table.plainRun(mainBlock(block), 1), slot)
    t.ok(table.mayTouch(mainBlock(block), 1))
    t.same(records.get(slotNumber(slot)).mainBlock, block)
  }
  t.equal(table.plainRun(mainBlock(MAIN_BLOCK_MAX - LAST_SLOT), 2), undefined, 'nothing follows the last slot')
  t.same(new Map(table.entries()), new Map(places.map(([slot, block]) => [block, slot])))
  for (const [, block] of places) t.ok(table.delete(mainBlock(block)))
  t.equal(table.count, 0)
  t.notOk(table.mayTouch(mainBlock(0), 1))
  t.end()
})
