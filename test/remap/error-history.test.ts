/** What is remembered of the errors of each block, and what of it outlives a restart. */
import t, { type Test } from 'tap'
import { ERROR_KINDS, openErrorCounts, type ErrorKind } from '../../src/remap/error-counts.js'
import { BLOCKS_MAX, ErrorHistory } from '../../src/remap/error-history.js'
import { errorsFrom, NOTED_MAX, type BlockErrors } from '../../src/remap/error-notes.js'
import type { RemapEvents } from '../../src/remap/events.js'
import { MiB } from '../../src/util/units.js'
import { PoolRig } from '../support/pool-rig.js'
import { badSectors, createRig, readFrom, type Rig } from '../support/rig.js'

const BLOCK = 4096
const SECTORS = BLOCK / 512

/** Only what is not zero. */
const countsOf = ({ counts }: Pick<BlockErrors, 'counts'>): Partial<Record<ErrorKind, number>> =>
  Object.fromEntries(ERROR_KINDS.map((kind, n) => [kind, counts[n] ?? 0] as const).filter(([, count]) => count > 0))

const known = (history: ErrorHistory) =>
  history
    .list({ fromBlock: 0, limit: Infinity, order: 'sector' })
    .blocks.map((it) => ({ block: it.block, outcome: it.outcome, ...countsOf(it) }))

async function failsToRead(t: Test, rig: Rig, block: number): Promise<void> {
  await t.rejects(readFrom(rig.target, block * BLOCK, BLOCK), { code: 'EIO' })
}

void t.test('each block has its errors, and what became of it', async (t) => {
  const rig = await createRig()
  const { target, main } = rig
  main.add(badSectors(['write'], 3 * SECTORS + 1), badSectors(['read'], 5 * SECTORS + 2, 2))
  await target.write(0, [Buffer.alloc(16 * BLOCK, 1)])
  await failsToRead(t, rig, 5)
  await readFrom(target, 0, 4 * BLOCK)
  t.same(known(target.errors), [
    { block: 3, outcome: 'remapped', writeErrors: 1 },
    { block: 5, outcome: 'lost', readErrors: 1, lostSectors: 2 },
  ])
  t.same(countsOf({ counts: [...target.errors.counts.totals] }), { readErrors: 1, writeErrors: 1, lostSectors: 2 })
  await failsToRead(t, rig, 5)
  t.match(known(target.errors)[1], { readErrors: 1 }, 'what is known to be lost is no further error of the disk')
})

void t.test('an error after which all content was there is told from one that lost something', async (t) => {
  const { target, main } = await createRig()
  main.add(badSectors(['read'], 9 * SECTORS, 8, { times: 2 }))
  await readFrom(target, 9 * BLOCK, BLOCK)
  t.same(known(target.errors), [{ block: 9, outcome: 'remapped', readErrors: 1, recovered: 1 }])
})

void t.test('a spare block that fails counts for the block of the main disk that it stands for', async (t) => {
  const { target, main, spare } = await createRig()
  main.add(badSectors(['write'], 2 * SECTORS))
  await target.write(2 * BLOCK, [Buffer.alloc(BLOCK, 1)])
  spare.add({ operations: ['write'], start: 0, end: spare.size, code: 'EIO', times: 2 })
  await target.write(2 * BLOCK, [Buffer.alloc(BLOCK, 2)])
  t.same(known(target.errors), [{ block: 2, outcome: 'remapped', writeErrors: 1, spareErrors: 1, recovered: 1 }])
})

void t.test('a request that could not be helped is said to be reported', async (t) => {
  const { target, main } = await createRig()
  for (const operation of ['read', 'write'] as const) main.add(badSectors([operation], 4 * SECTORS, 8))
  const part = Buffer.alloc(100, 1)
  await t.rejects(async () => target.write(4 * BLOCK + 50, [part]), { code: 'EIO' })
  t.same(known(target.errors), [{ block: 4, outcome: 'reported', writeErrors: 1 }])
})

const timeout = (sector: number, sectors: number, operation = 'read'): RemapEvents['IO_TIMEOUT'] => ({
  ...{ disk: 'main', name: 'main', seconds: 1, hangs: false },
  ...{ operation, sector, sectors },
})

void t.test('late requests count for few blocks each, and for a region when they are long', (t) => {
  const history = new ErrorHistory(256 * MiB, BLOCK)
  history.late(10 * BLOCK + 1, BLOCK)
  history.late(0, MiB)
  history.observe('IO_TIMEOUT', timeout(11 * SECTORS, SECTORS))
  history.observe('IO_TIMEOUT', timeout(0, 256 * 2048, 'flush'))
  history.observe('IO_TIMEOUT', { ...timeout(0, 8), disk: 'spare' })
  t.same(known(history), [
    { block: 10, outcome: 'late', slowReads: 1 },
    { block: 11, outcome: 'late', slowReads: 1, timeouts: 1 },
  ])
  const { regions, totals } = history.counts
  t.same(
    regions.map(({ number, counts }) => [number, countsOf({ counts: [...counts] })]),
    [[0, { slowReads: 2, timeouts: 1 }]],
  )
  t.same(countsOf({ counts: [...totals] }), { slowReads: 2, timeouts: 2 })
  t.end()
})

void t.test('what an operator moves is no error', async (t) => {
  const rig = await PoolRig.create([8, 8])
  const { target } = rig.pair
  const added = {
    'main-sector': 8,
    spare: 'a',
    'spare-sector': 0,
    sectors: 8,
    reason: 'operator',
    'lost-sectors': 0,
  } as const
  target.errors.observe('REMAP_ADDED', added)
  t.same(known(target.errors), [])
})

