import t from 'tap'
import type { Header, PoolRecord } from '../../src/spare/format.js'
import { changed, choosePool, type Candidate } from '../../src/spare/membership.js'
import { lastBytes } from '../../src/util/last-bytes.js'
import { sampleHeader } from '../support/samples.js'

const uuid = (n: number): Buffer => Buffer.alloc(16, n)
const member = (n: number) => ({ uuid: uuid(n), location: `/disks/${n}` })
const RECORD: PoolRecord = {
  uuid: uuid(1),
  sequence: 5,
  standing: 'member',
  opening: false,
  members: [member(1), member(2), member(3)],
  removed: [],
}

/** Spare n of the pool. */
function spare(n: number, change: Partial<PoolRecord> = {}, header: Partial<Header> = {}): Candidate {
  const pool = { ...RECORD, ...change }
  return {
    name: `s${n}`,
    header: { ...sampleHeader, uuid: uuid(n), ...header, notes: { ...sampleHeader.notes, pool } },
  }
}

void t.test('the list that was changed last is in force, whoever knows of it', (t) => {
  const { members, removed, sequence } = changed(RECORD, { members: [member(1), member(3)], removed: [member(2)] })
  const choice = choosePool([spare(3), spare(2), spare(1, { members, removed, sequence })])
  t.match(choice, {
    kind: 'found',
    members: [{ name: 's1' }, { name: 's3' }],
    leftOut: [{ candidate: { name: 's2' }, why: 'removed' }],
  })
  t.end()
})

void t.test('what a spare that is joining says counts for nothing until a member says it, too', (t) => {
  const record = changed(RECORD, { members: [...RECORD.members, member(4)] })
  const joining = spare(4, { ...record, standing: 'joining' })
  const before = choosePool([spare(1), spare(2), spare(3), joining])
  t.match(before, { kind: 'found', leftOut: [{ why: 'unfinished' }], members: { length: 3 } })
  t.match(choosePool([spare(1), spare(2, record), spare(3), joining]), { kind: 'found', members: { length: 4 } })
  t.match(choosePool([spare(1), spare(2, record), spare(3)]), {
    kind: 'incomplete',
    missing: [{ location: '/disks/4' }],
  })
  t.match(choosePool([joining]), { kind: 'refused', reason: /was being added to a pool/ })
  t.end()
})

void t.test('two lists of one number are believed neither', (t) => {
  const other = spare(2, { members: [member(1), member(2)] })
  t.match(choosePool([spare(1), other, spare(3)]), { kind: 'refused', reason: /contradict/ })
  t.end()
})

void t.test('a member may be one start behind, while all that are ahead say that a start is under way', (t) => {
  // Epoch and whether a start is under way, of each of three; whether they belong together.
  const cases: [[number, boolean][], boolean][] = [
    [
      [
        [7, false],
        [7, false],
        [7, false],
      ],
      true,
    ],
    [
      [
        [8, true],
        [7, false],
        [7, false],
      ],
      true,
    ],
    [
      [
        [8, true],
        [8, true],
        [7, false],
      ],
      true,
    ],
    [
      [
        [8, true],
        [8, true],
        [8, true],
      ],
      true,
    ],
    [
      [
        [8, false],
        [8, true],
        [8, true],
      ],
      true,
    ],
    [
      [
        [8, false],
        [7, false],
        [7, false],
      ],
      false,
    ],
    [
      [
        [8, false],
        [8, true],
        [7, false],
      ],
      false,
    ],
    [
      [
        [8, true],
        [6, false],
        [7, false],
      ],
      false,
    ],
    [
      [
        [9, true],
        [7, true],
        [9, true],
      ],
      false,
    ],
  ]
  for (const [epochs, isRight] of cases) {
    const choice = choosePool(epochs.map(([ownerEpoch, opening], n) => spare(n + 1, { opening }, { ownerEpoch })))
    t.equal(choice.kind, isRight ? 'found' : 'refused', JSON.stringify(epochs))
  }
  t.end()
})

void t.test('members of another geometry are refused, and no spare at all is', (t) => {
  const geometry = { ...sampleHeader.geometry, blockSize: 512 }
  t.match(choosePool([spare(1), spare(2, {}, { geometry }), spare(3)]), {
    kind: 'refused',
    reason: /another block size/,
  })
  t.match(choosePool([]), { kind: 'refused' })
  t.end()
})

void t.test('of a long location the end is kept, in bytes', (t) => {
  t.equal(lastBytes('/short', 100), '/short')
  t.equal(lastBytes(`/${'x'.repeat(500)}/end`, 100).length, 100)
  const wide = lastBytes('ä'.repeat(300), 101)
  t.ok(Buffer.byteLength(wide) <= 101)
  t.ok(wide.length >= 45)
  t.end()
})
