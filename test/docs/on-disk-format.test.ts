/** docs/ON-DISK-FORMAT.md against the code: every offset, the geometry, and the dumps. */
import { unpack } from 'msgpackr'
import t, { type Test } from 'tap'
import {
  BLOCK_SIZE_MAX,
  BLOCK_SIZE_MIN,
  decodeHeader,
  emptyPage,
  encodeHeader,
  FORMAT_VERSION,
  HEADER_AREA_SIZE,
  HEADER_OFFSETS,
  HEADER_SIZE,
  layOut,
  PAGE_SIZE,
  pageDamage,
  POOL_MEMBERS_MAX,
  pageSequence,
  readSlot,
  sealPage,
  SLOTS_MAX,
  SLOTS_PER_PAGE,
  spareSizeMin,
  STALE_RUNS_MAX,
  writeSlot,
  type Header,
} from '../../src/spare/format.js'
import {
  encodeFileHead,
  encodeRangeHead,
  FILE_HEAD_SIZE,
  FILE_VERSION,
  RANGE_HEAD_SIZE,
  RANGE_LENGTH_MAX,
} from '../../src/spare/metadata-file.js'
import { crc32c } from '../../src/util/crc32c.js'
import { mainBlock, MiB } from '../../src/util/units.js'
import { Document, type Table } from '../support/documents.js'

const document = new Document('docs/ON-DISK-FORMAT.md')

interface Field {
  readonly offset: number
  readonly size: number
  readonly type: string
  readonly field: string
}

const fieldsOf = (table: Table): Field[] =>
  table.rows.map(([offset, size, type = '', field = '']) => ({
    offset: Number(offset),
    size: Number(size),
    type,
    field,
  }))

/** Integers as numbers, everything else as the bytes themselves. */
function valueAt(page: Buffer, { offset, size, type }: Field): number | Buffer {
  if (type === 'bytes') return page.subarray(offset, offset + size)
  if (type === 'u64') return Number(page.readBigUInt64LE(offset))
  return page.readUIntLE(offset, size)
}

const valuesOf = (page: Buffer, fields: readonly Field[]): Record<string, number | Buffer> =>
  Object.fromEntries(
    fields.filter(({ field }) => field !== 'unused').map((field) => [field.field, valueAt(page, field)]),
  )

/** Every byte of the structure is said to be something, and integers have the size of their type. */
function assertNoGaps(t: Test, fields: readonly Field[], total: number): void {
  let end = 0
  for (const { offset, size, type, field } of fields) {
    t.equal(offset, end, `${field} begins where the field before it ends`)
    if (type !== 'bytes') t.equal(`u${8 * size}`, type, `${field} has the size of its type`)
    end = offset + size
  }
  t.equal(end, total, 'the last field ends with the structure')
}

function checksumOf(page: Buffer, offset: number): number {
  const copy = Buffer.from(page)
  copy.writeUInt32LE(0, offset)
  return crc32c(copy)
}

// No two fields have the same value.
const GEOMETRY = {
  blockSize: 8192,
  mainSize: 0x11_2233_4455,
  spareSize: 0x22_3344_5566,
  slots: 0x3344_5566,
  slotPages: 0x4455,
  slotTableOffsets: [0x55_6677_8800, 0x66_7788_9900] as const,
  dataOffset: 0x77_8899_aa00,
}
const HEADER: Header = {
  version: FORMAT_VERSION,
  uuid: Buffer.from('00112233445566778899aabbccddeeff', 'hex'),
  sequence: 0x1234_5678_9abc,
  ownerEpoch: 0x2345_6789,
  clean: true,
  geometry: GEOMETRY,
  initialisedPages: 0x3456,
  notes: {
    main: { id: 'file:1', location: 'main.img', fingerprint: [1, -1] },
    createdAt: '2026-01-31T12:00:00.000Z',
    pool: {
      uuid: Buffer.alloc(16, 1),
      sequence: 2,
      standing: 'member',
      opening: false,
      members: [{ uuid: Buffer.alloc(16, 1), location: '/spare.img' }],
      removed: [{ uuid: Buffer.alloc(16, 2), location: '/old.img' }],
    },
    slotTable: { sequenceSum: 5, staleCopies: [[1, 7, 2]] },
    healing: { scrub: { position: 0 } },
    lifetime: [60, 1, 2],
    errors: { moves: 1, dropped: 0, totals: [1], worst: [[5, 6, 7, 1, 1]] },
    owner: Buffer.alloc(8, 3),
    moves: { count: 1, former: ['abcdefghijkl'] },
    moving: { name: 'abcdefghijkl', size: 1, done: 0, epoch: 2 },
  },
}

