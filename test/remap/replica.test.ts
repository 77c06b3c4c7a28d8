/** What a replica heals, and above all what is never taken from it: content older than what was written (promise P3). */
import t from 'tap'
import { DeviceError } from '../../src/device/device.js'
import { FaultyDevice } from '../support/faulty-device.js'
import { MemoryDevice } from '../../src/device/memory.js'
import { addRemaps, batchOf } from '../../src/remap/admin.js'
import { admitReplica, declareReplica, noteUnchanged } from '../../src/remap/replica-open.js'
import { Replica, type ReplicaState } from '../../src/remap/replica.js'
import { TrackedDevice } from '../../src/remap/tracked.js'
import { silentLog } from '../../src/util/log.js'
import { SECTOR_SIZE } from '../../src/util/units.js'
import {
  onlySpare,
  badSectors,
  createRig,
  pattern,
  POLICY,
  readFrom,
  type Rig,
  type RigOptions,
} from '../support/rig.js'

const ADD = { skipRemapped: false, policy: POLICY }
const BLOCK = 4096
const SECTORS = BLOCK / SECTOR_SIZE
const SIZE = 64 * BLOCK

const fill = (value: number, length: number): Buffer[] => [Buffer.alloc(length, value)]

interface ReplicaRig extends Rig {
  readonly copy: FaultyDevice
  readonly copyBytes: Buffer
  readonly replica: Replica
  /** What the clients of the server use. */
  readonly device: TrackedDevice
}

async function replicaRig(state: ReplicaState = 'stale', options: RigOptions = {}): Promise<ReplicaRig> {
  const memory = new MemoryDevice(SIZE, 'replica')
  pattern(0, SIZE).copy(memory.bytes)
  const copy = new FaultyDevice(memory)
  const replica = new Replica(copy, 'memory:replica', state, silentLog)
  const rig = await createRig({ ...options, replica })
  await admitReplica(rig.target, silentLog)
  return { ...rig, copy, copyBytes: memory.bytes, replica, device: new TrackedDevice(rig.target, replica) }
}

const remaps = (rig: Rig) => rig.events.filter(([name]) => name === 'REMAP_ADDED').map(([, data]) => data)

void t.test('a block that main cannot read comes from the replica, and moves to the spare', async (t) => {
  const rig = await replicaRig()
  rig.main.add(badSectors(['read'], 18, 3))
  t.same(await readFrom(rig.device, 2 * BLOCK, BLOCK), pattern(2 * BLOCK, BLOCK))
  t.match(remaps(rig), [{ reason: 'replica', 'lost-sectors': 0 }])
  t.equal(rig.replica.healedBlocks, 1)
  rig.copyBytes.fill(0)
  t.same(await readFrom(rig.device, 2 * BLOCK, BLOCK), pattern(2 * BLOCK, BLOCK), 'again, without it')
  const again = await rig.reopen()
  t.same(await readFrom(again.target, 2 * BLOCK, BLOCK), pattern(2 * BLOCK, BLOCK), 'and after a restart')
})

void t.test('what was written since is never taken from it', async (t) => {
  for (const state of ['stale', 'in-sync'] as const) {
    const rig = await replicaRig(state)
    await rig.device.write(2 * BLOCK + 100, fill(7, 10))
    await rig.device.writeZeroes(3 * BLOCK, 1)
    await rig.device.trim(4 * BLOCK + BLOCK - 1, 1)
    rig.main.add(badSectors(['read'], 2 * SECTORS, 3 * SECTORS))
    for (const block of [2, 3, 4]) {
      if (state === 'in-sync') {
        t.same(await readFrom(rig.device, block * BLOCK, BLOCK), pattern(block * BLOCK, BLOCK), 'its owner vouches')
      } else {
        await t.rejects(readFrom(rig.device, block * BLOCK, BLOCK), { code: 'EIO' }, `block ${block} is lost`)
      }
    }
    t.same(await readFrom(rig.device, 5 * BLOCK, BLOCK), pattern(5 * BLOCK, BLOCK))
  }
})

void t.test('the rest of a block that is written in part comes from the replica, unless it was changed', async (t) => {
  const rig = await replicaRig('in-sync')
  rig.main.add(badSectors(['read', 'write'], 16, SECTORS))
  await rig.device.write(2 * BLOCK + 700, fill(7, 600))
  const expected = pattern(2 * BLOCK, BLOCK)
  expected.fill(7, 700, 1300)
  t.same(await readFrom(rig.device, 2 * BLOCK, BLOCK), expected)
  const other = await replicaRig()
  other.main.add(badSectors(['read', 'write'], 16, SECTORS))
  await t.rejects(
    Promise.resolve(other.device.write(2 * BLOCK + 700, fill(7, 600))),
    { code: 'EIO' },
    'a write into a lost sector cannot be kept',
  )
})

