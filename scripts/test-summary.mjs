/**
 * Reads tap's TAP on standard input. Prints one line for each test file as it ends, what failed in it, and at last the
 * line `N passed, N failed`, with exit status 1 if anything failed.
 *
 * What is counted are assertions. A test that fails without a failed assertion (it crashed, timed out, or had none)
 * counts as one failure, so no failure can hide;
 * nor does a run without any test pass. Environment: with SHOW_COMMENTS comments are printed as they come, not only those of
 * what failed.
 */
import { inspect } from 'node:util'
import { Parser } from 'tap-parser'

/** Long runs say how they are getting on. */
const showsComments = process.env['SHOW_COMMENTS'] !== undefined

class Count {
  passed = 0
  failed = 0
  /** What to show of failed tests, as lines. */
  report = []

  add(other) {
    this.passed += other.passed
    this.failed += other.failed
    this.report.push(...other.report)
  }
}

/** How much a test that explores has seen: shown also when it passes. */
const VISITED = / visited: \d/

const indent = (text) => text.trimEnd().replaceAll(/^/gm, '    ')

function describe(result, path) {
  const { diff, stack, source, ...rest } = result.diag ?? {}
  const texts = [diff, stack, source].filter((text) => typeof text === 'string')
  return [
    `  not ok: ${[...path, result.name].filter(Boolean).join(' > ')}`,
    indent(inspect(rest, { depth: 6 })),
    ...texts.map(indent),
  ]
}

/** Counts what `parser` reads; `ended` gets each of its results with the count of the subtest that it sums up, if any. */
function count(parser, path, ended) {
  const total = new Count()
  let subtest
  parser.on('child', (child) => {
    subtest = count(child, [...path, child.name], () => undefined)
  })
  parser.on('assert', (result) => {
    const own = subtest ?? new Count()
    const isLeaf = subtest === undefined
    subtest = undefined
    if (result.ok && isLeaf && !result.skip && !result.todo) own.passed++
    if (!result.ok && !result.todo && own.failed === 0) {
      own.failed++
      own.report.push(...describe(result, path))
    }
    total.add(own)
    ended(result, own)
  })
  parser.on('extra', (text) => total.report.push(indent(text)))
  parser.on('comment', (text) => {
    if (VISITED.test(text)) console.log(`       ${text.trimEnd()}`)
    if (/^# (Subtest|time=|\{ total)/.test(text)) return
    if (showsComments) console.log(text.trimEnd())
    else total.report.push(indent(text))
  })
  parser.on('bailout', (reason) => {
    total.failed++
    total.report.push(`  bail out: ${reason}`)
  })
  return total
}

const parser = new Parser()
const total = count(parser, [], (result, own) => {
  // A file that tap had to stop is named in the diagnostics only.
  const name = result.diag?.expired ?? result.name
  const counts = own.failed === 0 ? `${own.passed}` : `${own.passed} passed, ${own.failed} failed`
  console.log(`${result.ok ? 'ok    ' : 'not ok'} ${name} (${counts}, ${((result.time ?? 0) / 1000).toFixed(1)} s)`)
  if (!result.ok) console.log(own.report.join('\n'))
})
parser.on('complete', (results) => {
  if (total.passed + total.failed === 0) console.log('no test ran')
  if (total.failed === 0 && (!results.ok || total.passed === 0)) total.failed++
  console.log(`${total.passed} passed, ${total.failed} failed`)
  process.exitCode = total.failed === 0 ? 0 : 1
})
process.stdin.pipe(parser)
