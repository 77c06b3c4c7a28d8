import t from 'tap'
import type { BoundJob, CompareJob } from './job.js'
import type { Sample } from './rounds.js'
import {
  median,
  missesGoal,
  percentile,
  summarizeBound,
  summarizeFailed,
  summarizeNotRun,
  summarizeRounds,
} from './summary.js'

const JOB: CompareJob = {
  kind: 'compare',
  name: 'job',
  title: 'Job',
  disk: 'file',
  load: { rw: 'randread', bs: '4k', iodepth: 32 },
  peers: ['nbdkit', 'qemu-nbd'],
  goal: 1.5,
}

const samples = (...speeds: number[]): Sample[] =>
  speeds.map((requestsPerSecond) => ({
    requests: requestsPerSecond,
    requestsPerSecond,
    bytesPerSecond: requestsPerSecond * 4096,
    p99Us: 100,
    cpuUsPerRequest: 5,
    clientCpuUsPerRequest: 4,
  }))

void t.test('the median lies in the middle, or between the two that do', (t) => {
  t.equal(median([5, 1, 3]), 3)
  t.equal(median([4, 1, 3, 2]), 2.5)
  t.equal(median([7]), 7)
  t.end()
})

void t.test('a percentile is one of the values', (t) => {
  const hundred = Array.from({ length: 100 }, (_, n) => 100 - n)
  t.equal(percentile(hundred, 99), 99)
  t.equal(percentile(hundred, 50), 50)
  t.equal(percentile([3, 1, 2], 99), 3)
  t.equal(percentile([8], 0), 8)
  t.end()
})

void t.test('the ratio is that of the medians, to the peer whose median is best', (t) => {
  const summary = summarizeRounds(JOB, {
    servers: [
      { server: 'nbd-remap', samples: samples(150, 300, 160) },
      { server: 'nbdkit', samples: samples(100, 90, 110) },
      { server: 'qemu-nbd', samples: samples(20, 400, 30) },
    ],
    controlLatenciesMs: [1, 2, 3],
  })
  t.match(summary, { value: 1.6, best: 'nbdkit', met: true, control: { p99Ms: 3, met: true } })
  t.match(summary.range, { min: 0.75, max: 1.5 }, 'each round is compared with the best of that round')
  t.same(
    summary.servers.map(({ server, requestsPerSecond }) => [server, requestsPerSecond]),
    [
      ['nbd-remap', { median: 160, min: 150, max: 300 }],
      ['nbdkit', { median: 100, min: 90, max: 110 }],
      ['qemu-nbd', { median: 30, min: 20, max: 400 }],
    ],
  )
  t.notOk(missesGoal(summary))
  t.end()
})

void t.test('a goal is missed by the ratio or by the control socket', (t) => {
  const rounds = (ours: number, controlMs: number) => ({
    servers: [
      { server: 'nbd-remap' as const, samples: samples(ours) },
      { server: 'nbdkit' as const, samples: samples(100) },
    ],
    controlLatenciesMs: [controlMs],
  })
  t.notOk(missesGoal(summarizeRounds(JOB, rounds(150, 100))))
  t.ok(missesGoal(summarizeRounds(JOB, rounds(149, 100))))
  t.ok(missesGoal(summarizeRounds(JOB, rounds(150, 101))))
  t.end()
})

void t.test('a figure with a bound must not be above it', (t) => {
  const job: BoundJob = {
    kind: 'memory',
    name: 'memory',
    title: 'Memory',
    unit: 'MiB',
    goal: 200,
    measure: () => Promise.reject(new Error('not called')),
  }
  const measured = { controlLatenciesMs: [], note: 'a note' }
  t.match(summarizeBound(job, { value: 200, ...measured }), { met: true, unit: 'MiB', control: null, note: 'a note' })
  t.match(summarizeBound(job, { value: 201, ...measured }), { met: false, value: 201 })
  t.end()
})

void t.test('what was not run or failed has a reason and misses no goal', (t) => {
  for (const summary of [summarizeNotRun(JOB, 'no FUSE'), summarizeFailed(JOB, 'crashed')]) {
    t.match(summary, { value: null, met: null, servers: [] })
    t.notOk(missesGoal(summary))
  }
  t.equal(summarizeNotRun(JOB, 'no FUSE').notRun, 'no FUSE')
  t.equal(summarizeFailed(JOB, 'crashed').failed, 'crashed')
  t.end()
})
