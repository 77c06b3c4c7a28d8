/**
 * The reports of runs as one HTML page that needs nothing else: no network, no folder beside it, and no script to be read.
 * Its content security policy names the one script by its hash, so that nothing in a record could run even if it got in.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { cleanLine } from '../clean-text.js'
import { formatMs, formatQuantity } from '../quantity.js'
import { isWithinLimit, type Measurement, type Outcome, type RunRecord } from '../record.js'
import { Markup, markup, type Content } from './markup.js'
import { controlBadge, outcomeBadge, runSection } from './run-section.js'
import { STYLE } from './style.js'

export interface HtmlOptions {
  /** Of the page; what the runs are called when not given. */
  readonly title?: string
  /** Who wrote it, for the foot of the page: `nbd-remap 0.1.0`. */
  readonly generator?: string
}

const script = readFileSync(new URL('../browser/timeline.js', import.meta.url), 'utf8').trim()
const scriptHash = createHash('sha256').update(script).digest('base64')
const POLICY = `default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-${scriptHash}'; base-uri 'none'; form-action 'none'`

export function writeHtml(runs: readonly RunRecord[], options: HtmlOptions = {}): string {
  const title = cleanLine(options.title ?? titleOf(runs))
  const [only] = runs
  const single = runs.length === 1 ? only : undefined
  return markup`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="${new Markup(POLICY)}"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>
<meta name="referrer" content="no-referrer"/>
<title>${title}</title>
<style>${new Markup(STYLE)}</style>
</head>
<body>
<main>
${single === undefined ? overview(title, runs) : undefined}
${runs.map((run, n) => runSection(run, n + 1, single === undefined ? 2 : 1))}
</main>
<footer>${options.generator === undefined ? undefined : markup`<p>Written by ${options.generator}.</p>`}</footer>
<script>${new Markup(script)}</script>
</body>
</html>
`.toString()
}

function titleOf(runs: readonly RunRecord[]): string {
  const [only] = runs
  if (runs.length === 1 && only !== undefined) return `${only.name}: ${only.outcome}`
  return runs.length === 0 ? 'No runs' : `${runs.length} scenarios, ${countsOf(runs)}`
}

function countsOf(runs: readonly RunRecord[]): string {
  const count = (outcome: Outcome): number => runs.filter((run) => run.outcome === outcome).length
  const told = (['passed', 'failed', 'broken'] as const).filter((outcome) => count(outcome) > 0)
  return told.map((outcome) => `${count(outcome)} ${outcome}`).join(', ')
}

function overview(title: string, runs: readonly RunRecord[]): Markup {
  const totalMs = runs.reduce((sum, { durationMs }) => sum + durationMs, 0)
  const [first] = runs
  const when =
    first === undefined ? undefined : markup`<p class="meta">${dateOf(first)} · ${formatMs(totalMs)} in all</p>`
  if (first === undefined) return markup`<header class="page"><h1>${title}</h1></header>`
  return markup`<header class="page"><h1>${title}</h1>${when}</header>
<table class="overview"><thead><tr><th scope="col">Outcome</th><th scope="col">Scenario</th><th scope="col" class="number">Checks</th><th scope="col">Against limits</th><th scope="col">Without nbd-remap</th><th scope="col" class="number">Took</th></tr></thead>
<tbody>${runs.map((run, n) => overviewRow(run, n + 1))}</tbody></table>`
}

function overviewRow(run: RunRecord, number: number): Markup {
  const holding = run.checks.filter(({ ok }) => ok).length
  return markup`<tr class="${run.outcome}"><td>${outcomeBadge(run.outcome)}</td>
<td><a href="#run-${number}">${run.name}</a><div class="promise">${run.title}</div></td>
<td class="number">${run.checks.length === 0 ? '–' : `${holding} of ${run.checks.length}`}</td>
<td>${run.measurements.filter(({ limit }) => limit !== undefined).map(limitPhrase)}</td>
<td>${controlPhrase(run)}</td><td class="number">${formatMs(run.durationMs)}</td></tr>\n`
}

const limitPhrase = (measurement: Measurement): Content => {
  const { name, value, unit, limit = NaN } = measurement
  return markup`<div class="${isWithinLimit(measurement) ? 'kept' : 'exceeded'}">${name} <b class="quantity">${formatQuantity(value, unit)}</b> <span class="quantity">of ${formatQuantity(limit, unit)}</span></div>`
}

function controlPhrase({ control }: RunRecord): Content {
  if (control === undefined) return markup`<span class="muted">not run</span>`
  const lost = control.checks.filter(({ ok }) => !ok)
  return markup`${controlBadge(control.outcome)}<div class="promise">${lost[0]?.detail ?? lost[0]?.name}</div>`
}

export const dateOf = ({ startedAt }: RunRecord): string => {
  const date = new Date(startedAt)
  return `${date.toISOString().slice(0, 10)} ${date.toISOString().slice(11, 16)} UTC`
}
