import t from 'tap'
import { HELPERS_MAX, HelperQueue } from '../../src/device/helper-queue.js'

const PUNCH = ['fallocate', '--punch-hole']
const ZERO = ['fallocate', '--zero-range']

interface Started {
  readonly what: string
  readonly end: (succeeded: boolean) => void
}

function setUp(): { queue: HelperQueue; started: Started[] } {
  const started: Started[] = []
  const queue = new HelperQueue(
    ([, what = ''], offset, length) =>
      new Promise((end) => {
        started.push({ what: `${what} ${offset} ${length}`, end })
      }),
  )
  return { queue, started }
}

/** Lets whatever can go on go on. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

void t.test('so many run at once, the others in their order', async (t) => {
  const { queue, started } = setUp()
  const answers = Array.from({ length: 6 }, (_, n) => queue.run(PUNCH, n * 100, 10))
  t.equal(started.length, HELPERS_MAX)
  for (let ended = 0; ended < 6; ended++) {
    t.ok(started.length - ended <= HELPERS_MAX)
    started[ended]?.end(true)
    await turn()
  }
  t.same(await Promise.all(answers), Array(6).fill(true))
  t.same(
    started.map(({ what }) => what),
    [0, 100, 200, 300, 400, 500].map((offset) => `--punch-hole ${offset} 10`),
  )
})

void t.test('ranges that wait and follow each other become one, and succeed or fail together', async (t) => {
  const { queue, started } = setUp()
  const first = [queue.run(PUNCH, 0, 10), queue.run(PUNCH, 10, 10)]
  t.equal(started.length, 2, 'what has begun is left alone')
  const merged = [queue.run(PUNCH, 20, 10), queue.run(PUNCH, 30, 5), queue.run(PUNCH, 35, 5)]
  const others = [queue.run(ZERO, 40, 10), queue.run(PUNCH, 60, 10)]
  for (const { end } of started.splice(0)) end(true)
  await turn()
  t.same(
    started.map(({ what }) => what),
    ['--punch-hole 20 20', '--zero-range 40 10'],
    'not with another command',
  )
  const late = queue.run(PUNCH, 40, 1)
  started[0]?.end(false)
  started[1]?.end(true)
  await turn()
  for (const { end } of started.slice(2)) end(true)
  t.same(await Promise.all(first), [true, true])
  t.same(await Promise.all(merged), [false, false, false])
  t.same(await Promise.all(others), [true, true])
  t.equal(await late, true, 'and not with one that has begun')
})
