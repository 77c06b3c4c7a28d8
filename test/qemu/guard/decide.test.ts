import t from 'tap'
import type { Cause } from '../../../qemu/guard/cause.js'
import { decide, type Attempts, type Decision, type Evidence } from '../../../qemu/guard/decide.js'

const GOOD: Evidence = {
  ...{ unreachable: undefined, stalled: false, suspended: false, freeBlocks: 10, clients: 1 },
  ...{ startedAt: '2026-01-01', check: { readable: true } },
}
const range = { sector: 800, sectors: 8 }
const NO_SPARE: Cause = { kind: 'no-spare', range, blocksNeeded: 3 }
const NOW = 1_000_000

const decideOn = (cause: Cause, evidence: Partial<Evidence> = {}, attempts?: Attempts, nowMs = NOW): Decision =>
  decide({ cause, evidence: { ...GOOD, ...evidence }, attempts, attemptsMax: 3, nowMs })

void t.test('a machine goes on when what was wrong is seen to be right', (t) => {
  const kinds = ['no-spare', 'unreadable', 'unwritable', 'gone', 'connection', 'unknown'] as const
  for (const kind of kinds) t.match(decideOn({ kind, range }), { kind: 'continue' }, kind)
  t.end()
})

void t.test('it waits, and says for what, while the same error would come back at once', (t) => {
  const waits: [Cause, Partial<Evidence>, RegExp][] = [
    [NO_SPARE, { freeBlocks: 0 }, /no spare block is free/],
    [NO_SPARE, { freeBlocks: 2 }, /needs 3 free spare blocks and finds 2/],
    [{ kind: 'unwritable', range }, { freeBlocks: 0 }, /no spare block is free/],
    [{ kind: 'unreadable', range }, { check: { readable: false, badSector: 803 } }, /sector 803 still cannot be read/],
    [{ kind: 'gone', range }, { check: { readable: false, error: 'ENODEV' } }, /\(ENODEV\)/],
    [{ kind: 'connection' }, { unreachable: 'nobody listens' }, /the server does not answer: nobody listens/],
    [{ kind: 'connection' }, { clients: 0 }, /QEMU has not connected/],
    [{ kind: 'unknown' }, { stalled: true }, /a disk of the server hangs/],
    [NO_SPARE, { suspended: true }, /suspended/],
  ]
  for (const [cause, evidence, because] of waits) t.match(decideOn(cause, evidence), { kind: 'wait', because })
  t.match(decideOn({ kind: 'unreadable', range }, { freeBlocks: 0 }), { kind: 'continue' }, 'a read needs no spare')
  t.end()
})

void t.test(
  'an error that comes back although nothing is wrong is tried more and more rarely, and then no more',
  (t) => {
    const after = (count: number): Attempts => ({ count, lastMs: NOW, cause: NO_SPARE, evidence: GOOD })
    t.match(decideOn(NO_SPARE, {}, after(1), NOW + 999), { kind: 'wait', untilMs: NOW + 1000 })
    t.match(decideOn(NO_SPARE, {}, after(1), NOW + 1000), { kind: 'continue', because: /attempt 2/ })
    t.match(decideOn(NO_SPARE, {}, after(2), NOW + 1999), { kind: 'wait', untilMs: NOW + 2000 })
    t.match(decideOn(NO_SPARE, {}, after(3), NOW + 1e9), { kind: 'give-up', because: /each of 3 times/ })
    t.end()
  },
)

void t.test(
  'the attempts begin anew with another error, a better server or a new one, but never without a pause',
  (t) => {
    const spent: Attempts = { count: 3, lastMs: NOW, cause: NO_SPARE, evidence: GOOD }
    const soon = NOW + 10
    for (const [cause, evidence] of [
      [NO_SPARE, { freeBlocks: 11 }],
      [NO_SPARE, { startedAt: '2026-01-02' }],
      [{ ...NO_SPARE, range: { sector: 16, sectors: 8 } }, {}],
      [{ kind: 'connection' }, {}],
    ] as const) {
      t.match(decideOn(cause, evidence, spent, soon), { kind: 'wait', untilMs: NOW + 1000 })
      t.match(decideOn(cause, evidence, spent, NOW + 1000), { kind: 'continue', because: /attempt 1/ })
    }
    t.match(decideOn(NO_SPARE, { freeBlocks: 9 }, spent, NOW + 1e9), { kind: 'give-up' })
    t.end()
  },
)
