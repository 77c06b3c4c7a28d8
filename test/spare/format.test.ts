import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import t from 'tap'
import { MemoryDevice } from '../../src/device/memory.js'
import {
  decodeHeader,
  encodeHeader,
  FORMAT_VERSION,
  HEADER_AREA_SIZE,
  HEADER_OFFSETS,
  layOut,
  PAGE_SIZE,
  pageDamage,
  pageSequence,
  poolOfOne,
  readSlot,
  sealPage,
  slotState,
  SLOTS_PER_PAGE,
  spareSizeMin,
  type Geometry,
} from '../../src/spare/format.js'
import { readCopies } from '../../src/spare/header.js'
import { Spare } from '../../src/spare/spare.js'
import { verifySpare } from '../../src/spare/verify.js'
import { silentLog } from '../../src/util/log.js'
import { Random } from '../../src/util/random.js'
import { GiB, KiB, MiB, slotNumber } from '../../src/util/units.js'
import { readFrom } from '../support/rig.js'
import { fixture, sampleHeader, samplePage, SAMPLE_UUID } from '../support/samples.js'

const readHex = (name: string): Buffer => Buffer.from(readFileSync(fixture(name), 'latin1').replaceAll('\n', ''), 'hex')

void t.test('a header is what it was when its version was released', (t) => {
  const golden = readHex('header-v2.hex')
  t.ok(encodeHeader(sampleHeader, 3).equals(golden))
  t.same(decodeHeader(golden, 3), { kind: 'valid', header: sampleHeader })
  const pool = poolOfOne({ uuid: SAMPLE_UUID, location: '' })
  const header = { ...sampleHeader, version: 1, notes: { ...sampleHeader.notes, pool } }
  t.same(decodeHeader(readHex('header-v1.hex'), 3), { kind: 'valid', header }, 'a spare of version 1 is alone')
  t.end()
})

void t.test('a slot page is what it was when version 1 was released, and did not change with version 2', (t) => {
  const golden = readHex('slot-page-v1.hex')
  t.ok(golden.equals(readHex('slot-page-v2.hex')))
  const place = { uuid: SAMPLE_UUID, page: 1, copy: 1 }
  t.ok(sealPage(samplePage(), place, 0x123456789a).equals(golden))
  t.equal(pageDamage(golden, place), undefined)
  t.equal(pageSequence(golden), 0x123456789a)
  t.same(readSlot(golden, 1), {
    state: 'remapped',
    mainBlock: 0xfedcba987654,
    generation: 0x123456789abc,
    lostMask: 0x81n,
  })
  t.same(
    [0, 1, 2, 3, SLOTS_PER_PAGE - 1].map((index) => [
      slotState(golden, index),
      readSlot(golden, index).lostMask !== 0n,
    ]),
    [
      ['remapped', false],
      ['remapped', true],
      ['retired', false],
      ['free', false],
      ['remapped', true],
    ],
  )
  t.end()
})

for (const version of [1, 2]) {
  void t.test(`a spare of version ${version} can be opened for ever`, async (t) => {
    const image = gunzipSync(readFileSync(fixture(`spare-v${version}.img.gz`)))
    const device = new MemoryDevice(image.length)
    image.copy(device.bytes)
    t.match(await verifySpare(device), {
      clean: true,
      blockSize: 4096,
      main: { location: '/disks/main', size: 64 * 4096 },
      slots: { remapped: 3, retired: 1, lost: 1 },
      problems: [],
    })
    const spare = await Spare.open(device, silentLog)
    t.equal(spare.header.version, version)
    t.same(
      spare.header.notes.pool.members.map(({ uuid }) => uuid),
      [spare.header.uuid],
    )
    t.same(
      [...spare.slots.used()].map(({ number, slot }) => [number, slot.state, slot.mainBlock, slot.lostMask]),
      [
        [0, 'remapped', 2, 0n],
        [1, 'remapped', 3, 32n],
        [2, 'retired', 0, 0n],
        [3, 'remapped', 5, 0n],
      ],
    )
    t.same(await readFrom(device, spare.dataOffset(slotNumber(3)), 4096), Buffer.alloc(4096, 'FIVE'))
    await spare.takeOver(spare.header.notes.main)
    const again = await Spare.open(device, silentLog)
    t.equal(again.header.ownerEpoch, spare.header.ownerEpoch)
    t.equal(again.header.version, FORMAT_VERSION, 'whoever takes it over makes it a spare of the present version')
    t.same(await readCopies(device).then((copies) => copies.map(({ kind }) => kind)), Array(5).fill('valid'))
    t.ok(again.slots.state(slotNumber(3)), 'remapped')
  })
}

void t.test('damage to any single byte of a header is noticed', (t) => {
  const golden = encodeHeader(sampleHeader, 3)
  const notices = (at: number, flip: number): string => {
    const damaged = Buffer.from(golden)
    damaged[at]! ^= flip
    return decodeHeader(damaged, 3).kind
  }
  for (let at = 0; at < golden.length; at++) {
    const kind = notices(at, 1 << (at % 8))
    if (kind !== (at < 8 ? 'absent' : 'damaged')) t.fail(`byte ${at}: ${kind}`)
  }
  t.equal(decodeHeader(golden, 2).kind, 'damaged', 'a copy in the place of another')
  t.equal(decodeHeader(Buffer.alloc(PAGE_SIZE), 0).kind, 'absent')
  t.same(decodeHeader(encodeHeader({ ...sampleHeader, version: FORMAT_VERSION + 1 }, 0), 0), {
    kind: 'unknown-version',
    version: FORMAT_VERSION + 1,
  })
  t.same(decodeHeader(encodeHeader({ ...sampleHeader, version: 0 }, 0), 0), { kind: 'unknown-version', version: 0 })
  t.end()
})

