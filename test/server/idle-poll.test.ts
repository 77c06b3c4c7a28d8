import t from 'tap'
import { IdlePoll } from '../../src/server/idle-poll.js'

const WINDOW_MS = 0.05

/** A loop on a clock of its own: a look for requests takes 1 us. */
class Loop {
  nowMs = 1000
  queuedMs = 0
  looks = 0
  #callbacks: (() => void)[] = []
  readonly poll: IdlePoll

  constructor(windowMs = WINDOW_MS) {
    this.poll = new IdlePoll(windowMs, {
      nowMs: () => this.nowMs,
      scheduling: () => ({ turns: 1, queuedMs: this.queuedMs }),
      next: (callback) => this.#callbacks.push(callback),
    })
  }

  /** Until `ms` later, or for as long as it polls. @returns whether it still polls */
  run(ms: number): boolean {
    const endMs = this.nowMs + ms
    while (this.#callbacks.length > 0 && this.nowMs < endMs) {
      this.nowMs += 0.001
      this.looks++
      for (const callback of this.#callbacks.splice(0)) callback()
    }
    this.nowMs = Math.max(this.nowMs, endMs)
    return this.#callbacks.length > 0
  }

  /** Requests one by one, so long after each other. */
  serve(count: number, ms: number, queuedMs = 0): void {
    for (let n = 0; n < count; n++) {
      this.poll.served(1)
      this.run(ms)
      this.queuedMs += queuedMs
    }
  }
}

void t.test('it polls between requests that come one by one and soon', (t) => {
  const loop = new Loop()
  loop.serve(10, 0.02)
  t.notOk(loop.poll.isPolling, 'not at once')
  loop.serve(100, 0.02)
  t.ok(loop.poll.isPolling)
  t.notOk(loop.run(1), 'and no longer than the window')
  t.ok(loop.looks < 110 * 20)
  t.end()
})

void t.test('requests that come late, or many together, are not waited for', (t) => {
  const late = new Loop()
  late.serve(100, 0.21)
  t.equal(late.looks, 0)
  const inVain = new Loop()
  inVain.serve(100_000, 0.06)
  t.ok(inVain.looks > 0 && inVain.looks < 100 * 50, `${inVain.looks} looks in 6 seconds`)
  const many = new Loop()
  for (let n = 0; n < 100; n++) {
    many.poll.served(8)
    many.run(0.02)
  }
  t.equal(many.looks, 0)
  const off = new Loop(0)
  off.serve(100, 0.001)
  t.equal(off.looks, 0, 'nor any, when it is switched off')
  t.end()
})

void t.test('when others want the processor it pauses', (t) => {
  const loop = new Loop()
  loop.serve(1000, 0.02)
  loop.serve(2000, 0.02, 0.01)
  t.notOk(loop.poll.isPolling)
  loop.serve(20_000, 0.02)
  t.ok(loop.poll.isPolling, 'and goes on later')
  t.end()
})
