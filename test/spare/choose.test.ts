import t from 'tap'
import {
  ageProblem,
  badFirst,
  chooseHeader,
  choosePage,
  geometryProblem,
  type HeaderCopy,
} from '../../src/spare/choose.js'
import { layOut, sealPage, writeSlot, type Header } from '../../src/spare/format.js'
import { mainBlock, MiB } from '../../src/util/units.js'
import { sampleHeader, samplePage, SAMPLE_UUID } from '../support/samples.js'

const NEW: Header = { ...sampleHeader, sequence: 9 }
const COPIES: Record<string, HeaderCopy> = {
  new: { kind: 'valid', header: NEW },
  stale: { kind: 'valid', header: { ...NEW, sequence: 8 } },
  damaged: { kind: 'damaged', reason: 'checksum' },
  unreadable: { kind: 'unreadable', reason: 'EIO' },
  absent: { kind: 'absent' },
}

/** All ways to fill `length` places with `items`. */
function* combinations<T>(items: readonly T[], length: number): Generator<T[]> {
  if (length === 0) yield []
  else for (const rest of combinations(items, length - 1)) for (const item of items) yield [...rest, item]
}

void t.test('the newest valid header wins, whatever the other four are', (t) => {
  for (const kinds of combinations(Object.keys(COPIES), 5)) {
    const choice = chooseHeader(kinds.map((kind) => COPIES[kind]!))
    const best = kinds.includes('new') ? 'new' : 'stale'
    if (kinds.includes(best)) {
      const bad = kinds.flatMap((kind, copy) => (kind === best ? [] : [copy]))
      const isRight = choice.kind === 'chosen' && choice.header.sequence === (best === 'new' ? 9 : 8)
      if (!isRight || choice.bad.map(({ copy }) => copy).join() !== bad.join()) t.fail(kinds.join())
    } else {
      const expected = kinds.every((kind) => kind === 'absent') ? 'absent' : 'refused'
      if (choice.kind !== expected) t.fail(kinds.join())
    }
  }
  t.pass('3125 combinations')
  t.end()
})

void t.test('headers that contradict each other are refused', (t) => {
  const valid = (change: Partial<Header>): HeaderCopy => ({ kind: 'valid', header: { ...NEW, ...change } })
  const contradictions: HeaderCopy[][] = [
    [valid({}), valid({ uuid: Buffer.alloc(16) })],
    [valid({}), valid({ uuid: Buffer.alloc(16), sequence: 3 })],
    [valid({}), valid({ clean: false })],
    [valid({ sequence: 8 }), valid({}), valid({ ownerEpoch: 1 })],
  ]
  for (const copies of contradictions) t.match(chooseHeader(copies), { kind: 'refused', reason: /contradict/ })
  t.equal(chooseHeader([valid({}), valid({ sequence: 8, clean: false, ownerEpoch: 3 })]).kind, 'chosen')
  t.end()
})

void t.test('a newer format is refused, and not called damage', (t) => {
  const copies: HeaderCopy[] = [COPIES['new']!, { kind: 'unknown-version', version: 7 }]
  t.match(chooseHeader(copies), { kind: 'refused', reason: /format version 7.*use the nbd-remap that wrote it/ })
  t.end()
})

void t.test('geometry must be what a format would have laid out', (t) => {
  const geometry = layOut(64 * MiB, 16 * MiB, 4096)!
  t.equal(geometryProblem(geometry, 16 * MiB), undefined)
  t.equal(geometryProblem(geometry, 17 * MiB), undefined, 'a spare that grew can be used')
  t.match(geometryProblem(geometry, 16 * MiB - 1), /truncated/)
  const impossible = [
    { slots: geometry.slots + 1 },
    { dataOffset: 0 },
    { slotPages: 1 },
    { slotTableOffsets: [0, 0] as const },
    { blockSize: 0 },
    { blockSize: 1 },
    { blockSize: 3 * 4096 },
    { blockSize: 2 ** 20 },
  ]
  for (const change of impossible) {
    t.match(geometryProblem({ ...geometry, ...change }, 16 * MiB), /impossible/, JSON.stringify(change))
  }
  t.end()
})

void t.test('of two slot pages the newest intact one wins', (t) => {
  const page = (copy: number, sequence: number, damaged = false): Buffer => {
    const buffer = sealPage(samplePage(), { uuid: SAMPLE_UUID, page: 4, copy }, sequence)
    if (damaged) buffer[99]! ^= 1
    return buffer
  }
  const choose = (first: Buffer | undefined, second: Buffer | undefined) => choosePage([first, second], SAMPLE_UUID, 4)
  t.match(choose(page(0, 5), page(1, 5)), { kind: 'chosen', bad: { length: 0 } })
  t.match(choose(page(0, 5), page(1, 4)), {
    kind: 'chosen',
    bad: [{ copy: 1, reason: /stale \(sequence 4, newest is 5/ }],
  })
  t.match(choose(page(0, 4), page(1, 5)), { kind: 'chosen', bad: [{ copy: 0, reason: /stale/ }] })
  t.match(choose(page(0, 9, true), page(1, 5)), { kind: 'chosen', bad: [{ copy: 0, reason: /checksum/ }] })
  t.match(choose(page(0, 5), undefined), { kind: 'chosen', bad: [{ copy: 1, reason: 'cannot be read' }] })
  t.match(choose(page(0, 5, true), undefined), { kind: 'lost', bad: [{ copy: 0 }, { copy: 1 }] })
  t.match(choose(page(1, 5), page(0, 5)), { kind: 'lost', bad: [{ reason: /misdirected/ }, { reason: /misdirected/ }] })
  t.end()
})

void t.test('slot pages that contradict each other are lost rather than guessed at', (t) => {
  const first = sealPage(samplePage(), { uuid: SAMPLE_UUID, page: 0, copy: 0 }, 5)
  const other = samplePage()
  writeSlot(other, 7, { state: 'remapped', mainBlock: mainBlock(1), generation: 9, lostMask: 0n })
  sealPage(other, { uuid: SAMPLE_UUID, page: 0, copy: 1 }, 5)
  t.match(choosePage([first, other], SAMPLE_UUID, 0), { kind: 'lost', bad: [{ reason: /contradicts/ }, {}] })
  t.end()
})

void t.test('bad copies are rewritten before good ones', (t) => {
  t.same(badFirst(5, []), [0, 1, 2, 3, 4])
  t.same(badFirst(5, [4, 1]), [1, 4, 0, 2, 3])
  t.end()
})

void t.test('header and slot table tell when the other one went back in time', (t) => {
  const header: Header = { ...NEW, notes: { ...NEW.notes, slotTable: { sequenceSum: 20, staleCopies: [] } } }
  t.equal(ageProblem(header, { sequenceSum: 20, headerSequence: 9 }), undefined)
  t.equal(ageProblem(header, { sequenceSum: 33, headerSequence: 0 }), undefined, 'pages change without the header')
  t.match(ageProblem(header, { sequenceSum: 19, headerSequence: 9 }), /slot table is stale \(1 page update/)
  t.match(
    ageProblem(header, { sequenceSum: 20, headerSequence: 10 }),
    /header copies are stale.*sequence 9.*knows of 10/,
  )
  t.equal(ageProblem(NEW, { sequenceSum: 3, headerSequence: 0 }), undefined, 'as the first version wrote them')
  t.end()
})
