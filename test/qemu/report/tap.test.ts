/** What `writeTap` writes is TAP 14 to a parser that knows it, whatever the texts in a record hold. */
import { Parser, type Result } from 'tap-parser'
import t from 'tap'
import { writeTap } from '../../../qemu/report/tap.js'
import { verdictsOf } from '../../../qemu/report/verdict.js'
import { seededRandom } from '../../support/random.js'
import { killedControl, killedRun, randomRun } from '../../support/run-records.js'

interface Parsed {
  readonly points: Result[]
  /** Of the subtests, in order. */
  readonly inner: Result[][]
  readonly strange: string[]
  readonly ok: boolean
}

function parse(text: string): Parsed {
  const points: Result[] = []
  const inner: Result[][] = []
  const strange: string[] = []
  const parser = new Parser({ strict: true })
  parser.on('assert', (point: Result) => points.push(point))
  parser.on('extra', (line: string) => strange.push(line))
  parser.on('child', (child: Parser) => {
    const asserts: Result[] = []
    inner.push(asserts)
    child.on('assert', (point: Result) => asserts.push(point))
    child.on('extra', (line: string) => strange.push(line))
  })
  parser.end(text)
  strange.push(
    ...(parser.results?.failures ?? [])
      .filter((failure) => failure.tapError)
      .map((failure) => String(failure.tapError)),
  )
  return { points, inner, strange, ok: parser.results?.ok ?? false }
}

void t.test('a run that passed', (t) => {
  const { points, inner, strange, ok } = parse(writeTap([killedRun({ control: killedControl() })]))
  t.same(strange, [])
  t.ok(ok)
  t.match(points, [{ ok: true, name: 'server-killed', time: 12_000, diag: { seed: '7' } }])
  t.same(
    inner[0]?.map(({ name, ok }) => [ok, name]),
    [
      [true, 'the guest sees no I/O error'],
      [true, 'all files have their checksums'],
      [true, 'blackout: at most 1,000 ms'],
      [true, 'without nbd-remap it fails'],
    ],
  )
  t.match(inner[0]?.[0]?.diag, {
    found: '0 errors in its kernel log',
    'without nbd-remap': 'does not hold: 212 errors in its kernel log',
  })
  t.end()
})

void t.test('a run that failed says which check, and what was found', (t) => {
  const checks = [{ name: 'nothing is lost', ok: false, detail: 'line 1\nline 2', atMs: 1 }]
  const { points, inner, strange, ok } = parse(writeTap([killedRun({ outcome: 'failed', checks }), killedRun()]))
  t.same(strange, [])
  t.notOk(ok)
  t.match(points, [{ ok: false }, { ok: true }])
  t.match(inner[0]?.[0], { ok: false, name: 'nothing is lost', diag: { found: 'line 1\nline 2' } })
  t.end()
})

void t.test('a run that broke down is not ok, though no check failed', (t) => {
  const { points, inner } = parse(writeTap([killedRun({ outcome: 'broken', error: 'QEMU ended with 1', checks: [] })]))
  t.match(points, [{ ok: false }])
  t.match(inner[0]?.at(-1), {
    ok: false,
    name: 'the run itself',
    diag: { severity: 'error', found: 'QEMU ended with 1' },
  })
  t.end()
})

void t.test('no runs are an empty plan', (t) => {
  t.equal(writeTap([]), 'TAP version 14\n1..0\n')
  t.end()
})

void t.test('texts of any kind', (t) => {
  const random = seededRandom(t)
  for (let n = 0; n < 150; n++) {
    const runs = [randomRun(random), randomRun(random)]
    const text = writeTap(runs)
    const { points, inner, strange } = parse(text)
    const directives = [...points, ...inner.flat()].filter(({ todo, skip }) => todo !== false || skip !== false)
    const told = [strange, directives, points.map(({ ok }) => ok), inner.map((asserts) => asserts.map(({ ok }) => ok))]
    const expected = [
      [],
      [],
      runs.map(({ outcome }) => outcome === 'passed'),
      runs.map((run) => verdictsOf(run).map(({ status }) => status === 'ok')),
    ]
    if (!t.strictSame(told, expected)) break
  }
  t.end()
})
