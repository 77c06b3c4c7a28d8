/** Feeds TAP to scripts/test-summary.mjs and looks at its last line and exit status. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t from 'tap'

const script = join(import.meta.dirname, '../../../scripts/test-summary.mjs')

/** A file's TAP as tap prints it among that of others. */
function file(number: number, ok: boolean, lines: string[]): string {
  const body = lines.map((line) => `    ${line}\n`).join('')
  return `# Subtest: f${number}\n${body}${ok ? 'ok' : 'not ok'} ${number} - f${number}\n`
}

function summary(tap: string): { last: string; status: number | null; output: string } {
  const { stdout, status } = spawnSync(process.execPath, [script], { input: tap, encoding: 'utf8' })
  return { last: stdout.trimEnd().split('\n').at(-1) ?? '', status, output: stdout }
}

void t.test('assertions are counted, in subtests and out of them', (t) => {
  const subtest = ['# Subtest: inner', '    ok 1 - a', '    ok 2 - b', '    1..2', 'ok 1 - inner', 'ok 2 - c', '1..2']
  t.match(summary(`TAP version 14\n${file(1, true, subtest)}${file(2, true, ['ok 1', '1..1'])}1..2\n`), {
    last: '4 passed, 0 failed',
    status: 0,
  })
  t.end()
})

void t.test('skipped tests are not counted as passed', (t) => {
  t.match(summary(`TAP version 14\n${file(1, true, ['ok 1', 'ok 2 - x # SKIP why', '1..2'])}1..1\n`), {
    last: '1 passed, 0 failed',
    status: 0,
  })
  t.end()
})

void t.test('a failed assertion is named with the path to it and counted once', (t) => {
  const subtest = ['# Subtest: inner', '    ok 1 - a', '    not ok 2 - b', '    1..2', 'not ok 1 - inner', '1..1']
  const result = summary(`TAP version 14\n${file(1, false, subtest)}1..1\n`)
  t.match(result, { last: '1 passed, 1 failed', status: 1 })
  t.match(result.output, 'f1 > inner > b')
  t.end()
})

void t.test('how many states a test has visited is shown, and other comments of tests that pass are not', (t) => {
  const subtest = [
    '# Subtest: inner',
    '    # SEED=1',
    '    # crash states visited: 20000 (of 80)',
    '    ok 1',
    '    1..1',
  ]
  const { output } = summary(`TAP version 14\n${file(1, true, [...subtest, 'ok 1 - inner', '1..1'])}1..1\n`)
  t.match(output, /^ +# crash states visited: 20000 \(of 80\)$/m)
  t.notMatch(output, 'SEED')
  t.end()
})

void t.test('a file that failed without a failed assertion counts as a failure', (t) => {
  t.match(summary(`TAP version 14\n${file(1, false, ['ok 1', '1..1'])}1..1\n`), {
    last: '1 passed, 1 failed',
    status: 1,
  })
  t.end()
})

void t.test('a run that broke off, bailed out or tested nothing fails', (t) => {
  const whole = `TAP version 14\n${file(1, true, ['ok 1', '1..1'])}`
  t.match(summary(`${whole}1..2\n`), { last: '1 passed, 1 failed', status: 1 }, 'fewer files than planned')
  t.match(summary(`${whole}Bail out! no disk\n`), { last: '1 passed, 1 failed', status: 1 }, 'bailed out')
  t.match(summary(''), { last: '0 passed, 1 failed', status: 1 }, 'nothing at all')
  t.match(summary('TAP version 14\n1..0 # no tests\n'), { last: '0 passed, 1 failed', status: 1 }, 'an empty plan')
  t.end()
})
