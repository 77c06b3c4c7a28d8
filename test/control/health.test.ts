/** The score: each factor by itself, their sum, and what is announced as time goes by. */
import t from 'tap'
import { healthOf, HEALTH_FACTORS, type HealthReadings } from '../../src/control/health.js'
import { HealthWatch } from '../../src/control/health-watch.js'
import { newStatistics, type Statistics } from '../../src/remap/statistics.js'

const WELL: HealthReadings = {
  requests: 1000,
  failedRequests: 0,
  retries: 0,
  weakBlocks: 0,
  failedBlocks: 0,
  failedBlocksPerDay: 0,
  freeBlocks: 1000,
  spareBlocks: 1000,
  lostBlocks: 0,
  isStalled: false,
}

void t.test('nothing is wrong: 100, and no reasons', (t) => {
  t.same(healthOf(WELL), { score: 100, status: 'ok', reasons: [], daysLeft: undefined })
  t.end()
})

void t.test('each factor takes its points, and says so', (t) => {
  for (const [factor, readings, points] of [
    ['stalled', { isStalled: true }, 51],
    ['failed-requests', { failedRequests: 1 }, 5],
    ['failed-requests', { failedRequests: 10 }, 10],
    ['failed-requests', { failedRequests: 1000 }, 30],
    ['retries', { retries: 4 }, 4],
    ['retries', { retries: 400 }, 10],
    ['weak-blocks', { weakBlocks: 3 }, 3],
    ['weak-blocks', { weakBlocks: 300 }, 10],
    ['remap-growth', { failedBlocks: 7 }, 7],
    ['remap-growth', { failedBlocks: 700 }, 20],
    ['lost-blocks', { lostBlocks: 1 }, 15],
    ['spare-used', { freeBlocks: 500 }, 0],
    ['spare-used', { freeBlocks: 250 }, 15],
    ['spare-used', { freeBlocks: 1 }, 30],
    ['spare-used', { freeBlocks: 0 }, 51],
    ['exhaustion', { failedBlocksPerDay: 1000 }, 20],
    ['exhaustion', { failedBlocksPerDay: 1000 / 30 }, 0],
    ['exhaustion', { failedBlocksPerDay: 1000 / 5.477 }, 10],
  ] as const) {
    const health = healthOf({ ...WELL, ...readings })
    t.equal(health.score, 100 - points, `${factor} ${JSON.stringify(readings)}`)
    t.same(
      health.reasons.map((reason) => [reason.factor, reason.points]),
      points === 0 ? [] : [[factor, points]],
    )
  }
  t.end()
})

void t.test('points add up, the heaviest reason stands first, and below 0 there is nothing', (t) => {
  const { score, status, reasons } = healthOf({ ...WELL, failedRequests: 10, lostBlocks: 2, retries: 3 })
  t.equal(score, 72)
  t.equal(status, 'warning')
  t.same(
    reasons.map(({ factor }) => factor),
    ['lost-blocks', 'failed-requests', 'retries'],
  )
  const worst = healthOf({
    requests: 1,
    failedRequests: 1,
    retries: 99,
    weakBlocks: 99,
    failedBlocks: 99,
    failedBlocksPerDay: 99,
    freeBlocks: 0,
    spareBlocks: 10,
    lostBlocks: 9,
    isStalled: true,
  })
  t.match(worst, { score: 0, status: 'critical', daysLeft: 0 })
  t.same(worst.reasons.map(({ factor }) => factor).sort(), [...HEALTH_FACTORS].sort())
  t.equal(healthOf({ ...WELL, lostBlocks: 1 }).status, 'ok')
  t.end()
})

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS

function watched(): {
  watch: HealthWatch
  statistics: Statistics
  events: unknown[]
  look: (minute: number) => ReturnType<HealthWatch['look']>
} {
  const events: unknown[] = []
  const watch = new HealthWatch((_, data) => events.push(data))
  const statistics = newStatistics()
  Object.assign(statistics, { freeBlocks: 1e6, spareBlocks: 1e6, reads: 10_000 })
  const look = (minute: number): ReturnType<HealthWatch['look']> =>
    watch.look({ statistics, lostBlocks: 0, isStalled: false }, minute * MINUTE_MS)
  return { watch, statistics, events, look }
}

void t.test('what happened is forgiven after an hour, and announced both times', (t) => {
  const { statistics, events, look } = watched()
  t.equal(look(0).score, 100)
  statistics.failedBlocks = 15
  statistics.retriedReads = 5
  statistics.reads += 100
  t.match(look(1), { score: 80, status: 'ok', trend: 'worse', scoreBefore: 100 })
  statistics.failedRequests = 1
  t.match(look(2), { score: 70, status: 'warning', trend: 'worse' })
  t.match(events, [
    { score: 80, status: 'ok', 'score-before': 100 },
    {
      score: 70,
      status: 'warning',
      'score-before': 80,
      'status-before': 'ok',
      reasons: [/failed blocks: 15/, /failed requests: 1 of 100/, /late or retried reads: 5/],
    },
  ])
  for (let minute = 3; minute < 62; minute++) look(minute)
  t.match(look(62), { score: 100, status: 'ok', trend: 'better', scoreBefore: 70 })
  t.match(look(130), { score: 100, trend: 'steady' })
  t.equal(events.length, 3)
  t.match(events[2], { score: 100, 'status-before': 'warning' })
  t.end()
})

void t.test('the rate is that of a day, and of an hour at least', (t) => {
  const { statistics, look } = watched()
  look(0)
  statistics.failedBlocks = 10
  t.equal(look(1).failedBlocksPerDay, 240)
  for (let minute = 2; minute <= 600; minute++) look(minute)
  t.equal(look(600).failedBlocksPerDay, 24)
  for (let minute = 601; minute < 1600; minute++) look(minute)
  t.equal(look(1600).failedBlocksPerDay, 0)
  t.end()
})

void t.test('counters that are reset are no fewer faults than none', (t) => {
  const { statistics, look } = watched()
  statistics.failedBlocks = 100
  look(0)
  statistics.failedBlocks = 0
  t.equal(look(1).score, 100)
  statistics.failedBlocks = 3
  t.equal(look(HOUR_MS / MINUTE_MS).score, 97)
  t.end()
})
