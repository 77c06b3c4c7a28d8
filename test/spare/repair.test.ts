/** Repairing, exporting and importing the metadata of a spare that is not being served. */
import { gunzipSync } from 'node:zlib'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { FaultyDevice } from '../support/faulty-device.js'
import { MemoryDevice } from '../../src/device/memory.js'
import { restore } from '../../src/spare/backup.js'
import { dumpSpare, type DumpedPage } from '../../src/spare/dump.js'
import { exportSpare } from '../../src/spare/export.js'
import { HEADER_OFFSETS, PAGE_SIZE, layOut } from '../../src/spare/format.js'
import { SpareImport } from '../../src/spare/import.js'
import { SpareRepair } from '../../src/spare/repair.js'
import { verifySpare } from '../../src/spare/verify.js'
import { silentLog } from '../../src/util/log.js'
import { MiB } from '../../src/util/units.js'
import { newFolder } from '../support/cli.js'
import { RecordingDevice } from '../support/recording-device.js'
import { badSectors, createRig, type Rig } from '../support/rig.js'
import { fixture } from '../support/samples.js'

const GEOMETRY = layOut(64 * 4096, 9 * MiB, 4096)!
const [TABLE_0, TABLE_1] = GEOMETRY.slotTableOffsets

/** A spare with two remapped blocks, stopped. */
async function used(): Promise<{ rig: Rig; spare: MemoryDevice }> {
  const rig = await createRig()
  for (const block of [2, 5]) await remap(rig, block)
  await rig.pair.close()
  const spare = new MemoryDevice(9 * MiB, 'spare')
  rig.spareBytes.copy(spare.bytes)
  return { rig, spare }
}

async function remap(rig: Rig, block: number): Promise<void> {
  rig.main.add(badSectors(['write'], block * 8, 8))
  await rig.target.write(block * 4096, [Buffer.alloc(4096, block)])
}

const scribble = ({ bytes }: MemoryDevice, ...offsets: number[]): void => {
  for (const offset of offsets) bytes.fill(0x5a, offset + 50, offset + 90)
}

const problemsOf = async (spare: MemoryDevice): Promise<readonly string[]> => (await verifySpare(spare)).problems

const backupIn = (t: Test): string => join(newFolder(t), 'backup')

void t.test(
  'damaged copies are rewritten, nothing but what was backed up, and the backup puts them back',
  async (t) => {
    const { spare } = await used()
    scribble(spare, HEADER_OFFSETS[0]!, HEADER_OFFSETS[3]!, TABLE_0, TABLE_1 + PAGE_SIZE)
    const before = Buffer.from(spare.bytes)
    const recorder = new RecordingDevice(spare)
    const repair = await SpareRepair.plan(recorder, silentLog)
    t.match(repair.plan, {
      isIntact: false,
      headerCopies: [{ copy: 0 }, { copy: 3 }],
      slotPages: [
        { page: 0, lost: false, bad: [{ copy: 0, reason: 'checksum does not match' }] },
        { page: 1, lost: false, bad: [{ copy: 1 }] },
      ],
    })
    t.same(recorder.log, [], 'planning writes nothing')
    const backup = backupIn(t)
    await repair.backUp(backup)
    t.same(await repair.apply(), [])
    t.same(await problemsOf(spare), [])
    const allowed = repair.ranges.map(({ offset, length }) => `write ${offset}+${length}`)
    t.same(
      recorder.log.filter((line) => line.startsWith('write') && !allowed.some((prefix) => line.startsWith(prefix))),
      [],
    )
    t.match(await restore(spare, backup, false), { written: repair.ranges.length * PAGE_SIZE, leftAlone: 0 })
    t.ok(spare.bytes.equals(before), 'everything is as it was')
    t.match(await (await SpareRepair.plan(spare, silentLog)).apply(), [])
  },
)

void t.test('an intact spare is left alone', async (t) => {
  const { spare } = await used()
  t.match((await SpareRepair.plan(spare, silentLog)).plan, { isIntact: true, headerCopies: [], slotPages: [] })
})