void t.test('files with metadata: head and range are laid out as the tables say', (t) => {
  const [head, range] = [document.table('Files with metadata', 'offset'), document.table('A range of bytes', 'offset')]
  const fields = fieldsOf(head)
  assertNoGaps(t, fields, FILE_HEAD_SIZE)
  const facts = { uuid: HEADER.uuid, spareSize: 0x11_2233_4455, headerSequence: 0x2345_6789, ranges: 3, length: 0x777 }
  const bytes = encodeFileHead({ kind: 'backup', ...facts })
  const magic = Buffer.from('NBDRMETA')
  t.same(valuesOf(bytes, fields), { ...facts, magic, crc: checksumOf(bytes, 8), version: FILE_VERSION, kind: 2 })
  const content = Buffer.from('bytes')
  const rangeFields = fieldsOf(range)
  assertNoGaps(t, rangeFields, RANGE_HEAD_SIZE)
  const place = { offset: 0x12_3456_7890, length: 5 }
  const followed = encodeRangeHead({ ...place, bytes: content }, 4)
  const crc = checksumOf(Buffer.concat([followed, content]), 20)
  t.same(valuesOf(followed, rangeFields), { ...place, index: 4, state: 0, crc })
  t.match(valuesOf(encodeRangeHead(place, 4), rangeFields), { state: 1 })
  t.equal(RANGE_LENGTH_MAX, MiB)
  t.end()
})

void t.test('the layout: header copies and slot tables stand where the table says', (t) => {
  const offsets = document.table('Layout', 'offset').rows.map(([offset]) => offset)
  t.same(offsets.slice(0, 5).map(Number), HEADER_OFFSETS)
  t.equal(Number(offsets[5]), HEADER_AREA_SIZE)
  t.same(offsets.slice(6), ['dataOffset', 'slotTable1'])
  t.match(document.text, `Format version ${FORMAT_VERSION}.`)
  t.end()
})

void t.test('the geometry: the examples and the rules give what the code gives', (t) => {
  for (const row of document.table('Geometry', 'mainSize').rows.map((cells) => cells.map(Number))) {
    const [mainSize = 0, spareSize = 0, blockSize = 0, slots, slotPages, dataOffset, slotTable1] = row
    const expected = { slots, slotPages, dataOffset, slotTableOffsets: [HEADER_AREA_SIZE, slotTable1] }
    t.match(layOut(mainSize, spareSize, blockSize), expected)
  }
  t.match(document.text, `from ${BLOCK_SIZE_MIN} to ${BLOCK_SIZE_MAX}`)
  t.match(document.text, `at most ${SLOTS_MAX}`)
  for (const [blockSize, end] of [4096, BLOCK_SIZE_MAX].map((size) => [size, spareSizeMin(size)] as const)) {
    t.match(document.text, `${end} bytes`)
    t.equal(layOut(2 ** 30, end, blockSize)?.slots, 1)
    t.equal(layOut(2 ** 30, end - PAGE_SIZE, blockSize), undefined)
  }
  t.end()
})

void t.test('the rules of the geometry, followed by hand, give the largest number of slots', (t) => {
  const place = (slots: number, blockSize: number) => {
    const slotPages = Math.ceil(slots / 169)
    const dataOffset = Math.ceil((8388608 + slotPages * 4096) / blockSize) * blockSize
    return { slotPages, dataOffset, end: dataOffset + slots * blockSize + slotPages * 4096 }
  }
  for (const blockSize of [512, 4096, 32768]) {
    for (const spareSize of [8458240, 9000001, 2 ** 24 + 4095, 2 ** 30]) {
      const found = layOut(2 ** 30, spareSize, blockSize)
      if (!t.ok(found) || !found) continue
      const end = spareSize - (spareSize % 4096)
      t.match(found, {
        slotPages: place(found.slots, blockSize).slotPages,
        dataOffset: place(found.slots, blockSize).dataOffset,
      })
      t.ok(place(found.slots, blockSize).end <= end, 'it fits')
      t.ok(place(found.slots + 1, blockSize).end > end, 'one more does not')
      t.equal(found.slotTableOffsets[1], end - found.slotPages * 4096)
    }
  }
  t.end()
})

void t.test('the header: every field stands at its offset', (t) => {
  const fields = fieldsOf(document.table('Header', 'offset'))
  assertNoGaps(t, fields, HEADER_SIZE)
  const page = encodeHeader(HEADER, 3)
  const { magic, crc, uuid, notesLength, notes, ...numbers } = valuesOf(page, fields)
  t.equal(String(magic), 'NBDREMAP')
  t.equal(crc, checksumOf(page, 8))
  t.same(uuid, HEADER.uuid)
  t.same(unpack((notes as Buffer).subarray(0, Number(notesLength))), HEADER.notes)
  t.same(numbers, {
    version: FORMAT_VERSION,
    copy: 3,
    flags: 1,
    sequence: HEADER.sequence,
    ownerEpoch: HEADER.ownerEpoch,
    blockSize: GEOMETRY.blockSize,
    slotPages: GEOMETRY.slotPages,
    mainSize: GEOMETRY.mainSize,
    spareSize: GEOMETRY.spareSize,
    slots: GEOMETRY.slots,
    slotTable0: GEOMETRY.slotTableOffsets[0],
    slotTable1: GEOMETRY.slotTableOffsets[1],
    dataOffset: GEOMETRY.dataOffset,
    initialisedPages: HEADER.initialisedPages,
  })
  t.equal(encodeHeader({ ...HEADER, clean: false }, 3).readUInt8(15), 0)
  t.end()
})

