/** Which spares are taken for a pool: missing, foreign, stale, removed and unfinished ones. */
import t, { type Test } from 'tap'
import { formatPair, Pair } from '../../src/remap/pair.js'
import { silentLog } from '../../src/util/log.js'
import { BLOCK, PoolRig } from '../support/pool-rig.js'
import { readFrom } from '../support/rig.js'

/** Nothing is opened, and nothing is written to any spare. */
async function refuses(t: Test, rig: PoolRig, message: RegExp, ...names: string[]): Promise<void> {
  const images = (): Buffer[] => [...rig.memories.values()].map(({ bytes }) => Buffer.from(bytes))
  const before = images()
  await t.rejects(rig.open(...names), { name: 'RefusedError', message })
  t.ok(
    images().every((image, n) => image.equals(before[n]!)),
    'nothing was written',
  )
}

const snapshot = (rig: PoolRig, name: string): Buffer => Buffer.from(rig.memories.get(name)!.bytes)
const restore = (rig: PoolRig, name: string, image: Buffer): void => void image.copy(rig.memories.get(name)!.bytes)

/** Spares a and b with a remap on each, stopped. */
async function used(isClean = true): Promise<PoolRig> {
  const rig = await PoolRig.create([2, 8])
  for (const block of [0, 1, 2]) await rig.remap(block)
  if (isClean) await rig.pair.close()
  return rig
}

void t.test('a pool opens in any order of its spares, and not without one of them', async (t) => {
  const rig = await used()
  const { uuid } = rig.member('b')
  await rig.open('b', 'a')
  t.same(
    rig.pair.target.pool.members.map(({ name }) => name),
    ['a', 'b'],
  )
  t.same(await readFrom(rig.pair.target, 2 * BLOCK, 1), Buffer.of(3))
  await rig.pair.close()
  await refuses(t, rig, new RegExp(`spare ${uuid} of the pool is missing.*last seen at /disks/b; attach it`), 'a')
  await refuses(t, rig, /missing.*last seen at \/disks\/a/, 'b')
})

void t.test('a spare of another pool, and a copy of one that is there, are refused', async (t) => {
  const rig = await used()
  const other = rig.newSpare('x', 4)
  await formatPair(rig.disks(other), { force: false, log: silentLog })
  await refuses(t, rig, /spare x .* does not belong together with spare a .*main \/disks\/main/, 'a', 'b', 'x')
  restore(rig, rig.newSpare('copy', 8), snapshot(rig, 'b'))
  await refuses(t, rig, /spares b and copy .* are copies of one spare/, 'a', 'b', 'copy')
})

void t.test('a spare that was put back from a copy is refused, and so are all but one that were', async (t) => {
  const rig = await used()
  const old = snapshot(rig, 'b')
  await rig.open('a', 'b')
  await rig.pair.close()
  const present = snapshot(rig, 'b')
  restore(rig, 'b', old)
  await refuses(t, rig, /spare b .* is stale: the pool was served 1 time\(s\) since/, 'a', 'b')
  restore(rig, 'b', present)
  await rig.open('a', 'b')
})

void t.test('a removed spare is left alone, wherever it is given, and alone it is refused', async (t) => {
  const rig = await used()
  await rig.open('a', 'b')
  await rig.pair.removeSpare(rig.member('a')).done
  const removed = snapshot(rig, 'a')
  await rig.open('a', 'b')
  t.same(
    rig.pair.target.pool.members.map(({ name }) => name),
    ['b'],
  )
  t.match(rig.warnings, [/spare a was removed from the pool and is left alone.*spare add --force/])
  t.ok(snapshot(rig, 'a').equals(removed))
  for (const block of [0, 1, 2]) t.same(await readFrom(rig.pair.target, block * BLOCK, 1), Buffer.of(block + 1))
  await rig.pair.close()
  await refuses(t, rig, /spare a .* was removed from its pool and holds nothing.*\/disks\/b/, 'a')
})

void t.test('a spare from before its removal is not taken back', async (t) => {
  const rig = await used()
  await rig.open('a', 'b')
  const before = snapshot(rig, 'a')
  await rig.pair.removeSpare(rig.member('a')).done
  restore(rig, 'a', before)
  await refuses(t, rig, /of the pool is missing|stale/, 'a')
  await rig.open('a', 'b')
  t.same(
    rig.pair.target.pool.members.map(({ name }) => name),
    ['b'],
  )
})

void t.test('a removed spare that cannot be opened any more is not missed', async (t) => {
  const rig = await used()
  await rig.open('a', 'b')
  await rig.pair.removeSpare(rig.member('a')).done
  const options = {
    policy: { retries: 0, retryPauseMs: 0, onReadError: 'eio' },
    acceptMain: false,
    log: silentLog,
  } as const
  const open = (location: string) =>
    Pair.open(
      { ...rig.disks('b'), unopened: [{ location, error: new Error('unplugged') }] },
      { ...options, emit: () => undefined },
    )
  await t.rejects(open('/disks/c'), { message: 'unplugged' })
  t.equal((await open('/disks/a')).target.pool.members.length, 1)
})

