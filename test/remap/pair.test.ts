import t, { type Test } from 'tap'
import type { Device } from '../../src/device/device.js'
import { FaultyDevice } from '../support/faulty-device.js'
import { MemoryDevice } from '../../src/device/memory.js'
import type { PairDisks } from '../../src/remap/pair-disks.js'
import { formatPair, Pair } from '../../src/remap/pair.js'
import { silentLog } from '../../src/util/log.js'
import { MiB } from '../../src/util/units.js'
import { asDisk, badSectors, createRig, onlySpare, pattern, POLICY, readFrom } from '../support/rig.js'

const MAIN_SIZE = 64 * 4096
const openPair = (disks: PairDisks, acceptMain = false): Promise<Pair> =>
  Pair.open(disks, { policy: POLICY, acceptMain, emit: () => undefined, log: silentLog })

function newDisks(): { main: MemoryDevice; spare: MemoryDevice; disks: PairDisks } {
  const main = new MemoryDevice(MAIN_SIZE, 'main')
  const spare = new MemoryDevice(9 * MiB, 'spare')
  pattern(0, MAIN_SIZE).copy(main.bytes)
  return { main, spare, disks: { main: asDisk(main, 'main'), spares: [asDisk(spare, 'spare')] } }
}

/** A pair with one remap, stopped cleanly. */
async function stoppedPair() {
  const created = newDisks()
  await formatPair(created.disks, { force: false, log: silentLog })
  const faulty = new FaultyDevice(created.main)
  faulty.add(badSectors(['write'], 16, 8))
  const pair = await openPair({ ...created.disks, main: asDisk(faulty, 'main') })
  await pair.target.write(2 * 4096, [Buffer.alloc(4096, 7)])
  await pair.close()
  return created
}

/** Rejects with a RefusedError of this message, and leaves both disks as they were. */
async function refuses(t: Test, disks: PairDisks, message: RegExp, action = openPair): Promise<void> {
  const before = [disks.main, ...disks.spares].map(({ device }) => snapshot(device))
  await t.rejects(action(disks), { name: 'RefusedError', message })
  const after = [disks.main, ...disks.spares].map(({ device }) => snapshot(device))
  t.ok(
    after.every((bytes, n) => bytes.equals(before[n]!)),
    'nothing was written',
  )
}
function snapshot(device: Device): Buffer {
  if (!(device instanceof MemoryDevice)) throw new Error(`${device.name} is not in memory`)
  return Buffer.from(device.bytes)
}

const format = async (disks: PairDisks): Promise<Pair> => {
  await formatPair(disks, { force: false, log: silentLog })
  return openPair(disks)
}

void t.test('the right pair is served', async (t) => {
  const { disks } = await stoppedPair()
  const pair = await openPair(disks)
  t.same(await readFrom(pair.target, 2 * 4096, 4096), Buffer.alloc(4096, 7))
  t.equal(onlySpare(pair.target).header.clean, false)
  await pair.close()
  t.equal(onlySpare(pair.target).header.clean, true)
})

void t.test('one disk cannot be both', async (t) => {
  const { disks } = newDisks()
  const twice = { main: disks.main, spares: [disks.main] }
  await refuses(t, twice, /are the same disk/)
  await refuses(t, twice, /are the same disk/, format)
})

void t.test('swapped disks are noticed', async (t) => {
  const { disks } = await stoppedPair()
  const swapped = { main: disks.spares[0]!, spares: [disks.main] }
  await refuses(t, swapped, /header of an nbd-remap spare.*swapped/)
  await refuses(t, swapped, /swapped/, format)
})

void t.test('a blank spare is not served, and a spare that is in use is not formatted', async (t) => {
  await refuses(t, newDisks().disks, /is blank: add --create/)
  await refuses(t, (await stoppedPair()).disks, /already formatted/, format)
})

void t.test('disks that are too small, and impossible block sizes', async (t) => {
  const { disks } = newDisks()
  await refuses(t, { ...disks, spares: [asDisk(new MemoryDevice(8 * MiB, 'tiny'), 'tiny')] }, /too small/, format)
  await refuses(t, { ...disks, main: asDisk(new MemoryDevice(100, 'tiny'), 'tiny') }, /too small: 100 bytes/, format)
  for (const blockSize of [0, 256, 3000, 65536]) {
    await t.rejects(formatPair(disks, { blockSize, force: true, log: silentLog }), { name: 'UsageError' })
  }
})

void t.test('a foreign main is refused, of another size or another content', async (t) => {
  const { disks } = await stoppedPair()
  const other = (size: number) => asDisk(new MemoryDevice(size, 'other'), 'other')
  await refuses(t, { ...disks, main: other(MAIN_SIZE + 512) }, /belongs to a main of 262144 bytes .* has 262656 bytes/)
  await refuses(t, { ...disks, main: other(MAIN_SIZE) }, /content is not what it was.*--accept-main/)
  await t.rejects(openPair({ ...disks, main: other(MAIN_SIZE + 512) }, true), /has 262656 bytes/, 'not even when told')
})

void t.test('a stale main is refused after a clean stop, unless told otherwise', async (t) => {
  const { disks, main } = await stoppedPair()
  main.bytes[0]! ^= 1
  await refuses(t, disks, /content is not what it was/)
  t.equal((await openPair(disks, true)).target.table.count, 1)
})

void t.test('a main that moved is recognised by its content', async (t) => {
  const { disks, main } = await stoppedPair()
  const pair = await openPair({ ...disks, main: asDisk(main, 'moved') })
  t.equal(pair.target.table.count, 1)
})

void t.test('after a crash a main of another name is refused, for its content cannot be compared', async (t) => {
  const { disks, main } = await stoppedPair()
  await openPair(disks)
  await refuses(t, { ...disks, main: asDisk(main, 'moved') }, /another main \(\/disks\/main/)
  await openPair(disks)
})

void t.test('a read-only pair reads through its remaps and leaves the spare as it is', async (t) => {
  const { disks, main, spare } = await stoppedPair()
  const before = Buffer.from(spare.bytes)
  for (const device of [main, spare]) Object.defineProperty(device, 'readOnly', { value: true })
  const pair = await openPair(disks)
  t.ok(pair.target.readOnly)
  t.same(await readFrom(pair.target, 2 * 4096 - 1, 2), Buffer.from([pattern(8191, 1)[0]!, 7]))
  await pair.close()
  t.ok(spare.bytes.equals(before))
})

void t.test('repairs at the start are reported', async (t) => {
  const rig = await createRig()
  rig.spareBytes.fill(0x55, 524288, 524288 + 4096)
  const { slotTableOffsets } = onlySpare(rig.target).geometry
  rig.spareBytes.fill(0x55, slotTableOffsets[1], slotTableOffsets[1] + 4096)
  const again = await rig.reopen()
  t.match(again.events, [
    ['METADATA_REPAIRED', { structure: 'header', copies: [1] }],
    ['METADATA_REPAIRED', { structure: 'slot-page', number: 0, copies: [1] }],
  ])
})

void t.test('a stop that fails is not recorded as clean, and closes the disks all the same', async (t) => {
  const rig = await createRig()
  rig.main.add({ operations: ['flush'], start: 0, end: 1, code: 'EIO' })
  await t.rejects(rig.pair.close(), { message: /could not be stopped cleanly: .*EIO/ })
  t.equal(onlySpare(rig.target).header.clean, false)
})
