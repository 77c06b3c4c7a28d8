import t from 'tap'
import { LogRing } from '../../src/control/log-ring.js'

const ALL = { since: 0, limit: 1000, level: 'info' } as const
const messages = (ring: LogRing, query = {}): string[] => ring.query({ ...ALL, ...query }).map(({ message }) => message)

void t.test('the last entries are kept, by number and by size, and numbers tell what is gone', (t) => {
  const ring = new LogRing(3, 100)
  for (let n = 1; n <= 10; n++) ring.add('info', `entry ${n}`)
  t.same(messages(ring), ['entry 8', 'entry 9', 'entry 10'])
  t.equal(ring.first, 8)
  t.equal(ring.last, 10)
  ring.add('info', 'x'.repeat(95))
  t.same(messages(ring), ['x'.repeat(95)], 'a long one drives out several')
  ring.add('info', 'y'.repeat(1_000_000))
  t.ok((messages(ring)[0] ?? '').length < 20_000, 'and is shortened')
  t.end()
})

void t.test('an entry that is longer than everything allowed leaves nothing, and the next one is kept', (t) => {
  const ring = new LogRing(3, 5)
  ring.add('info', 'too long')
  t.same(messages(ring), [])
  ring.add('info', 'short')
  t.same(messages(ring), ['short'])
  t.equal(ring.first, 2)
  t.end()
})

void t.test('what is asked for: after a number, the first so many, at a level', (t) => {
  const ring = new LogRing()
  for (const [n, level] of (['info', 'warn', 'error', 'info', 'warn'] as const).entries())
    ring.add(level, String(n + 1))
  t.same(messages(ring, { since: 3 }), ['4', '5'])
  t.same(messages(ring, { limit: 2 }), ['1', '2'])
  t.same(messages(ring, { level: 'warn' }), ['2', '3', '5'])
  t.same(messages(ring, { level: 'error', limit: 1 }), ['3'])
  t.same(messages(ring, { since: 99 }), [])
  t.end()
})

void t.test('who waits is woken by the next entry, by the time, or when nobody shall wait any more', async (t) => {
  const ring = new LogRing()
  ring.add('info', 'there')
  await ring.newer(0, 60_000)
  await ring.newer(1, 1)
  const waiting = ring.newer(1, 60_000)
  ring.add('info', 'new')
  await waiting
  const released = ring.newer(2, 60_000)
  ring.release()
  await released
  t.equal(ring.last, 2)
})
