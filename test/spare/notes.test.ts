/** Notes that would be too long for a header. */
import t from 'tap'
import { encodeHeader, decodeHeader, POOL_MEMBERS_MAX, STALE_RUNS_MAX, type Header } from '../../src/spare/format.js'
import { ERROR_KINDS } from '../../src/remap/error-counts.js'
import { NOTED_MAX } from '../../src/remap/error-notes.js'
import { COUNTERS } from '../../src/remap/statistics.js'
import { sampleHeader } from '../support/samples.js'

/** The longest text of so many bytes: in msgpack its length takes three more. */
const text = (bytes: number, end: string): string => 'x'.repeat(bytes - end.length) + end
const member = (n: number, bytes: number) => ({ uuid: Buffer.alloc(16, n), location: text(bytes, `/spare${n}`) })

/** Everything that a header can say, at its longest. */
function longest(locationBytes: number): Header {
  const most = Number.MAX_SAFE_INTEGER
  return {
    ...sampleHeader,
    notes: {
      ...sampleHeader.notes,
      createdAt: new Date(0).toISOString(),
      main: {
        id: text(512, 'id'),
        location: text(512, '/main'),
        fingerprint: Array.from({ length: 64 }, () => 0xffffffff),
      },
      pool: {
        uuid: Buffer.alloc(16, 0xff),
        sequence: most,
        standing: 'removed',
        opening: true,
        members: Array.from({ length: POOL_MEMBERS_MAX }, (_, n) => member(n, locationBytes)),
        removed: Array.from({ length: 4 }, (_, n) => member(100 + n, locationBytes)),
      },
      slotTable: {
        sequenceSum: most,
        staleCopies: Array.from({ length: STALE_RUNS_MAX }, (_, n) => [1, 0x40000000 + n, 0x40000000] as const),
      },
      healing: {
        replica: { id: text(64, 'hash'), identicalIn: most },
        scrub: { runs: true, position: most, speed: most, healed: most, lost: most },
      },
      errors: {
        ...{ moves: most, dropped: most, totals: ERROR_KINDS.map(() => most) },
        worst: Array.from({ length: NOTED_MAX }, () => [most, most, most, 4, ...ERROR_KINDS.map(() => most)]),
      },
      lifetime: Array.from({ length: 1 + COUNTERS.length }, () => most),
    },
  }
}

function decoded(header: Header): Header['notes'] {
  const found = decodeHeader(encodeHeader(header, 0), 0)
  if (found.kind !== 'valid') throw new Error(found.kind)
  return found.header.notes
}

void t.test('the longest notes fit, without what only helps to find disks', (t) => {
  for (const bytes of [80, 512, 4000]) {
    const { notes } = longest(bytes)
    const found = decoded({ ...sampleHeader, notes })
    t.same(found.main.id, notes.main.id)
    t.same(found.main.fingerprint, notes.main.fingerprint)
    t.same(found.slotTable, notes.slotTable)
    t.same(found.healing, notes.healing)
    t.same(found.lifetime, notes.lifetime)
    t.equal(found.errors, undefined, 'the history of errors is forgotten')
    t.same(found.pool.removed, [], 'spares that were removed are forgotten')
    t.equal(found.main.location.length, 64)
    for (const [n, { uuid, location }] of found.pool.members.entries()) {
      t.same(uuid, Buffer.alloc(16, n))
      t.ok(location.endsWith(`/spare${n}`) && location.length >= 40, `${location.length} bytes of a location are left`)
    }
  }
  t.end()
})

void t.test('nothing is left out that has room', (t) => {
  const { notes } = longest(10)
  const roomy = { ...notes, errors: { moves: 0, worst: [[1]] }, slotTable: { sequenceSum: 1, staleCopies: [] } }
  t.same(decoded({ ...sampleHeader, notes: roomy }), roomy)
  t.end()
})

void t.test('of the blocks with errors as many are kept as there is room for, the worst ones', (t) => {
  const row = (n: number): number[] => [n, 1_800_000_000, 1_800_000_000, 1, ...ERROR_KINDS.map(() => 1000)]
  const errors = { moves: 0, dropped: 0, totals: [1], worst: Array.from({ length: 200 }, (_, n) => row(n)) }
  const found = decoded({ ...sampleHeader, notes: { ...sampleHeader.notes, errors } }).errors as typeof errors
  t.ok(found.worst.length >= NOTED_MAX && found.worst.length < 200, `${found.worst.length} blocks`)
  t.same(found, { ...errors, worst: errors.worst.slice(0, found.worst.length) })
  for (const nonsense of [null, 5, 'x', { worst: 'x' }]) {
    const notes = { ...longest(80).notes, errors: nonsense }
    t.equal(decoded({ ...sampleHeader, notes }).errors, undefined)
  }
  t.end()
})

void t.test('of the spares that were removed the last ones are remembered longest', (t) => {
  const { notes } = longest(100)
  const found = decoded({ ...sampleHeader, notes: { ...notes, main: { ...notes.main, fingerprint: [], id: 'x' } } })
  t.ok(found.pool.removed.length < 4)
  t.same(found.pool.removed, notes.pool.removed.slice(0, found.pool.removed.length))
  t.end()
})
