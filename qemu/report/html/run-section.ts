/** One run on the page: what was promised, what was found, with nbd-remap and without, and how it went. */
import { formatMoment, formatMs, formatQuantity } from '../quantity.js'
import { isWithinLimit, type Check, type Measurement, type Outcome, type RunRecord } from '../record.js'
import { allMarks, MARKS_SHOWN_MAX, seriesLanes } from './lanes.js'
import { Markup, markup, type Content } from './markup.js'
import { drawTimeline, lineClass } from './timeline.js'

const SIGNS: Readonly<Record<Outcome, string>> = { passed: '✓', failed: '✗', broken: '!' }

/** Characters of a finding that are shown at once. */
const DETAIL_MAX = 140

export const outcomeBadge = (outcome: Outcome): Markup => badge(outcome, outcome)

/** A control run that failed shows what it should, and one that passed is the one to worry about. */
export const controlBadge = (outcome: Outcome): Markup => badge(outcome, outcome === 'failed' ? 'expected' : 'failed')

const badge = (outcome: Outcome, className: string): Markup =>
  markup`<span class="badge ${className}"><span aria-hidden="true">${SIGNS[outcome]}</span> ${outcome}</span>`

/** @param level of its heading */
export function runSection(run: RunRecord, number: number, level: 1 | 2): Markup {
  const id = `run-${number}`
  const heading = new Markup(`h${level}`)
  const { control } = run
  return markup`<article class="run" id="${id}" aria-labelledby="${id}-title">
<header><p class="meta">${outcomeBadge(run.outcome)} <span class="name">${run.name}</span> · ${when(run)} · ${formatMs(run.durationMs)} · seed <code>${run.seed}</code></p>
<${heading} id="${id}-title">${run.title}</${heading}></header>
${errorBox(run)}
${checksTable(run)}
${measurementList(run)}
${timelineFigure(run, control === undefined ? [] : [control], id, control === undefined ? 'What happened' : 'With nbd-remap')}
${control === undefined ? undefined : timelineFigure(control, [run], `${id}-control`, 'The same without nbd-remap')}
${markList(run, 'Everything that happened, in order')}
${control === undefined ? undefined : markList(control, 'Everything that happened without nbd-remap')}
</article>`
}

function when({ startedAt }: RunRecord): Markup {
  const iso = new Date(startedAt).toISOString()
  return markup`<time datetime="${iso}">${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC</time>`
}

function errorBox({ error, outcome }: RunRecord): Content {
  if (error === undefined) return undefined
  return markup`<div class="error"><p>${outcome === 'broken' ? 'The run broke down:' : 'It failed:'}</p><pre>${error}</pre></div>`
}

/** The same check in both runs is one row. */
function checksTable(run: RunRecord): Content {
  const { checks, control } = run
  const others = control?.checks.filter(({ name }) => !checks.some((check) => check.name === name)) ?? []
  if (checks.length + others.length === 0 && control === undefined) return undefined
  const head = control === undefined ? 'Found' : markup`With nbd-remap ${outcomeBadge(run.outcome)}`
  const row = (name: string, check: Check | undefined): Markup => {
    const without = control?.checks.find((one) => one.name === name)
    return markup`<tr><th scope="row">${name}</th>${checkCell(check)}${control === undefined ? undefined : checkCell(without, true)}</tr>\n`
  }
  return markup`<table class="checks"><thead><tr><th scope="col">What should hold</th><th scope="col">${head}</th>${controlHead(control)}</tr></thead>
<tbody>${checks.map((check) => row(check.name, check))}${others.map(({ name }) => row(name, undefined))}</tbody>${controlError(control)}</table>`
}

const controlHead = (control: RunRecord | undefined): Content =>
  control && markup`<th scope="col">Without ${controlBadge(control.outcome)}</th>`

const controlError = (control: RunRecord | undefined): Content =>
  control?.error === undefined
    ? undefined
    : markup`<tfoot><tr><th scope="row">Without nbd-remap it ended with</th><td></td><td>${control.error}</td></tr></tfoot>`

function checkCell(check: Check | undefined, expected = false): Markup {
  if (check === undefined) return markup`<td class="muted"><span role="img" aria-label="not checked">–</span></td>`
  const { ok, detail } = check
  const className = ok ? 'holds' : expected ? 'lost expected' : 'lost'
  const says = ok ? 'holds' : 'does not hold'
  return markup`<td class="${className}"><span class="sign" role="img" aria-label="${says}">${ok ? '✓' : '✗'}</span>${folded(detail ?? says)}</td>`
}