void t.test('a header that is sealed but impossible counts as damaged', (t) => {
  const { notes } = sampleHeader
  const withPool = (change: object) => ({ ...sampleHeader, notes: { ...notes, pool: { ...notes.pool, ...change } } })
  const impossible = [
    { ...sampleHeader, notes: null },
    { ...sampleHeader, notes: { main: notes.main, createdAt: 'x' } },
    withPool({ uuid: 'x' }),
    withPool({ uuid: Buffer.alloc(15) }),
    withPool({ sequence: 1.5 }),
    withPool({ standing: 'guest' }),
    withPool({ opening: 1 }),
    withPool({ members: null }),
    withPool({ members: [null] }),
    withPool({ members: [{ uuid: SAMPLE_UUID }] }),
    withPool({ members: Array(17).fill({ uuid: SAMPLE_UUID, location: '' }) }),
    withPool({ removed: 'x' }),
    { ...sampleHeader, notes: 5 },
    { ...sampleHeader, notes: { main: null } },
    { ...sampleHeader, notes: { main: { id: 'x', location: 'y' } } },
    { ...sampleHeader, notes: { main: { id: 'x', location: 5, fingerprint: [] } } },
    { ...sampleHeader, notes: { main: { id: 'x', location: 'y', fingerprint: ['z'] } } },
    { ...sampleHeader, initialisedPages: sampleHeader.geometry.slotPages + 1 },
    ...[null, {}, { sequenceSum: -1, staleCopies: [] }, { sequenceSum: 1, staleCopies: [[2, 0, 1]] }].map(
      (slotTable) => ({ ...sampleHeader, notes: { ...sampleHeader.notes, slotTable } }),
    ),
  ]
  for (const header of impossible) t.equal(decodeHeader(encodeHeader(header as never, 0), 0).kind, 'damaged')
  t.throws(
    () => encodeHeader({ ...sampleHeader, notes: { ...sampleHeader.notes, createdAt: 'x'.repeat(5000) } }, 0),
    RangeError,
  )
  t.end()
})

void t.test('damage to any single byte of a slot page is noticed', (t) => {
  const place = { uuid: SAMPLE_UUID, page: 1, copy: 1 }
  const golden = sealPage(samplePage(), place, 5)
  for (let at = 0; at < golden.length; at++) {
    const damaged = Buffer.from(golden)
    damaged[at]! ^= 1 << (at % 8)
    if (pageDamage(damaged, place) === undefined) t.fail(`byte ${at}`)
  }
  t.match(pageDamage(golden, { ...place, page: 2 }), /page 1 \(misdirected/)
  t.match(pageDamage(golden, { ...place, copy: 0 }), /copy 1 \(misdirected/)
  t.match(pageDamage(golden, { ...place, uuid: Buffer.alloc(16) }), /another formatting/)
  t.match(pageDamage(Buffer.alloc(PAGE_SIZE), place), /not a slot page/)
  t.end()
})

/** The areas of a spare in the order in which they have to lie. */
const areasOf = (geometry: Geometry): [number, number][] => [
  [0, HEADER_AREA_SIZE],
  [geometry.slotTableOffsets[0], geometry.slotPages * PAGE_SIZE],
  [geometry.dataOffset, geometry.slots * geometry.blockSize],
  [geometry.slotTableOffsets[1], geometry.slotPages * PAGE_SIZE],
  [geometry.spareSize, 0],
]

void t.test('areas never overlap, fit, and waste little, whatever the sizes', (t) => {
  t.ok(HEADER_OFFSETS.every((offset) => offset + PAGE_SIZE <= HEADER_AREA_SIZE))
  const random = new Random('layOut')
  for (let round = 0; round < 3000; round++) {
    const blockSize = random.pick([512, 1024, 4096, 4096, 32 * KiB])
    const magnitude = random.pick([MiB, 64 * MiB, GiB, 1024 * GiB, 16 * 1024 * GiB])
    const spareSize = spareSizeMin(blockSize) + random.below(magnitude)
    const geometry = layOut(GiB, spareSize, blockSize)
    if (!geometry) {
      t.fail(`${spareSize} bytes cannot be laid out`)
      continue
    }
    const areas = areasOf(geometry)
    for (const [n, [start, length]] of areas.slice(0, -1).entries()) {
      if (start + length > areas[n + 1]![0]) t.fail(`area ${n} of ${JSON.stringify(geometry)} runs into the next one`)
    }
    const data = geometry.slots * blockSize
    if (geometry.slots > geometry.slotPages * SLOTS_PER_PAGE) t.fail('there are data blocks without a slot')
    if (geometry.dataOffset % blockSize !== 0) t.fail('data blocks are not aligned')
    if (blockSize === 4096 && spareSize - data > 8 * MiB + 0.02 * spareSize + 4 * PAGE_SIZE)
      t.fail('metadata takes too much')
  }
  t.end()
})

void t.test('the smallest spare has one block, and a smaller one none', (t) => {
  for (const blockSize of [512, 4096, 32 * KiB]) {
    const size = spareSizeMin(blockSize)
    t.ok(layOut(GiB, size, blockSize)!.slots >= 1)
    t.equal(layOut(GiB, size - 1, blockSize), undefined)
    t.equal(layOut(GiB, 0, blockSize), undefined)
  }
  t.end()
})