const failed = (sector: number): RemapEvents['IO_ERROR'] => ({
  ...{ disk: 'main', operation: 'write', sectors: SECTORS, error: 'EIO', action: 'remapped' },
  sector,
})

void t.test('of too many blocks the least interesting are dropped, and stay counted', (t) => {
  let nowMs = 1
  const history = new ErrorHistory(1024 * MiB, BLOCK, () => nowMs++)
  const bad = [5, 70_000, 200_000]
  for (const block of [...bad, ...bad]) history.observe('IO_ERROR', failed(block * SECTORS))
  for (let block = 1000; block < 1000 + 3 * BLOCKS_MAX; block++) history.late(block * BLOCK, BLOCK)
  const { blocks, total } = history.list({ fromBlock: 0, limit: 3, order: 'worst' })
  t.same(
    blocks.map(({ block }) => block),
    bad.toReversed(),
  )
  const { counts } = history
  t.ok(total <= BLOCKS_MAX && total > BLOCKS_MAX / 2, `${total} are remembered`)
  t.same([counts.blocks, counts.dropped], [total, 3 * BLOCKS_MAX + 3 - total])
  const all = known(history).map(({ block }) => block)
  t.ok(all.includes(999 + 3 * BLOCKS_MAX), 'the last one is among them')
  t.match(countsOf({ counts: [...counts.totals] }), { writeErrors: 6, slowReads: 3 * BLOCKS_MAX })
  t.end()
})

void t.test('a list has a beginning, a limit and an order', (t) => {
  const history = new ErrorHistory(64 * MiB, BLOCK)
  for (const block of [9, 3, 6, 6]) history.observe('IO_ERROR', failed(block * SECTORS))
  const listed = (fromBlock: number, limit: number, order: 'sector' | 'worst'): [number[], number] => {
    const { blocks, total } = history.list({ fromBlock, limit, order })
    return [blocks.map(({ block }) => block), total]
  }
  t.same(listed(0, 10, 'sector'), [[3, 6, 9], 3])
  t.same(listed(4, 1, 'sector'), [[6], 3])
  t.same(listed(0, 1, 'worst'), [[6], 3])
  t.end()
})

void t.test('another thread reads the regions', (t) => {
  const history = new ErrorHistory(512 * MiB, BLOCK)
  const other = openErrorCounts(history.counts.memory)
  history.observe('IO_ERROR', failed(400 * 2048))
  t.equal(other.regionSize, 2 * MiB)
  t.same(other.regions, [{ number: 200, counts: ERROR_KINDS.map((kind) => (kind === 'writeErrors' ? 1 : 0)) }])
  history.clear()
  t.same([other.regions, other.blocks, known(history)], [[], 0, []])
  t.equal(other.regionSize, 2 * MiB)
  t.end()
})

void t.test('it outlives a clean stop, and a restart adds to it', async (t) => {
  const rig = await createRig()
  rig.main.add(badSectors(['write'], 3 * SECTORS))
  await rig.target.write(3 * BLOCK, [Buffer.alloc(BLOCK, 1)])
  await rig.pair.close()
  const { target } = await rig.reopen()
  t.same(known(target.errors), [{ block: 3, outcome: 'remapped', writeErrors: 1 }])
  t.same(countsOf({ counts: [...target.errors.counts.totals] }), { writeErrors: 1 })
  t.same(
    target.errors.counts.regions.map(({ number }) => number),
    [3],
  )
  target.errors.observe('IO_ERROR', failed(3 * SECTORS))
  t.match(known(target.errors), [{ writeErrors: 2 }])
})

void t.test('a header has the worst blocks, and the totals of all', (t) => {
  const history = new ErrorHistory(64 * MiB, BLOCK)
  for (let block = 0; block < 2 * NOTED_MAX; block++) history.late(block * BLOCK, BLOCK)
  history.observe('IO_ERROR', failed(7 * SECTORS))
  const next = new ErrorHistory(64 * MiB, BLOCK)
  next.restore(history.note(0), 0)
  t.equal(next.counts.blocks, NOTED_MAX)
  t.equal(next.counts.dropped, NOTED_MAX)
  t.match(next.list({ fromBlock: 0, limit: 1, order: 'worst' }).blocks, [{ block: 7 }])
  t.same(next.counts.totals, history.counts.totals)
  t.end()
})

void t.test('the errors of the main disk before are none of the present one, and nonsense counts as nothing', (t) => {
  const history = new ErrorHistory(MiB, BLOCK)
  history.observe('IO_ERROR', failed(8))
  const note = history.note(0)
  const nonsense: unknown[] = [undefined, null, 7, 'x', [], {}, { ...(note as object), totals: [-1] }]
  for (const other of nonsense) t.same(errorsFrom(other, 0).worst, [])
  t.same(errorsFrom(note, 1), { totals: [], dropped: 0, worst: [] })
  const huge = { moves: 0, dropped: 0, totals: [], worst: [[2 ** 50, 2 ** 52, 2 ** 52, 99], ['x'], 5] }
  const next = new ErrorHistory(MiB, BLOCK)
  next.restore(huge, 0)
  t.same(known(next), [], 'the disk has no such block')
  t.equal(errorsFrom(huge, 0).worst.length, 1)
  t.doesNotThrow(() => new Date(errorsFrom(huge, 0).worst[0]!.lastMs).toISOString())
  t.end()
})
