/** Events of a lab are waited for from a moment on, whether they came already or come later. */
import t from 'tap'
import { EventLog } from '../../../qemu/lab/events.js'
import { Timeline } from '../../../qemu/lab/timeline.js'

const named = (name: string) => ({ event: name, data: { n: 1 } })
const is =
  (name: string) =>
  ({ event }: { event: string }): boolean =>
    event === name

void t.test(
  'an event that came before the moment does not count, one that came since does, one to come is awaited',
  async (t) => {
    const log = new EventLog(new Timeline())
    log.add('server', named('STOP'))
    const since = log.now
    const late = log.wait(is('STOP'), since, 60_000, 'STOP')
    log.add('guest', named('RESUME'))
    t.match(await log.wait(is('RESUME'), since, 0, 'RESUME'), { from: 'guest', event: 'RESUME', data: { n: 1 } })
    log.add('guest', named('STOP'))
    t.match(await late, { from: 'guest' })
    t.match(await log.wait(is('STOP'), 0, 0, 'STOP'), { from: 'server' })
  },
)

void t.test('who waits in vain is told what came instead', async (t) => {
  const log = new EventLog(new Timeline())
  await t.rejects(log.wait(is('STOP'), 0, 1, 'STOP'), /no event STOP within 1 ms; no event came at all/)
  log.add('server', named('A'))
  log.add('server', named('B'))
  await t.rejects(log.wait(is('STOP'), 0, 1, 'STOP'), /these came: A, B/)
  const waiting = log.wait(is('STOP'), 0, 60_000, 'STOP')
  log.close()
  await t.rejects(waiting, /the lab was closed/)
})

void t.test('a flood of one event has an end on the timeline', (t) => {
  const timeline = new Timeline()
  const log = new EventLog(timeline)
  for (let n = 0; n < 5000; n++) log.add('server', named('REMAP_ADDED'))
  t.equal(log.now, 5000)
  t.equal(timeline.marks.length, 1000)
  t.match(timeline.marks.at(-1)?.text, /and more, which are not shown/)
  t.equal(timeline.marks[0]?.kind, 'remap')
  t.end()
})