void t.test(
  'what is not blank is not added without force, nor a disk that is in use, nor one that is too small',
  async (t) => {
    const rig = await used()
    await rig.open('a', 'b')
    const other = rig.newSpare('x', 4)
    await formatPair(rig.disks(other), { force: false, log: silentLog })
    const before = snapshot(rig, 'x')
    const add = (name: string, force = false) => rig.pair.addOpened(rig.disk(name), force)
    await t.rejects(add('x'), { name: 'RefusedError', message: /already formatted/ })
    t.ok(snapshot(rig, 'x').equals(before))
    await t.rejects(add('a', true), { name: 'RefusedError', message: /is a spare of this pool already/ })
    await t.rejects(rig.pair.addOpened(rig.disks().main, true), { message: /are the same disk/ })
    await t.rejects(add(rig.newSpare('tiny', -1), true), { name: 'RefusedError', message: /too small/ })
    await add('x', true)
    t.equal(rig.pair.target.pool.members.length, 3)
  },
)

void t.test('a spare whose header cannot be written does not keep another one from being added', async (t) => {
  const rig = await used()
  await rig.open('a', 'b')
  rig.break('a', 'EIO', 'write')
  await rig.pair.addOpened(rig.disk(rig.newSpare('c', 4)), false)
  rig.spares.get('a')!.clear()
  await rig.open('a', 'b', 'c')
  await refuses(t, rig, /missing.*\/disks\/c/, 'a', 'b')
})

/** Lets so many more writes to a disk through, and none after them until it is healed. */
function failAfter(rig: PoolRig, name: string, writes: number): void {
  const { size } = rig.memories.get(name)!
  rig.spares.get(name)!.add({ operations: ['write', 'flush'], start: 0, end: size, code: 'EIO', after: writes })
}

void t.test(
  'an addition that fails anywhere leaves the pool as it was, and the next attempt counts once',
  async (t) => {
    for (let writes = 0, fails = true; fails; writes++) {
      const rig = await used(false)
      failAfter(rig, rig.newSpare('c', 4), writes)
      fails = await rig.pair.addOpened(rig.disk('c'), true).then(
        () => false,
        () => true,
      )
      if (!fails) t.ok(writes > 10, `it failed ${writes} times`)
      t.equal(rig.pair.target.pool.members.length, fails ? 2 : 3)
      rig.spares.get('c')!.clear()
      if (fails && writes % 4 === 0) await rig.open('a', 'b')
      if (fails) await rig.pair.addOpened(rig.disk('c'), true)
      t.equal(rig.pair.target.pool.record.members.length, 3)
      await rig.open('a', 'b', 'c')
    }
  },
)

void t.test('a member that may know of an addition that failed is told better before another one begins', async (t) => {
  for (const writes of [0, 1, 4, 9]) {
    const rig = await used(false)
    rig.newSpare('c', 4)
    rig.newSpare('d', 4)
    for (const name of ['a', 'b']) failAfter(rig, name, writes)
    const added = await rig.pair.addOpened(rig.disk('c'), true).then(
      () => true,
      () => false,
    )
    const before = snapshot(rig, 'd')
    const other = await rig.pair.addOpened(rig.disk('d'), true).then(
      () => true,
      () => false,
    )
    t.equal(rig.pair.target.pool.members.length, 2 + Number(added) + Number(other))
    if (!other && !added) t.ok(snapshot(rig, 'd').equals(before), 'nothing was written to another one')
    for (const name of ['a', 'b']) rig.spares.get(name)!.clear()
    await rig.open('a', 'b', 'c', ...(other ? ['d'] : []))
    for (const block of [0, 1, 2]) t.same(await readFrom(rig.pair.target, block * BLOCK, 1), Buffer.of(block + 1))
  }
})

void t.test(
  'a removal that no other spare could note for certain has not taken place, also after a crash',
  async (t) => {
    for (const writes of [0, 1, 4, 9]) {
      const rig = await PoolRig.create([8, 8])
      failAfter(rig, 'b', writes)
      const removed = await rig.pair.removeSpare(rig.member('a')).done.then(
        () => true,
        () => false,
      )
      await rig.remap(7)
      await rig.pair.target.flush()
      rig.spares.get('b')!.clear()
      await rig.open('a', 'b')
      t.equal(rig.pair.target.pool.members.length, removed ? 1 : 2)
      t.same(await readFrom(rig.pair.target, 7 * BLOCK, 1), Buffer.of(8))
    }
  },
)

void t.test('there is a limit, and it is said', async (t) => {
  const rig = await PoolRig.create([2])
  for (let n = 1; n < 16; n++) await rig.pair.addOpened(rig.disk(rig.newSpare(`n${n}`, 1)), false)
  await t.rejects(rig.pair.addOpened(rig.disk(rig.newSpare('more', 1)), false), {
    message: /there are 16 spares already/,
  })
  t.equal(rig.pair.target.pool.total, 17)
})

void t.test('what replica and scrub remember is on every spare, those that came later included', async (t) => {
  const rig = await PoolRig.create([8, 8])
  const location = 'x'.repeat(512)
  const note = {
    replica: { id: 'f'.repeat(32), identicalIn: 7 },
    scrub: { runs: true, position: 2 ** 50, speed: 2 ** 40, healed: 2 ** 40, lost: 2 ** 40 },
  }
  await rig.pair.target.pool.noteHealing(() => note)
  await rig.pair.addOpened({ ...rig.disk(rig.newSpare('c', 8)), identity: { id: 'c', location } }, false)
  for (const name of ['a', 'b']) await rig.pair.removeSpare(rig.member(name)).done
  await rig.pair.close()
  await rig.open('c')
  t.same(rig.pair.target.pool.healing, note)
})
