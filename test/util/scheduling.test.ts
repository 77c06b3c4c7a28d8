import t from 'tap'
import { scheduling } from '../../src/util/scheduling.js'

void t.test('who sleeps gets another turn, and does not wait for a processor meanwhile', (t) => {
  const before = scheduling()
  t.ok(before && before.turns > 0)
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50)
  const after = scheduling()
  t.ok(after && before && after.turns > before.turns)
  t.end()
})

void t.test('who only calculates is told of the time it had to wait', (t) => {
  const before = scheduling()
  const endMs = performance.now() + 20
  while (performance.now() < endMs);
  const after = scheduling()
  t.ok(after && before && after.queuedMs >= before.queuedMs)
  t.end()
})
