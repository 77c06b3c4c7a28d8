import t from 'tap'
import { isWorthEnding, judgeSilence, type Silence } from '../../src/cli/silence.js'
import type { ProcessState } from '../../src/util/process-state.js'

const BEFORE: ProcessState = { pid: 7, started: 100, state: 'S', ranMs: 500, queuedMs: 50, isInDiskCall: false }
const LIMIT_MS = 2000

function judge(change: Partial<ProcessState> | undefined, silentMs = LIMIT_MS): Silence {
  const now = change && { ...BEFORE, ...change }
  return judgeSilence(BEFORE, now, { silentMs, limitMs: LIMIT_MS })
}

void t.test('what is gone: nothing there, or another process with its number', (t) => {
  t.equal(judge(undefined), 'gone')
  t.equal(judge({ started: 101 }), 'gone')
  t.end()
})

void t.test('one that is stopped, or sleeps without a disk, is worth ending', (t) => {
  t.equal(judge({ state: 'T' }), 'stopped')
  t.equal(judge({}), 'hung')
  t.ok(isWorthEnding('stopped') && isWorthEnding('hung'))
  t.end()
})

void t.test('one that waits for a disk is not, for the next one would wait for the same disk', (t) => {
  t.equal(judge({ state: 'D' }), 'disk')
  t.equal(judge({ isInDiskCall: true }), 'disk')
  t.notOk(isWorthEnding('disk'))
  t.end()
})

void t.test('one that a debugger holds, or that the machine does not let run, is not', (t) => {
  t.equal(judge({ state: 't' }), 'traced')
  t.equal(judge({ state: 'R', queuedMs: BEFORE.queuedMs + 1500, ranMs: BEFORE.ranMs + 400 }), 'starved')
  t.notOk(isWorthEnding('traced') || isWorthEnding('starved'))
  t.end()
})

void t.test('one that calculates has five times as long', (t) => {
  t.equal(judge({ state: 'R', ranMs: BEFORE.ranMs + 1990 }), 'busy')
  t.notOk(isWorthEnding('busy'))
  t.equal(judge({ state: 'R', ranMs: BEFORE.ranMs + 9900 }, 5 * LIMIT_MS), 'hung')
  t.end()
})
