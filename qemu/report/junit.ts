/**
 * JUnit XML: a test suite for each run, a test case for each thing that was to hold. There is no standard; this is what the
 * schemas of Ant and of Jenkins both accept, which ask for different things.
 */
import { cleanLine, escapeMarkup } from './clean-text.js'
import { formatMoment, formatQuantity } from './quantity.js'
import type { RunRecord } from './record.js'
import { verdictsOf, type Verdict } from './verdict.js'

/** Of the marks that go into `system-out`; the HTML page and the JSON have all. */
const MARKS_MAX = 500
const PACKAGE = 'nbd-remap'

export const writeJunit = (runs: readonly RunRecord[]): string =>
  ['<?xml version="1.0" encoding="UTF-8"?>', '<testsuites>', ...runs.flatMap(suiteLines), '</testsuites>', ''].join(
    '\n',
  )

function suiteLines(run: RunRecord, id: number): string[] {
  const verdicts = verdictsOf(run)
  const count = (status: Verdict['status']): number => verdicts.filter((verdict) => verdict.status === status).length
  const attributes = {
    name: run.name,
    package: PACKAGE,
    id,
    // Ant's schema forbids a time zone, and others take what has none for their own: it is UTC, as `startedAt` is.
    timestamp: new Date(run.startedAt).toISOString().slice(0, 19),
    hostname: 'localhost',
    tests: verdicts.length,
    failures: count('failure'),
    errors: count('error'),
    time: seconds(run.durationMs),
  }
  return [
    ` <testsuite${attributeText(attributes)}>`,
    '  <properties>',
    ...Object.entries(properties(run)).map(([name, value]) => `   <property${attributeText({ name, value })}/>`),
    '  </properties>',
    ...verdicts.flatMap((verdict) => caseLines(run, verdict)),
    `  <system-out>${escapeMarkup(story(run))}</system-out>`,
    `  <system-err>${escapeMarkup(run.error ?? '')}</system-err>`,
    ' </testsuite>',
  ]
}

const properties = (run: RunRecord): Record<string, string> => ({
  title: run.title,
  seed: run.seed,
  ...Object.fromEntries(run.measurements.map(({ name, value, unit }) => [name, formatQuantity(value, unit)])),
})

function caseLines(run: RunRecord, { name, status, found, facts }: Verdict): string[] {
  // Nothing says how long a single check took; consumers sum the times up, so it is 0 and not the time of the run.
  const start = `  <testcase${attributeText({ name, classname: `${PACKAGE}.${run.name}`, time: '0.000' })}`
  if (status === 'ok') return [`${start}/>`]
  const details = Object.entries(facts).map(([fact, value]) => `${fact}: ${value}`)
  const text = escapeMarkup([found, ...details].join('\n'))
  return [
    `${start}>`,
    `   <${status}${attributeText({ message: found || name, type: status })}>${text}</${status}>`,
    '  </testcase>',
  ]
}

/** What happened, a line each. */
function story({ marks }: RunRecord): string {
  const lines = marks.slice(0, MARKS_MAX).map(({ atMs, kind, text }) => `${formatMoment(atMs)} ${kind}: ${text}`)
  const left = marks.length - lines.length
  return [...lines, ...(left > 0 ? [`... and ${left} more`] : [])].join('\n')
}

const attributeText = (attributes: Record<string, string | number>): string =>
  Object.entries(attributes)
    .map(([name, value]) => ` ${name}="${escapeMarkup(cleanLine(String(value)) || '-')}"`)
    .join('')

/** Without the separators that some readers take for decimal points. */
const seconds = (ms: number): string => (ms / 1000).toFixed(3)
