/** A sampler draws what a server says of itself, and a gap while it does not. */
import t from 'tap'
import { ServerSampler } from '../../../qemu/report/server-sampler.js'
import type { Point } from '../../../qemu/report/record.js'
import { Track, TRACK_POINTS_MAX } from '../../../qemu/report/track.js'
import { MiB } from '../../../src/util/units.js'
import { GREETING, scriptedServer } from '../../support/qmp-server.js'

/** What the server answers: from one look to the next, 1 MiB more was written, in one request of 2 ms. */
const answer = (look: number): object => ({
  'bytes-read': 0,
  'bytes-written': look * MiB,
  latency: [
    { operation: 'read', histogram: [] },
    { operation: 'write', histogram: [{ 'from-us': 1900, 'below-us': 2100, count: look }] },
  ],
})

void t.test('rates and latencies, and a gap while the server is away', async (t) => {
  const clock = { ms: 0 }
  let looks = 0
  let connections = 0
  let enough: () => void = () => undefined
  const seen = new Promise<void>((resolve) => (enough = resolve))
  const server = await scriptedServer(
    t,
    (socket) => {
      connections++
      socket.write(GREETING)
    },
    (socket, { execute, id }) => {
      if (execute === 'qmp_capabilities') {
        socket.write(`{"return": {}, "id": ${id}}\r\n`)
        return
      }
      // A look takes no time by this clock: the server decides when it goes on.
      clock.ms += 100
      looks++
      if (looks === 4) socket.destroy()
      else socket.write(`{"return": ${JSON.stringify(answer(looks < 4 ? looks : looks - 4))}, "id": ${id}}\r\n`)
      if (looks === 8) enough()
    },
  )
  const sampler = ServerSampler.start(server.path, { now: () => clock.ms, intervalMs: 1 })
  await seen
  await sampler.stop()
  t.equal(connections, 2)
  const points = (name: string): readonly Point[] => sampler.series.find((one) => one.name === name)?.points ?? []
  t.same(points('server, writes').slice(0, 3), [
    [200, 10],
    [300, 10],
    [400, null],
  ])
  t.same(points('server, writes')[3], [600, 10], 'the first look at the next server tells no rate')
  t.same(points('server, reads').slice(0, 2), [
    [200, 0],
    [300, 0],
  ])
  t.same(
    points('server, 99 %')
      .map(([, value]) => value !== null && value > 1.9 && value <= 2.1)
      .slice(0, 4),
    [true, true, false, true],
  )
})

void t.test('stops while nobody listens, and knows nothing', async (t) => {
  const sampler = ServerSampler.start('/nonexistent/socket', { now: () => 0 })
  await sampler.stop()
  t.same(sampler.series, [])
})

void t.test('a track stays bounded, and keeps peaks and gaps', (t) => {
  const track = new Track({ lane: 'throughput', name: 'writes', unit: 'MiB/s' })
  const total = 10 * TRACK_POINTS_MAX
  for (let n = 0; n < total; n++) {
    if (n === total / 2) track.gap(n)
    else track.add(n, n === 777 ? 1e6 : n % 7)
  }
  const { points } = track.series
  t.ok(points.length <= TRACK_POINTS_MAX, `${points.length} points`)
  t.ok(
    points.some(([at, value]) => at === 777 && value === 1e6),
    'the peak is there',
  )
  t.ok(
    points.some(([at, value]) => at === total / 2 && value === null),
    'the gap is there',
  )
  t.same(
    [...points].sort(([a], [b]) => a - b),
    points,
    'in order',
  )
  t.end()
})

void t.test('a gap is told once, and not before the first point', (t) => {
  const track = new Track({ lane: 'latency', name: 'p99', unit: 'ms' })
  track.gap(1)
  track.add(2, 5)
  track.gap(3)
  track.gap(4)
  track.add(5, Infinity)
  t.same(track.series.points, [
    [2, 5],
    [3, null],
    [5, null],
  ])
  t.end()
})
