import t from 'tap'
import { FaultyDevice } from '../support/faulty-device.js'
import { MemoryDevice } from '../../src/device/memory.js'
import { HEADER_OFFSETS, HEADER_SIZE } from '../../src/spare/format.js'
import { hasHeader, readHeader, wipeHeaders, writeHeader } from '../../src/spare/header.js'
import { silentLog } from '../../src/util/log.js'
import { MiB } from '../../src/util/units.js'
import { RecordingDevice } from '../support/recording-device.js'
import { sampleHeader } from '../support/samples.js'

const label = (offset: number): string => `copy ${HEADER_OFFSETS.indexOf(offset)}`

function newDisk() {
  const memory = new MemoryDevice(9 * MiB, 'spare')
  const faults = new FaultyDevice(memory)
  return { memory, faults, device: new RecordingDevice(faults, label) }
}

void t.test('header copies stand where dm-remap puts them', (t) => {
  t.same(HEADER_OFFSETS, [0, 524288, 1048576, 2097152, 4194304])
  t.end()
})

void t.test('one copy at a time, with a flush between', async (t) => {
  const { device } = newDisk()
  t.equal(await writeHeader(device, sampleHeader, silentLog), 5)
  const inOrder = (copies: number[]) => copies.flatMap((copy) => [`write copy ${copy}`, 'flush'])
  t.same(device.log, inOrder([0, 1, 2, 3, 4]))
  t.match(await readHeader(device), { kind: 'chosen', header: { sequence: sampleHeader.sequence }, bad: { length: 0 } })
  device.log.length = 0
  await writeHeader(device, sampleHeader, silentLog, [1, 2, 3, 4])
  t.same(device.log, inOrder([1, 2, 3, 4, 0]), 'the copies that are not intact come first')
})

void t.test('copies that cannot be written are given up while one can', async (t) => {
  const { faults, device } = newDisk()
  for (const copy of [0, 2, 3, 4]) {
    const start = HEADER_OFFSETS[copy]!
    faults.add({ operations: ['write'], start, end: start + 1, code: 'EIO' })
  }
  t.equal(await writeHeader(device, sampleHeader, silentLog), 1)
  t.match(await readHeader(device), { kind: 'chosen', bad: [{ copy: 0 }, { copy: 2 }, { copy: 3 }, { copy: 4 }] })
  faults.add({ operations: ['write'], start: 0, end: 9 * MiB, code: 'EIO' })
  await t.rejects(writeHeader(device, sampleHeader, silentLog), { code: 'EIO' })
})

void t.test('no further copy is begun while one cannot be flushed', async (t) => {
  const { faults, device } = newDisk()
  faults.add({ operations: ['flush'], start: 0, end: 1, code: 'EIO' })
  await t.rejects(writeHeader(device, sampleHeader, silentLog), { code: 'EIO', operation: 'flush' })
  t.same(device.log, ['write copy 0', 'flush', 'flush'])
})

void t.test('one intact copy of five is enough, and unreadable ones count as damaged', async (t) => {
  for (const survivor of HEADER_OFFSETS.keys()) {
    const { memory, faults, device } = newDisk()
    await writeHeader(device, sampleHeader, silentLog)
    for (const [copy, start] of HEADER_OFFSETS.entries()) {
      if (copy === survivor) continue
      if (copy % 2 === 0) memory.bytes.fill(0xff, start + 8, start + HEADER_SIZE)
      else faults.add({ operations: ['read'], start, end: start + 1, code: 'EIO' })
    }
    const choice = await readHeader(device)
    t.match(choice, { kind: 'chosen', header: { sequence: sampleHeader.sequence } })
    t.equal('bad' in choice && choice.bad.length, 4)
  }
})

void t.test('is there a header at all', async (t) => {
  const { memory, faults, device } = newDisk()
  t.equal(await hasHeader(device), false)
  t.same(await readHeader(device), { kind: 'absent' })
  faults.add({ operations: ['read'], start: 0, end: 1, code: 'EIO' })
  t.equal(await hasHeader(device), false, 'an unreadable place holds none')
  await writeHeader(device, sampleHeader, silentLog)
  t.equal(await hasHeader(device), true)
  for (const offset of HEADER_OFFSETS) memory.bytes.fill(0xff, offset + 8, offset + HEADER_SIZE)
  t.equal(await hasHeader(device), true, 'a damaged one is one')
  await wipeHeaders(device)
  t.equal(await hasHeader(device), false)
  t.equal(await hasHeader(new MemoryDevice(100)), false, 'a disk without room for one has none')
})
