/** The metadata of a running pair is compared with memory, and rewritten, while clients go on. */
import { mock } from 'node:test'
import t from 'tap'
import { MetadataCheck } from '../../src/remap/metadata-check.js'
import { SelfCheck } from '../../src/remap/self-check.js'
import { HEADER_OFFSETS, PAGE_SIZE } from '../../src/spare/format.js'
import { verifySpare } from '../../src/spare/verify.js'
import { silentLog } from '../../src/util/log.js'
import { BLOCK, PoolRig } from '../support/pool-rig.js'
import { seededRandom } from '../support/random.js'

interface Checked {
  readonly rig: PoolRig
  readonly check: MetadataCheck
  readonly events: [string, Record<string, unknown>][]
}

async function checked(blocks: readonly number[] = [4, 9]): Promise<Checked> {
  const rig = await PoolRig.create(blocks)
  const events: Checked['events'] = []
  const check = new MetadataCheck(rig.pair.target, (name, data) => events.push([name, { ...data }]), silentLog)
  return { rig, check, events }
}

const tableOf = (rig: PoolRig, name: string): readonly [number, number] =>
  rig.member(name).spare.geometry.slotTableOffsets

function scribble(rig: PoolRig, name: string, ...offsets: number[]): void {
  for (const offset of offsets) rig.memories.get(name)!.bytes.fill(0x5a, offset + 60, offset + 90)
}

const problemsOn = async (rig: PoolRig, name: string): Promise<readonly string[]> =>
  (await verifySpare(rig.memories.get(name)!)).problems

void t.test('nothing is found on spares that are as they should be, and nothing is written', async (t) => {
  const { rig, check, events } = await checked()
  for (let block = 0; block < 6; block++) await rig.remap(block)
  const before = Buffer.from(rig.memories.get('a')!.bytes)
  const nothing = { headers: 2, slotPages: 2, damaged: 0, repaired: 0, findings: [] }
  t.same(await check.run({ repair: false }), nothing)
  t.same(await check.run({ repair: true }), nothing)
  t.ok(rig.memories.get('a')!.bytes.equals(before))
  t.same(events, [])
})

void t.test('what decays beneath a server is found by verify, and rewritten by repair', async (t) => {
  const { rig, check, events } = await checked()
  for (let block = 0; block < 6; block++) await rig.remap(block)
  scribble(rig, 'a', HEADER_OFFSETS[1]!, HEADER_OFFSETS[4]!)
  // Also both copies at once: memory knows what stood there.
  scribble(rig, 'b', ...tableOf(rig, 'b'))
  const found = await check.run({ repair: false })
  t.match(found, {
    damaged: 2,
    repaired: 0,
    findings: [
      { spare: 'a', structure: 'header', copies: [1, 4], repaired: false },
      { spare: 'b', structure: 'slot-page', number: 0, copies: [0, 1], reason: /copy 0 checksum does not match/ },
    ],
  })
  t.same(events, [])
  t.match(await check.run({ repair: true }), { damaged: 2, repaired: 2 })
  t.match(events, [
    ['METADATA_REPAIRED', { spare: 'a', structure: 'header', copies: [1, 4] }],
    ['METADATA_REPAIRED', { spare: 'b', structure: 'slot-page', number: 0, copies: [0, 1] }],
  ])
  t.same(await problemsOn(rig, 'a'), [])
  t.same(await problemsOn(rig, 'b'), [])
  await rig.open('a', 'b')
  for (let block = 0; block < 6; block++) t.equal(rig.placeOf(block), block < 4 ? 'a' : 'b')
})

void t.test('a copy that was given up is tried again, and named until it can be written', async (t) => {
  const { rig, check, events } = await checked([4])
  const [, table] = tableOf(rig, 'a')
  rig.spares.get('a')!.add({ operations: ['write'], start: table, end: table + PAGE_SIZE, code: 'EIO' })
  await rig.remap(0)
  t.match(await check.run({ repair: true }), {
    damaged: 1,
    repaired: 0,
    findings: [{ structure: 'slot-page', copies: [1], reason: 'copy 1 missed an update', repaired: false }],
  })
  t.match(events, [['METADATA_DAMAGED', { spare: 'a', number: 0, copies: [1] }]])
  t.match(await problemsOn(rig, 'a'), [/copy 1: missed an update, .* run "nbd-remap repair".*"nbd-remap spare remove"/])
  rig.spares.get('a')!.clear()
  t.match(await check.run({ repair: true }), { damaged: 1, repaired: 1 })
  t.same(await problemsOn(rig, 'a'), [])
  t.same(rig.member('a').spare.header.notes.slotTable?.staleCopies, [])
})

void t.test('what is on its way to the disk is not taken for damage', async (t) => {
  const { rig, check } = await checked([30, 30])
  const random = seededRandom(t)
  for (let block = 0; block < 48; block += 4) {
    const remaps = [0, 1, 2, 3].map(async (n) => {
      // At another moment of the check each time.
      for (let turns = random.below(4); turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve))
      await rig.remap(block + n)
      await rig.pair.target.pool.noteHealing(() => ({ block }))
    })
    const [{ damaged, findings }] = await Promise.all([check.run({ repair: random.below(2) === 0 }), ...remaps])
    t.equal(damaged, 0, JSON.stringify(findings))
  }
  for (let block = 0; block < 48; block++) {
    const into = Buffer.alloc(BLOCK)
    await rig.pair.target.read(block * BLOCK, into)
    t.same(into, Buffer.alloc(BLOCK, block + 1))
  }
})

void t.test('one at a time, and none when the server stops', async (t) => {
  const { check } = await checked()
  const first = check.run({ repair: false })
  await t.rejects(check.run({ repair: true }), { name: 'MetadataCheckError', message: /already/ })
  const stopped = check.close()
  await t.rejects(first, { name: 'MetadataCheckError', message: /stops/ })
  await stopped
})

void t.test('a self-check repairs what has decayed, again and again', async (t) => {
  const { rig, check, events } = await checked()
  const self = new SelfCheck(check, 5, silentLog)
  t.teardown(() => {
    self.close()
  })
  self.begin()
  // Its timer alone keeps no program alive.
  const alive = setInterval(() => undefined, 1000)
  t.teardown(() => {
    clearInterval(alive)
  })
  for (let round = 1; round <= 2; round++) {
    scribble(rig, 'b', HEADER_OFFSETS[2]!)
    while (events.length < round) await new Promise((resolve) => setImmediate(resolve))
    t.match(events.at(-1), ['METADATA_REPAIRED', { spare: 'b', structure: 'header', copies: [2] }])
    t.same(await problemsOn(rig, 'b'), [])
  }
})

void t.test('a check that takes long tells how far it is, from its third second on', async (t) => {
  const { check, events } = await checked()
  let nowMs = 0
  const clock = mock.method(performance, 'now', () => (nowMs += 700))
  t.teardown(() => {
    clock.mock.restore()
  })
  await check.run({ repair: true })
  const told = events.map(([name, data]) => ({ name, ...data }))
  t.ok(told.length > 0)
  for (const { name, ...data } of told) {
    t.equal(name, 'METADATA_PROGRESS')
    t.match(data, { operation: 'repair', spare: /^[ab]$/, 'done-pages': Number, 'total-pages': 1 })
  }
})
