/** Metadata on a spare that hangs: what is still on its way to one copy must be all that a power cut can damage. */
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { DeadlineDevice } from '../../src/device/deadline.js'
import { HEADER_OFFSETS, layOut, PAGE_SIZE } from '../../src/spare/format.js'
import { SlotTable } from '../../src/spare/slots.js'
import { Spare } from '../../src/spare/spare.js'
import { silentLog } from '../../src/util/log.js'
import { mainBlock, MiB, slotNumber } from '../../src/util/units.js'
import { HangingDevice } from '../support/hanging-device.js'
import { seededRandom } from '../support/random.js'
import { SAMPLE_UUID } from '../support/samples.js'

const SIZE = 9 * MiB
const GEOMETRY = layOut(MiB, SIZE, 4096)!
const TIMEOUT_MS = 20
const LATE = { name: 'DeadlineError', code: 'ETIMEDOUT' }

const update = (generation: number) => [
  {
    number: slotNumber(3),
    slot: { state: 'remapped' as const, mainBlock: mainBlock(7), generation, lostMask: 0n },
  },
]

function newDisk() {
  const disk = new HangingDevice(SIZE, 'spare')
  return { disk, device: new DeadlineDevice(disk, { timeoutMs: TIMEOUT_MS, onTimeout: 'eio' }) }
}

for (const copy of [0, 1] as const) {
  void t.test(`while copy ${copy} of a slot page is on its way the other one is not touched`, async (t) => {
    const random = seededRandom(t)
    const { disk, device } = newDisk()
    const table = new SlotTable(device, GEOMETRY, SAMPLE_UUID, silentLog)
    await table.initialise(1)
    await table.commit(update(1))
    const page = GEOMETRY.slotTableOffsets[copy]
    disk.hangs = ({ operation, offset }) => operation === 'write' && offset === page
    await t.rejects(table.commit(update(2)), LATE)
    disk.hangs = () => false
    disk.done.length = 0
    await t.rejects(table.commit(update(3)), LATE)
    await t.rejects(table.commit(update(4)), LATE)
    t.same(
      disk.done.filter(({ operation }) => operation === 'write'),
      [],
    )
    const cut = new HangingDevice(SIZE, 'cut', disk.cut(random))
    const again = new SlotTable(cut, GEOMETRY, SAMPLE_UUID, silentLog)
    t.notOk((await again.load(1)).some(({ lost }) => lost))
    disk.answer(random)
    await turn()
    await table.commit(update(5))
    const seen = new SlotTable(disk, GEOMETRY, SAMPLE_UUID, silentLog)
    t.same(await seen.load(1), [])
    t.equal(seen.get(slotNumber(3)).generation, 5)
    t.equal(
      disk.done.filter(({ operation, length }) => operation === 'write' && length === PAGE_SIZE).length,
      3,
      'the late one, and the two of the last commit',
    )
  })
}

void t.test('while one copy of the header is on its way no other one is touched', async (t) => {
  const random = seededRandom(t)
  const { disk, device } = newDisk()
  const main = { id: 'file:1', location: '/main.img', fingerprint: [], size: MiB }
  await Spare.format(disk, { blockSize: 4096, main, force: false }, silentLog)
  const spare = await Spare.open(device, silentLog)
  await spare.takeOver(main)
  disk.hangs = ({ operation, offset }) => operation === 'write' && offset === HEADER_OFFSETS[2]
  await t.rejects(spare.update({ healing: 1 }), LATE)
  disk.hangs = () => false
  disk.done.length = 0
  await t.rejects(spare.update({ healing: 2 }), LATE)
  await t.rejects(spare.update({ healing: 3 }), LATE)
  t.same(
    disk.done.filter(({ operation }) => operation === 'write'),
    [],
  )
  disk.answer(random)
  await turn()
  await spare.update({ healing: 4 })
  const seen = await Spare.open(disk, silentLog)
  t.equal(seen.header.notes.healing, 4)
  t.same(seen.findings.headerCopies, [])
})
