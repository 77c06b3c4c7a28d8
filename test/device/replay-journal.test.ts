import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import type { Mutation } from '../../src/device/mutation.js'
import { ReplayJournal } from '../../src/device/replay-journal.js'

const KiB = 1024
const write = (offset: number, data: Buffer): Mutation => ({
  kind: 'write',
  offset,
  length: data.length,
  chunks: [data],
})
const keep = (journal: ReplayJournal, mutation: Mutation): void => {
  if (journal.reserve(mutation)) throw new Error('no room')
  journal.append(mutation)
}
async function replayed(journal: ReplayJournal): Promise<Mutation[]> {
  const seen: Mutation[] = []
  await journal.replay((mutation) => {
    seen.push(mutation)
    return Promise.resolve()
  })
  return seen
}

void t.test('replays copies of what was written, in the order of acknowledgement', async (t) => {
  const journal = new ReplayJournal(1024 * KiB)
  const data = Buffer.from('first')
  keep(journal, { ...write(0, data), kind: 'write', length: 8, chunks: [data, Buffer.from('ly!')] })
  data.fill('x')
  keep(journal, { kind: 'trim', offset: 4096, length: 4096 })
  keep(journal, { kind: 'write-zeroes', offset: 0, length: 4, noHole: true })
  keep(journal, write(100, Buffer.alloc(300 * KiB, 7)))
  t.same(await replayed(journal), [
    write(0, Buffer.from('firstly!')),
    { kind: 'trim', offset: 4096, length: 4096 },
    { kind: 'write-zeroes', offset: 0, length: 4, noHole: true },
    write(100, Buffer.alloc(300 * KiB, 7)),
  ])
})

void t.test('a flush releases what was acknowledged before it was sent, and nothing else', async (t) => {
  const journal = new ReplayJournal(1024 * KiB)
  keep(journal, write(0, Buffer.from('a')))
  keep(journal, write(1, Buffer.from('b')))
  const mark = journal.mark()
  keep(journal, write(2, Buffer.from('c')))
  journal.release(mark)
  t.same(await replayed(journal), [write(2, Buffer.from('c'))])
  journal.release(mark)
  t.equal(journal.entries, 1)
  journal.release(journal.mark())
  t.equal(journal.entries, 0)
  t.equal(journal.bytes, 0)
})

void t.test('overlapping entries keep their order, others go side by side', async (t) => {
  const journal = new ReplayJournal(1024 * KiB)
  for (const offset of [0, 10, 20, 15, 30, 0]) keep(journal, write(offset, Buffer.alloc(10)))
  const events: string[] = []
  await journal.replay(async ({ offset }) => {
    events.push(`+${offset}`)
    await turn()
    events.push(`-${offset}`)
  })
  t.same(events, ['+0', '+10', '+20', '-0', '-10', '-20', '+15', '+30', '+0', '-15', '-30', '-0'])
})

void t.test('a failed replay waits for what is under way, and everything stays', async (t) => {
  const journal = new ReplayJournal(1024 * KiB)
  keep(journal, write(0, Buffer.alloc(1)))
  keep(journal, write(1, Buffer.alloc(1)))
  keep(journal, write(0, Buffer.alloc(1)))
  let settled = 0
  const failing = journal.replay(async ({ offset }) => {
    if (offset === 0) throw new Error('lost')
    await turn()
    settled++
  })
  await t.rejects(failing, { message: 'lost' })
  t.equal(settled, 1)
  t.equal(journal.entries, 3)
})

void t.test('knows which ranges a replay would write', (t) => {
  const journal = new ReplayJournal(1024 * KiB)
  keep(journal, write(100, Buffer.alloc(100)))
  keep(journal, { kind: 'trim', offset: 1000, length: 10 })
  t.same(
    [
      journal.overlaps(0, 100),
      journal.overlaps(0, 101),
      journal.overlaps(199, 1),
      journal.overlaps(200, 800),
      journal.overlaps(1009, 500),
    ],
    [false, true, true, false, true],
  )
  journal.release(journal.mark())
  t.equal(journal.overlaps(0, 5000), false)
  t.end()
})

void t.test('memory is bounded: further writes wait for room in their order', async (t) => {
  const journal = new ReplayJournal(8 * KiB)
  const block = write(0, Buffer.alloc(3 * KiB))
  keep(journal, block)
  t.equal(journal.wantsFlush, false)
  keep(journal, block)
  t.equal(journal.wantsFlush, true, 'more than half full')
  const got: string[] = []
  const second = journal.reserve(block)?.then(() => got.push('second'))
  const third = journal.reserve({ kind: 'trim', offset: 0, length: 1 })?.then(() => got.push('third'))
  t.ok(second && third, 'the small one does not overtake the large one')
  await turn()
  t.same(got, [])
  journal.release(journal.mark())
  await Promise.all([second, third])
  t.same(got, ['second', 'third'])
  t.ok(journal.bytes <= 8 * KiB)
})

void t.test('a full journal of requests in flight wants no flush: it could release nothing', async (t) => {
  const journal = new ReplayJournal(8 * KiB)
  const block = write(0, Buffer.alloc(7 * KiB))
  t.equal(journal.reserve(block), undefined)
  const waiting = journal.reserve(block)
  t.ok(waiting)
  t.equal(journal.wantsFlush, false)
  journal.append(block)
  t.equal(journal.wantsFlush, true)
  journal.rejectWaiting(new Error('gone'))
  await t.rejects(waiting ?? Promise.resolve(), { message: 'gone' })
})

void t.test('cancelled room is free again', async (t) => {
  const journal = new ReplayJournal(4 * KiB)
  const block = write(0, Buffer.alloc(3 * KiB))
  t.equal(journal.reserve(block), undefined)
  const waiting = journal.reserve(block)
  journal.cancel(block)
  await waiting
  t.ok(waiting)
  journal.cancel(block)
  t.equal(journal.bytes, 0)
})

void t.test('a write larger than the bound gets through alone', async (t) => {
  const journal = new ReplayJournal(4 * KiB)
  const large = write(0, Buffer.alloc(64 * KiB))
  keep(journal, large)
  const waiting = journal.reserve(write(0, Buffer.alloc(1)))
  t.ok(waiting)
  t.equal(journal.wantsFlush, true)
  journal.release(journal.mark())
  await waiting
  t.equal(journal.entries, 0)
})

void t.test('entries without data are bounded too', (t) => {
  const journal = new ReplayJournal(64 * KiB)
  let kept = 0
  while (journal.reserve({ kind: 'trim', offset: 0, length: 1 }) === undefined) kept++
  t.ok(kept > 100 && kept < 1000, `${kept} trims in 64 KiB`)
  t.end()
})
