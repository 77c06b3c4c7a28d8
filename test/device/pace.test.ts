import t from 'tap'
import { PAUSE_MAX_MS, PAUSE_MIN_MS, Pace } from '../../src/device/pace.js'

const KIB = 1024
/** Far from 0, where a clock would be after a while. */
const START_MS = 10_000

/** A disk whose requests come one after the other, on a clock of its own. */
class Disk {
  /** What the scheduler did to the thread. */
  turns = 1
  queuedMs = 0
  readonly pace = new Pace(() => ({ turns: this.turns, queuedMs: this.queuedMs }))
  nowMs = START_MS
  synchronous = 0
  pooled = 0

  /**
   * One request that takes `ms`, whichever way it goes, and `thinkMs` until the next one. It sleeps for all of this time, or the
   * thread waits for a processor for `queuedMs` of it.
   */
  request(ms: number, { bytes = 4 * KIB, thinkMs = 0.01, queuedMs = 0 } = {}): void {
    const isSynchronous = this.pace.begin(this.nowMs)
    if (!isSynchronous) this.pace.sent(this.nowMs)
    this.nowMs += ms
    this.turns++
    this.queuedMs += queuedMs
    if (isSynchronous) this.pace.end(this.nowMs, bytes)
    else this.pace.answered(this.nowMs)
    this.nowMs += thinkMs
    if (isSynchronous) this.synchronous++
    else this.pooled++
  }

  /** Requests of `ms` until `durationMs` have passed. @returns the share that was synchronous */
  run(durationMs: number, ms: number, options = {}): number {
    const end = this.nowMs + durationMs
    const before = { synchronous: this.synchronous, pooled: this.pooled }
    while (this.nowMs < end) this.request(ms, options)
    const synchronous = this.synchronous - before.synchronous
    return synchronous / (synchronous + this.pooled - before.pooled)
  }
}

void t.test('a disk that answers from memory is called synchronously, small requests and long ones', (t) => {
  const disk = new Disk()
  t.equal(disk.run(100, 0.003), 1)
  t.equal(disk.run(1000, 0.25, { bytes: 1024 * KIB }), 1)
  t.end()
})

void t.test('a slow disk goes to the pool after a few calls', (t) => {
  for (const ms of [0.1, 0.3, 1, 5, 20]) {
    const disk = new Disk()
    disk.run(45, ms)
    t.ok(disk.synchronous <= 2 || disk.synchronous * ms < 25, `${disk.synchronous} calls of ${ms} ms`)
    t.notOk(disk.pace.begin(disk.nowMs))
  }
  const hung = new Disk()
  hung.request(10_000)
  t.notOk(hung.pace.begin(hung.nowMs), 'one call that hangs is enough')
  t.end()
})

void t.test('a call that takes long now and then changes nothing', (t) => {
  const disk = new Disk()
  for (let n = 0; n < 100; n++) {
    disk.request(4)
    disk.run(20, 0.003)
  }
  t.equal(disk.pooled, 0, 'the scheduler took the processor away')
  t.end()
})

void t.test('a machine that is busy with something else does not make a disk slow', (t) => {
  const disk = new Disk()
  for (let n = 0; n < 1000; n++) {
    disk.request(20, { queuedMs: 19.99 })
    disk.request(0.003)
  }
  t.ok(disk.pooled < 20, `${disk.pooled} of 2000 requests went to the pool`)
  disk.run(2000, 5)
  t.notOk(disk.pace.begin(disk.nowMs), 'but a slow disk on such a machine is found out')
  t.end()
})

void t.test('where the scheduler does not say what it did, every slow call counts', (t) => {
  const pace = new Pace()
  for (let n = 0; n < 2; n++) {
    pace.begin(START_MS + 20 * n)
    pace.end(START_MS + 20 * n + 15, 4 * KIB)
  }
  t.notOk(pace.begin(START_MS + 41))
  t.end()
})

void t.test('a slow disk is tried again ever more rarely', (t) => {
  const disk = new Disk()
  disk.run(20, 5)
  disk.synchronous = 0
  t.ok(disk.run(PAUSE_MIN_MS - 30, 5) === 0)
  disk.run(60_000, 5)
  const lost = disk.synchronous * 5
  t.ok(disk.synchronous >= 6 && lost < 200, `${disk.synchronous} calls in a minute`)
  disk.synchronous = 0
  disk.run(100_000, 5)
  t.ok(disk.synchronous >= 8 && disk.synchronous <= 11, `${disk.synchronous} calls in 100 seconds`)
  t.end()
})

void t.test('a disk that has become fast is called synchronously again', (t) => {
  const disk = new Disk()
  disk.run(60_000, 5)
  t.ok(disk.run(2 * PAUSE_MAX_MS, 0.003) > 0.3)
  t.equal(disk.run(1000, 0.003), 1)
  disk.run(20, 5)
  disk.synchronous = 0
  disk.run(4 * PAUSE_MIN_MS, 0.003)
  t.ok(disk.synchronous > 0, 'and the next time the pause is short again')
  t.end()
})

void t.test('a disk that is not answering in the pool is not tried', (t) => {
  const disk = new Disk()
  disk.run(20, 5)
  disk.pace.sent(disk.nowMs)
  t.notOk(disk.pace.begin(disk.nowMs + PAUSE_MAX_MS))
  disk.pace.answered(disk.nowMs + PAUSE_MAX_MS + 1)
  t.ok(disk.pace.begin(disk.nowMs + PAUSE_MAX_MS + 2))
  t.end()
})

void t.test(
  'a disk that fetches one request in a hundred is left to the pool when that costs most of the time',
  (t) => {
    const disk = new Disk()
    const mixed = (): void => {
      for (let n = 0; n < 99; n++) disk.request(0.003, { thinkMs: 0.005 })
      disk.request(5)
    }
    for (let n = 0; n < 20; n++) mixed()
    t.ok(disk.pooled > disk.synchronous, `${disk.pooled} of ${disk.pooled + disk.synchronous}`)
    t.end()
  },
)