void t.test('sectors that were lost before there was a replica come back', async (t) => {
  const rig = await createRig()
  rig.main.add(badSectors(['read'], 18, 3))
  await t.rejects(readFrom(rig.target, 2 * BLOCK, BLOCK), DeviceError)
  const memory = new MemoryDevice(SIZE, 'replica')
  pattern(0, SIZE).copy(memory.bytes)
  const replica = new Replica(memory, 'memory:replica', 'stale', silentLog)
  const healed = await rig.reopen(replica)
  await admitReplica(healed.target, silentLog)
  t.same(await readFrom(healed.target, 2 * BLOCK + 2 * SECTOR_SIZE, 1), pattern(2 * BLOCK + 2 * SECTOR_SIZE, 1))
  t.same(await readFrom(healed.target, 2 * BLOCK, BLOCK), pattern(2 * BLOCK, BLOCK))
  const again = await healed.reopen()
  t.same(await readFrom(again.target, 2 * BLOCK, BLOCK), pattern(2 * BLOCK, BLOCK), 'durably')
})

void t.test('a replica that fails, too, heals what it can', async (t) => {
  const rig = await replicaRig()
  rig.main.add(badSectors(['read'], 18, 3))
  rig.copy.add(badSectors(['read'], 19))
  await t.rejects(readFrom(rig.device, 2 * BLOCK, BLOCK), { code: 'EIO', offset: 19 * SECTOR_SIZE })
  t.match(remaps(rig), [{ reason: 'read-error', 'lost-sectors': 1 }])
  t.same(await readFrom(rig.device, 20 * SECTOR_SIZE, SECTOR_SIZE), pattern(20 * SECTOR_SIZE, SECTOR_SIZE))
  rig.copy.clear()
  t.same(await readFrom(rig.device, 2 * BLOCK, BLOCK), pattern(2 * BLOCK, BLOCK), 'later it has the rest')
})

void t.test('while main is gone it is read in its place, and nothing is remapped', async (t) => {
  for (const code of ['ENODEV', 'ETIMEDOUT'] as const) {
    const rig = await replicaRig()
    await rig.device.write(BLOCK, fill(7, 1))
    rig.main.add(badSectors(['read', 'write'], 0, SIZE / SECTOR_SIZE, { code }))
    t.same(await readFrom(rig.device, 2 * BLOCK, 3 * BLOCK), pattern(2 * BLOCK, 3 * BLOCK))
    await t.rejects(readFrom(rig.device, 0, 2 * BLOCK), { code }, 'not what was changed')
    await t.rejects(Promise.resolve(rig.device.write(0, fill(1, 1))), { code })
    t.same(remaps(rig), [])
  }
})

void t.test('a spare block that cannot be read comes from the replica, unless it was written there', async (t) => {
  const rig = await replicaRig()
  await addRemaps(rig.target, batchOf(rig.target, { mainSector: 16, sectors: 16 }), { ...ADD, copy: true })
  await rig.device.write(3 * BLOCK, fill(7, BLOCK))
  rig.spare.add({
    operations: ['read'],
    start: onlySpare(rig.target).dataOffset(0 as never),
    end: 9 << 20,
    code: 'EIO',
  })
  t.same(await readFrom(rig.device, 2 * BLOCK, BLOCK), pattern(2 * BLOCK, BLOCK))
  await t.rejects(readFrom(rig.device, 3 * BLOCK, BLOCK), DeviceError)
})

void t.test('blocks that an operator remapped without their content are changed blocks', async (t) => {
  const rig = await replicaRig()
  await addRemaps(rig.target, batchOf(rig.target, { mainSector: 16, sectors: 8 }), { ...ADD, copy: false })
  t.notOk(rig.replica.covers(2 * BLOCK, 1))
  t.ok(rig.replica.covers(3 * BLOCK, BLOCK))
})

