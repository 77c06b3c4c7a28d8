import t from 'tap'
import { FaultyDevice } from '../support/faulty-device.js'
import { MemoryDevice } from '../../src/device/memory.js'
import { findContent } from '../../src/spare/blank.js'
import { mainMismatch, takeFingerprint, type RecordedMain, type SeenMain } from '../../src/spare/identity.js'
import { crc32c } from '../../src/util/crc32c.js'
import { KiB, MiB } from '../../src/util/units.js'
import { pattern } from '../support/rig.js'

const ZEROS = crc32c(Buffer.alloc(4096))
const RECORDED: RecordedMain = {
  id: 'file:1',
  location: '/disks/main.img',
  size: 1000,
  fingerprint: [11, 22, ZEROS],
  clean: true,
  remaps: 3,
}
const SEEN: SeenMain = { id: 'file:1', location: '/disks/main.img', size: 1000, fingerprint: [11, 22, ZEROS] }

const cases: { name: string; recorded?: Partial<RecordedMain>; seen?: Partial<SeenMain>; expected?: RegExp }[] = [
  { name: 'the same disk' },
  { name: 'the same disk at another place', seen: { location: '/elsewhere' } },
  { name: 'another size', seen: { size: 999 }, expected: /belongs to a main of 1000 bytes .* has 999/ },
  { name: 'a copy of the disk under another name', seen: { id: 'file:2' } },
  { name: 'another disk', seen: { id: 'file:2', fingerprint: [1, 2, 3] }, expected: /content is not what it was/ },
  {
    name: 'the same disk written to behind our back',
    seen: { fingerprint: [11, 23, ZEROS] },
    expected: /not what it was/,
  },
  {
    name: 'the same, but without remaps that it could harm',
    recorded: { remaps: 0 },
    seen: { fingerprint: [11, 23, ZEROS] },
  },
  {
    name: 'another disk without remaps',
    recorded: { remaps: 0 },
    seen: { id: 'file:2', fingerprint: [1, 2, 3] },
    expected: /another main/,
  },
  { name: 'the same disk after a crash', recorded: { clean: false }, seen: { fingerprint: [1, 2, 3] } },
  {
    name: 'another disk after a crash',
    recorded: { clean: false },
    seen: { id: 'file:2' },
    expected: /another main .*file:1.* this one is file:2/,
  },
  { name: 'samples that cannot be read any more', seen: { fingerprint: [-1, 22, -1] } },
  { name: 'samples that could not be read then', recorded: { fingerprint: [11, -1, ZEROS] } },
  {
    name: 'a dead disk under another name',
    seen: { id: 'file:2', fingerprint: [-1, -1, -1] },
    expected: /another main/,
  },
  {
    name: 'two blank disks look alike',
    recorded: { fingerprint: [ZEROS, ZEROS] },
    seen: { id: 'file:2', fingerprint: [ZEROS, ZEROS] },
    expected: /another main/,
  },
  { name: 'no fingerprint was ever taken', recorded: { fingerprint: [] } },
]

for (const { name, recorded, seen, expected } of cases) {
  void t.test(`${name} is ${expected ? 'refused' : 'accepted'}`, (t) => {
    const mismatch = mainMismatch({ ...RECORDED, ...recorded }, { ...SEEN, ...seen })
    if (expected) t.match(mismatch, expected)
    else t.equal(mismatch, undefined)
    t.end()
  })
}

void t.test('a fingerprint samples the disk from its first block to its last', async (t) => {
  const memory = new MemoryDevice(2 * MiB + 100)
  pattern(0, memory.size).copy(memory.bytes)
  const before = await takeFingerprint(memory)
  t.equal(before.length, 64)
  t.equal(before[0], crc32c(memory.bytes.subarray(0, 4096)))
  for (const [at, sample] of [
    [0, 0],
    [memory.size - 600, 63],
  ] as const) {
    memory.bytes[at]! ^= 1
    const changed = (await takeFingerprint(memory)).flatMap((crc, n) => (crc === before[n] ? [] : [n]))
    t.same(changed, [sample])
    memory.bytes[at]! ^= 1
  }
  const faulty = new FaultyDevice(memory)
  faulty.add({ operations: ['read'], start: 0, end: 512, code: 'EIO' })
  t.equal((await takeFingerprint(faulty))[0], -1)
  t.equal((await takeFingerprint(new MemoryDevice(700))).length, 64, 'a tiny disk has one, too')
})

void t.test('content is found in the header area, at the end, and in samples between', async (t) => {
  const memory = new MemoryDevice(20 * MiB)
  t.equal(await findContent(memory), undefined)
  for (const at of [0, 8 * MiB - 1, memory.size - 1, memory.size - MiB]) {
    memory.bytes[at] = 1
    t.match(await findContent(memory), { offset: Number, what: 'there is data' }, `at ${at}`)
    memory.bytes[at] = 0
  }
  memory.bytes.fill(1, 10 * MiB, 10 * MiB + 330 * KiB)
  t.match(await findContent(memory), { what: 'there is data' })
  t.equal(await findContent(new MemoryDevice(10)), undefined)
  const faulty = new FaultyDevice(new MemoryDevice(20 * MiB))
  faulty.add({ operations: ['read'], start: 8 * MiB, end: 8 * MiB + 512, code: 'EIO' })
  t.same(
    await findContent(faulty),
    { offset: 8 * MiB, what: 'it cannot be read' },
    'what cannot be read may be anything',
  )
})
