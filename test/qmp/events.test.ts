import t from 'tap'
import { QmpConnectionError, QmpTimeoutError } from '../../src/qmp/error.js'
import { EventQueue, eventFilter } from '../../src/qmp/events.js'
import { EVENTS_DROPPED, type QmpEvent } from '../../src/qmp/message.js'

const event = (name: string, data = {}): QmpEvent => ({
  event: name,
  data,
  timestamp: { seconds: 0, microseconds: 0 },
})
const queueOf = (names: Parameters<typeof eventFilter>[0] = [], eventsMax?: number): EventQueue =>
  new EventQueue(eventFilter(names), () => undefined, eventsMax)

void t.test('a queue takes the named events and those a predicate accepts, in order', async (t) => {
  const queue = queueOf(['A', (event) => event.data['take'] === true])
  for (const each of [event('A'), event('B'), event('C', { take: true })]) queue.offer(each)
  t.equal((await queue.next()).event, 'A')
  t.equal((await queue.next()).event, 'C')
  t.same(queue.drain(), [])
})

void t.test('next waits for an event that comes later, first come first served', async (t) => {
  const queue = queueOf()
  const [first, second] = [queue.next({ timeoutMs: 10_000 }), queue.next()]
  queue.offer(event('A'))
  queue.offer(event('B'))
  t.same([(await first).event, (await second).event], ['A', 'B'])
})

void t.test('next gives up in time and loses no event by it', async (t) => {
  const queue = queueOf()
  await t.rejects(queue.next({ timeoutMs: 1 }), QmpTimeoutError)
  queue.offer(event('A'))
  t.equal((await queue.next({ timeoutMs: 1 })).event, 'A')
})

void t.test('a full queue keeps the newest events and says how many it lost', async (t) => {
  const queue = queueOf([], 3)
  for (let n = 0; n < 10; n++) queue.offer(event('E', { n }))
  t.match(await queue.next(), { event: EVENTS_DROPPED, data: { count: 7 } })
  t.same(
    queue.drain().map(({ data }) => data['n']),
    [7, 8, 9],
  )
  for (let n = 0; n < 5; n++) queue.offer(event('E', { n }))
  t.match(queue.drain(), [{ event: EVENTS_DROPPED, data: { count: 2 } }, {}, {}, {}])
})

void t.test('the end of the connection comes after the events that came before it', async (t) => {
  const queue = queueOf()
  queue.offer(event('A'))
  queue.fail(new QmpConnectionError('gone'))
  t.equal((await queue.next()).event, 'A')
  await t.rejects(queue.next(), new QmpConnectionError('gone'))
})

void t.test('a waiting reader hears of the end of the connection', async (t) => {
  const queue = queueOf()
  const waiting = t.rejects(queue.next(), new QmpConnectionError('gone'))
  queue.fail(new QmpConnectionError('gone'))
  await waiting
})

void t.test('iteration ends when the queue is closed and throws when the connection ends', async (t) => {
  const closed = queueOf()
  closed.offer(event('A'))
  closed.offer(event('B'))
  const seen: string[] = []
  for await (const { event: name } of closed) {
    seen.push(name)
    if (name === 'B') closed.close()
  }
  t.same(seen, ['A', 'B'])

  const failed = queueOf()
  failed.fail(new QmpConnectionError('gone'))
  await t.rejects(async () => {
    for await (const each of failed) t.fail(each.event)
  }, new QmpConnectionError('gone'))
})

void t.test('a closed queue takes nothing more and tells its owner once', async (t) => {
  let closings = 0
  const queue = new EventQueue(
    () => true,
    () => closings++,
  )
  const waiting = t.rejects(queue.next(), { message: /closed/ })
  {
    using scoped = queue
    t.same(scoped.drain(), [])
  }
  queue.close()
  queue.offer(event('A'))
  await waiting
  t.same(queue.drain(), [])
  t.equal(closings, 1)
})