void t.test('after a restart it is stale, unless nothing was changed or it is declared anew', async (t) => {
  const rig = await replicaRig()
  const restarted = async (from: Rig): Promise<{ rig: Rig; replica: Replica }> => {
    const replica = new Replica(rig.copy, 'memory:replica', 'stale', silentLog)
    const next = await from.reopen(replica)
    await admitReplica(next.target, silentLog)
    return { rig: next, replica }
  }
  const crashed = await restarted(rig)
  t.equal(crashed.replica.state, 'stale', 'a crash: nobody knows')
  crashed.rig.main.add(badSectors(['read'], 18))
  await t.rejects(readFrom(crashed.rig.target, 2 * BLOCK, BLOCK), DeviceError)

  await declareReplica(crashed.rig.target)
  t.equal(crashed.replica.state, 'identical')
  t.same(await readFrom(crashed.rig.target, 2 * BLOCK, BLOCK), pattern(2 * BLOCK, BLOCK))
  await noteUnchanged(crashed.rig.target)
  const idle = await restarted(crashed.rig)
  t.equal(idle.replica.state, 'identical', 'a clean stop after which nothing had been changed')

  const device = new TrackedDevice(idle.rig.target, idle.replica)
  await device.write(0, fill(7, 1))
  await noteUnchanged(idle.rig.target)
  const written = await restarted(idle.rig)
  t.equal(written.replica.state, 'stale')
  await t.rejects(declareReplica(written.rig.target), { name: 'RefusedError' }, 'it is not what is served')
  rig.copyBytes[0] = 7
  await declareReplica(written.rig.target)
  await noteUnchanged(written.rig.target)
  t.equal(written.replica.state, 'identical')

  const without = await written.rig.reopen()
  await without.target.write(0, fill(8, 1))
  t.equal((await restarted(without)).replica.state, 'stale', 'it was served without the replica meanwhile')
})

void t.test('a replica that was in use before another one is stale when it comes back', async (t) => {
  const rig = await replicaRig()
  const use = async (from: Rig, id: string): Promise<{ rig: Rig; replica: Replica }> => {
    const replica = new Replica(rig.copy, `memory:${id}`, 'stale', silentLog)
    const next = await from.reopen(replica)
    await admitReplica(next.target, silentLog)
    return { rig: next, replica }
  }
  const other = await use(rig, 'other')
  t.equal(other.replica.state, 'stale', 'nobody has said that it is a copy of what is served now')
  await declareReplica(other.rig.target)
  t.equal(other.replica.state, 'identical')
  t.equal((await use(other.rig, 'replica')).replica.state, 'stale')
})

void t.test('what changes while it is being declared identical is never taken from it', async (t) => {
  const rig = await replicaRig()
  /** Calls that wait until they are let go. */
  const held: (() => void)[] = []
  const hold = (): Promise<void> => new Promise((resolve) => held.push(resolve))
  const { main, copy } = rig
  const [readCopy, writeMain] = [copy.read.bind(copy), main.write.bind(main)]
  main.write = async (offset, chunks) => {
    await hold()
    await writeMain(offset, chunks)
  }
  const begunBefore = rig.device.write(2 * BLOCK, fill(7, BLOCK))
  main.write = writeMain
  // The last one of the samples, when those of the other blocks have been taken.
  copy.read = async (offset, into) => {
    if (offset === SIZE - BLOCK) await hold()
    await readCopy(offset, into)
  }
  const declared = declareReplica(rig.target)
  while (held.length < 2) await new Promise((resolve) => setImmediate(resolve))
  t.notOk(rig.replica.covers(0, 1), 'nothing is taken from it meanwhile')
  await rig.device.write(BLOCK + 512, fill(7, 512))
  for (const go of held) go()
  await Promise.all([declared, begunBefore])
  t.equal(rig.replica.state, 'identical')
  t.equal(rig.replica.changedBytes, 2 * BLOCK)
  main.add(badSectors(['read'], SECTORS, 2 * SECTORS))
  t.same(await readFrom(rig.device, BLOCK, 512), pattern(BLOCK, 512), 'what did not change is')
  for (const offset of [BLOCK + 512, 2 * BLOCK, 3 * BLOCK - 512]) {
    await t.rejects(readFrom(rig.device, offset, 512), { code: 'EIO' }, `offset ${offset}`)
  }
})

void t.test('a declaration that is refused forgets no change', async (t) => {
  const rig = await replicaRig()
  await rig.device.write(BLOCK, fill(7, 1))
  await t.rejects(declareReplica(rig.target), { name: 'RefusedError' })
  t.equal(rig.replica.state, 'identical')
  t.notOk(rig.replica.covers(BLOCK, 1))
  t.ok(rig.replica.covers(BLOCK + 512, BLOCK - 512), 'the rest of the block has not changed')
  t.ok(rig.replica.covers(2 * BLOCK, BLOCK))
})

void t.test('what is no copy is refused', async (t) => {
  const replica = new Replica(new MemoryDevice(SIZE), 'memory:other', 'stale', silentLog)
  const rig = await createRig({ replica })
  await t.rejects(admitReplica(rig.target, silentLog), { name: 'RefusedError', message: /differs from main/ })
})
