/** TAP 14: a subtest for each run, a test point for each thing that was to hold, and what was found as YAML. */
import { stringify } from 'yaml'
import { cleanLine, cleanText } from './clean-text.js'
import { formatMs, formatMoment, formatQuantity } from './quantity.js'
import type { RunRecord } from './record.js'
import { verdictsOf, type Verdict } from './verdict.js'

const INDENT = '    '
const FAILED = { ok: '', failure: 'not ', error: 'not ' } as const

export function writeTap(runs: readonly RunRecord[]): string {
  const body = runs.flatMap((run, n) => runLines(run, n + 1))
  return `${['TAP version 14', ...body, `1..${runs.length}`].join('\n')}\n`
}

function runLines(run: RunRecord, number: number): string[] {
  const verdicts = verdictsOf(run)
  const name = description(run.name)
  const facts = { title: run.title, seed: run.seed, 'started at': run.startedAt, ...measured(run) }
  return [
    `# Subtest: ${name}`,
    ...indent(verdicts.flatMap((verdict, n) => verdictLines(verdict, n + 1))),
    `${INDENT}1..${verdicts.length}`,
    `${run.outcome === 'passed' ? '' : 'not '}ok ${number} - ${name} # time=${run.durationMs.toFixed(3)}ms`,
    ...yamlBlock(facts),
  ]
}

function verdictLines({ name, status, found, facts, atMs }: Verdict, number: number): string[] {
  const at = { 'found at': formatMoment(atMs) }
  const severity = status === 'error' ? { severity: 'error' } : {}
  const sentence = found === '' ? {} : { found }
  return [
    `${FAILED[status]}ok ${number} - ${description(name)}`,
    ...yamlBlock({ ...severity, ...sentence, ...facts, ...at }),
  ]
}

const measured = ({ durationMs, measurements }: RunRecord): object => ({
  took: formatMs(durationMs),
  measured: Object.fromEntries(
    measurements.map(({ name, value, unit }) => [cleanLine(name), formatQuantity(value, unit)]),
  ),
})

/** On one line, with nothing in it that TAP would take for a directive. */
const description = (text: string): string => cleanLine(text).replace(/[\\#]/g, (sign) => `\\${sign}`)

function yamlBlock(facts: object): string[] {
  const yaml = stringify(facts, (_, value: unknown) => (typeof value === 'string' ? cleanText(value) : value), {
    lineWidth: 0,
    aliasDuplicateObjects: false,
  })
  // Blank lines inside a block scalar need no indentation in YAML, but in TAP they would end nothing: strip what trails.
  return ['---', ...yaml.trimEnd().split('\n'), '...'].map((line) => `  ${line}`.trimEnd())
}

const indent = (lines: readonly string[]): string[] => lines.map((line) => `${INDENT}${line}`.trimEnd())