void t.test('a copy that cannot be written is named, with what to do, and repaired once it can', async (t) => {
  const { spare } = await used()
  scribble(spare, TABLE_1)
  const faulty = new FaultyDevice(spare)
  faulty.add({ operations: ['write'], start: TABLE_1, end: TABLE_1 + 1, code: 'EIO' })
  const [problem = '', ...others] = await (await SpareRepair.plan(faulty, silentLog)).apply()
  t.match(
    problem,
    /slot page 0, copy 1: checksum does not match, and missed an update, for it could not .*replace the spare: /,
  )
  t.same(others, [])
  faulty.clear()
  t.same(await (await SpareRepair.plan(faulty, silentLog)).apply(), [])
})

void t.test(
  'a page without an intact copy is made empty only when that is accepted, and the others stay',
  async (t) => {
    const { rig, spare } = await used()
    scribble(spare, TABLE_0, TABLE_1)
    const before = Buffer.from(spare.bytes)
    const repair = await SpareRepair.plan(spare, silentLog)
    t.equal(repair.lostPages.length, 1)
    await t.rejects(repair.apply(), { name: 'RefusedError', message: /have no intact copy/ })
    t.ok(spare.bytes.equals(before), 'nothing was written')
    t.same(await repair.apply({ acceptLostPages: true }), [])
    spare.bytes.copy(rig.spareBytes)
    rig.spare.clear()
    const { target } = await rig.reopen()
    t.equal(target.table.count, 0)
  },
)

void t.test('a backup is put back only on its own spare, and only while that was not used since', async (t) => {
  const { rig, spare } = await used()
  scribble(spare, TABLE_0)
  const repair = await SpareRepair.plan(spare, silentLog)
  const backup = backupIn(t)
  await repair.backUp(backup)
  await repair.apply()
  spare.bytes.copy(rig.spareBytes)
  await (await rig.reopen()).pair.close()
  rig.spareBytes.copy(spare.bytes)
  await t.rejects(restore(spare, backup, false), { name: 'RefusedError', message: /in use since.*add --force/ })
  const other = await used()
  await t.rejects(restore(other.spare, backup, true), { message: /is of spare .*, and spare is spare / })
  await t.rejects(restore(new MemoryDevice(8 * MiB, 'small'), backup, true), { message: /9437184 bytes.*has 8388608/ })
  await t.resolves(restore(spare, backup, true))
})

void t.test('what is exported brings a spare back of which nothing is left but the data', async (t) => {
  const { rig, spare } = await used()
  const path = backupIn(t)
  t.match(await exportSpare(spare, path), { slotPages: 2, slots: { remapped: 2, retired: 0 } })
  for (const offset of HEADER_OFFSETS) spare.bytes.fill(0, offset, offset + PAGE_SIZE)
  scribble(spare, TABLE_0, TABLE_1)
  const found = await SpareImport.plan(spare, path)
  t.same(found.plan.objections, [], 'the other slot page tells whose spare it is')
  await found.backUp(`${path}.backup`)
  await found.apply(silentLog)
  await found.close()
  t.same(await problemsOf(spare), [])
  spare.bytes.copy(rig.spareBytes)
  const { target } = await rig.reopen()
  for (const block of [2, 5]) {
    const into = Buffer.alloc(4096)
    await target.read(block * 4096, into)
    t.same(into, Buffer.alloc(4096, block))
  }
  await t.rejects(restore(spare, path, true), { message: /is an export: use "nbd-remap import"/ })
  await t.rejects(SpareImport.plan(spare, `${path}.backup`), {
    message: /is a backup: use "nbd-remap repair --restore"/,
  })
})

void t.test('what would be forgotten by an import is said, and another spare is refused', async (t) => {
  const { rig, spare } = await used()
  const path = backupIn(t)
  await exportSpare(spare, path)
  const again = await rig.reopen()
  await remap(again, 7)
  await again.pair.close()
  rig.spareBytes.copy(spare.bytes)
  const found = await SpareImport.plan(spare, path)
  t.match(found.plan, { newerSlots: 1, objections: [/1 slots of spare are newer than those of the file/] })
  await found.apply(silentLog)
  await found.close()
  t.same(await problemsOf(spare), [])
  t.match((await verifySpare(spare)).slots, { remapped: 2 })
  const other = await used()
  await t.rejects(SpareImport.plan(other.spare, path), { name: 'RefusedError', message: /is of spare .* is spare / })
  const blank = await SpareImport.plan(new MemoryDevice(9 * MiB, 'blank'), path)
  t.match(blank.plan.objections, [/nothing on blank says that it is spare/])
  await blank.close()
  await t.rejects(SpareImport.plan(new MemoryDevice(8 * MiB, 'small'), path), { message: /is not of small: .*8388608/ })
})