/** What is long shows its first line, and the rest when asked. */
function folded(detail: string): Markup {
  const [first = '', ...rest] = detail.trim().split('\n')
  if (rest.length === 0 && first.length <= DETAIL_MAX) return markup`<span>${first}</span>`
  const head = first.length <= DETAIL_MAX ? first : `${first.slice(0, DETAIL_MAX)}…`
  return markup`<details><summary>${head}</summary><pre>${detail}</pre></details>`
}

function measurementList({ measurements, control }: RunRecord): Content {
  if (measurements.length === 0) return undefined
  return markup`<dl class="measurements">${measurements.map((one) => {
    const without = control?.measurements.find(({ name }) => name === one.name)
    const besides =
      without === undefined
        ? undefined
        : markup`<span class="without">without: ${formatQuantity(without.value, without.unit)}</span>`
    return markup`<div class="${isWithinLimit(one) ? 'kept' : 'exceeded'}"><dt>${one.name}</dt><dd><b>${formatQuantity(one.value, one.unit)}</b>${bullet(one)}${besides}</dd></div>\n`
  })}</dl>`
}

/** The value as a bar, and the limit as a line across it. */
function bullet({ value, unit, limit }: Measurement): Content {
  if (limit === undefined) return undefined
  const whole = Math.max(value || 0, limit, Number.MIN_VALUE) * 1.08
  const percent = (part: number): number => Math.round((Math.max(part || 0, 0) / whole) * 1000) / 10
  return markup`<svg class="bullet" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect class="room" width="${percent(limit)}" height="10"/><rect class="value" y="2" width="${percent(value)}" height="6"/><path d="M${percent(limit)} 0V10"/></svg><span class="limit">at most ${formatQuantity(limit, unit)}</span>`
}

function timelineFigure(run: RunRecord, beside: readonly RunRecord[], id: string, caption: string): Content {
  if (run.series.length + run.marks.length + run.checks.length === 0) return undefined
  return markup`<figure class="run-timeline"><figcaption><span class="caption">${caption}</span>
<span class="tools" hidden=""><span class="hint">Drag to zoom; arrow keys go from mark to mark</span><button type="button" data-action="out" aria-label="Zoom out">−</button><button type="button" data-action="in" aria-label="Zoom in">+</button><button type="button" data-action="all">Whole run</button></span></figcaption>
<div class="scroll">${drawTimeline(run, beside, id)}</div>
<script type="application/json">${timelineData(run)}</script></figure>`
}

/** JSON in which nothing can end the element that it stands in. */
function timelineData(run: RunRecord): Markup {
  const series = seriesLanes(run).flatMap(({ series }) =>
    series.map((one, n) => ({
      name: one.lane === one.name ? one.name : `${one.lane}: ${one.name}`,
      unit: one.unit,
      className: lineClass(one, n),
      points: one.points.map(([at, value]) => [Math.round(at), value === null ? null : Number(value.toPrecision(4))]),
    })),
  )
  const marks = allMarks(run).slice(0, MARKS_SHOWN_MAX)
  const told = marks.map(({ atMs, durationMs = 0, kind, text, failed = false }) => ({
    at: atMs,
    lasts: durationMs,
    kind,
    text,
    failed,
  }))
  return new Markup(JSON.stringify({ series, marks: told }).replaceAll('<', '\\u003c'))
}

function markList(run: RunRecord, title: string): Content {
  const marks = allMarks(run)
  if (marks.length === 0) return undefined
  const left = marks.length - MARKS_SHOWN_MAX
  return markup`<details><summary>${title} <span class="muted">(${marks.length})</span></summary><table class="marks"><thead><tr><th scope="col" class="number">At</th><th scope="col">What</th><th scope="col"></th></tr></thead><tbody>
${marks.slice(0, MARKS_SHOWN_MAX).map(({ atMs, kind, text, durationMs, failed = false }) => markup`<tr class="${kind}${failed ? ' failed' : ''}"><td class="number">${formatMoment(atMs)}</td><td>${failed ? `${kind} failed` : kind}</td><td>${text}${durationMs === undefined ? undefined : ` (${formatMs(durationMs)})`}</td></tr>\n`)}
</tbody></table>${left > 0 ? markup`<p class="muted">and ${left} more</p>` : undefined}</details>`
}