void t.test('the notes: the table has every key', (t) => {
  const keys = document.table('Header', 'key').rows.map(([key]) => key)
  const { main, ...others } = HEADER.notes
  t.same(keys, [...Object.keys(main).map((key) => `main.${key}`), ...Object.keys(others)])
  const parts = document.table('Header and slot table watch each other', 'part').rows.map(([part]) => part)
  t.same(parts, Object.keys(others.slotTable ?? {}))
  t.match(document.text, `at most ${STALE_RUNS_MAX} times`)
  const poolParts = document.table('Pools', 'part').rows.map(([part]) => part)
  t.same(poolParts, Object.keys(HEADER.notes.pool))
  t.match(document.text, `at most ${POOL_MEMBERS_MAX} maps`)
  t.end()
})

void t.test('a slot page and its slots: every field stands at its offset', (t) => {
  const pageFields = fieldsOf(document.table('Slot page', 'offset'))
  assertNoGaps(t, pageFields, PAGE_SIZE)
  const page = emptyPage()
  const slot = {
    state: 'remapped',
    mainBlock: mainBlock(0x1122_3344_5566),
    generation: 0x2233_4455_6677,
    lostMask: 1n << 63n,
  } as const
  writeSlot(page, 168, slot)
  sealPage(page, { uuid: HEADER.uuid, page: 0x33445566, copy: 1 }, 0x4455_6677_8899, 0x5566_7788_99aa)
  const { magic, crc, uuid, slots, ...numbers } = valuesOf(page, pageFields)
  t.equal(String(magic), 'SLOT')
  t.equal(crc, checksumOf(page, 4))
  t.same(uuid, HEADER.uuid.subarray(0, 8))
  t.same(numbers, {
    sequence: 0x4455_6677_8899,
    page: 0x33445566,
    copy: 1,
    headerSequence: 0x5566_7788_99aa,
  })
  const slotFields = fieldsOf(document.table('Slot', 'offset'))
  assertNoGaps(t, slotFields, 24)
  t.equal(SLOTS_PER_PAGE * 24, (slots as Buffer).length)
  t.same(valuesOf((slots as Buffer).subarray(168 * 24), slotFields), {
    mainBlock: slot.mainBlock,
    state: 1,
    generation: slot.generation,
    lostMask: 2 ** 63,
  })
  t.end()
})

void t.test('the states of a slot are those in the table', (t) => {
  const page = emptyPage()
  const states = [0, 1, 2, 3, 255].map((state) => {
    page.writeUInt8(state, 40 + 6)
    return readSlot(page, 0).state
  })
  t.same(states, ['free', 'remapped', 'retired', 'retired', 'retired'])
  t.match(document.section('Slot'), '0 free, 1 remapped, 2 retired')
  t.end()
})

/** The bytes that `hexdump -C` showed: a line `*` stands for repetitions of the line before it. */
function undump(text: string): Buffer {
  const lines = text.trim().split('\n')
  const start = parseInt(lines[0] ?? '', 16)
  const bytes = Buffer.alloc(parseInt(lines.at(-1) ?? '', 16) - start)
  let last = Buffer.alloc(16)
  let at = 0
  for (const line of lines) {
    if (line === '*') continue
    const offset = parseInt(line.slice(0, 8), 16) - start
    for (; at < offset; at += 16) last.copy(bytes, at)
    last = Buffer.from(line.slice(8, 60).replaceAll(' ', ''), 'hex')
    if (last.length > 0) last.copy(bytes, at)
    at += last.length
  }
  return bytes
}

void t.test('the dumps are a header and a slot page that the code accepts and reads as explained', (t) => {
  const dumps = document.blocks.filter(({ language }) => language === 'hexdump').map(({ text }) => undump(text))
  const [header = Buffer.alloc(0), page = Buffer.alloc(0)] = dumps
  t.same([header.length, page.length], [HEADER_SIZE, PAGE_SIZE])
  const decoded = decodeHeader(header, 0)
  t.match(decoded, {
    kind: 'valid',
    header: {
      geometry: layOut(2 ** 26, 2 ** 26, 4096),
      sequence: 2,
      ownerEpoch: 1,
      clean: false,
      initialisedPages: 64,
      notes: { main: { location: 'nbd://127.0.0.1:10917/main', fingerprint: [] } },
    },
  })
  t.equal(header.readUInt16LE(12), FORMAT_VERSION)
  t.equal(header.readUInt32LE(108), 302)
  t.equal(pageDamage(page, { uuid: header.subarray(16, 32), page: 0, copy: 0 }), undefined)
  t.equal(pageSequence(page), 3)
  t.same(readSlot(page, 0), { state: 'remapped', mainBlock: 256, generation: 1, lostMask: 0n })
  t.same(readSlot(page, 1), { state: 'remapped', mainBlock: 1125, generation: 2, lostMask: 1n << 3n })
  t.equal(readSlot(page, 2).state, 'free')
  t.end()
})