void t.test('an import that was cut off is refused by serve, and done when it is run again', async (t) => {
  const { rig, spare } = await used()
  const path = backupIn(t)
  await exportSpare(spare, path)
  const faulty = new FaultyDevice(spare)
  faulty.add({ operations: ['flush'], start: 0, end: 1, code: 'ENODEV', times: 2 })
  const cut = await SpareImport.plan(faulty, path)
  await t.rejects(cut.apply(silentLog), { name: 'DeviceError' })
  await cut.close()
  spare.bytes.copy(rig.spareBytes)
  await t.rejects(rig.reopen(), {
    name: 'RefusedError',
    message: /has a slot table and no header\. When an import was cut off/,
  })
  faulty.clear()
  const found = await SpareImport.plan(faulty, path)
  t.same(found.plan.objections, [])
  await found.apply(silentLog)
  await found.close()
  t.same(await problemsOf(spare), [])
})

void t.test('the export of each version is imported for ever', async (t) => {
  const spare = new MemoryDevice(9 * MiB, 'spare')
  gunzipSync(readFileSync(fixture('spare-v2.img.gz'))).copy(spare.bytes)
  const wanted = (await verifySpare(spare)).slots
  const path = backupIn(t)
  writeFileSync(path, gunzipSync(readFileSync(fixture('export-v1.meta.gz'))))
  for (const offset of HEADER_OFFSETS) spare.bytes.fill(0, offset, offset + PAGE_SIZE)
  const found = await SpareImport.plan(spare, path)
  await found.apply(silentLog)
  await found.close()
  t.match(await verifySpare(spare), { problems: [], slots: wanted })
})

async function dumped(spare: MemoryDevice) {
  const dump = await dumpSpare(spare)
  const pages: DumpedPage[] = []
  for await (const page of dump.pages()) pages.push(page)
  return { ...dump, pages }
}

void t.test('a dump has every field of every copy, and what is left of damaged ones', async (t) => {
  const { spare } = await used()
  const whole = await dumped(spare)
  t.equal(whole.problem, '')
  t.ok(whole.headers.every(({ state, fields }) => state === 'in force' && fields?.['blockSize'] === undefined))
  t.match(whole.headers[0]?.fields, {
    uuid: /^[0-9a-f]{32}$/,
    clean: true,
    geometry: { blockSize: 4096 },
    notes: { main: { id: 'memory:main' }, pool: { members: [{ location: '/disks/spare' }] } },
  })
  t.match(whole.pages[0], {
    copies: [
      { state: 'in force', sequence: 3 },
      { state: 'in force', sequence: 3 },
    ],
    slots: [
      { slot: 0, state: 'remapped', mainBlock: 2, mainSector: 16, lostSectors: [] },
      { slot: 1, state: 'remapped', mainBlock: 5 },
    ],
  })
  scribble(spare, ...HEADER_OFFSETS, TABLE_0, TABLE_1)
  const damaged = await dumped(spare)
  t.match(damaged.problem, /none of its 5 header copies is intact/)
  t.match(damaged.headers[2], { state: 'damaged', reason: 'checksum does not match' })
  spare.bytes.fill(0)
  t.match(await dumped(spare), { problem: 'there is no header', slotPages: 0, pages: [] })
})

void t.test('a dump of a spare without an intact header goes by what a damaged one says', async (t) => {
  const { spare } = await used()
  for (const offset of HEADER_OFFSETS) spare.bytes[offset + 8]! ^= 1
  spare.bytes[TABLE_0 + 5]! ^= 1
  const { slotPages, pages } = await dumped(spare)
  t.equal(slotPages, 2)
  t.match(pages[0], {
    copies: [{ state: 'damaged' }, { state: 'in force' }],
    slots: [{ mainBlock: 2 }, { mainBlock: 5 }],
  })
})
