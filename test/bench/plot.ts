/**
 * The ratios as a bar chart in SVG. The background is transparent and every colour is one that can be read on white and on
 * almost black: GitHub shows the same file in both themes, and a picture does not learn which one it is.
 */
import type { JobSummary } from './summary.js'
import { formatGoal, formatValue, formatVerdict } from './table.js'

const LABEL_WIDTH = 330
const PLOT_WIDTH = 360
const VERDICT_WIDTH = 205
const WIDTH = LABEL_WIDTH + PLOT_WIDTH + VERDICT_WIDTH
const ROW_HEIGHT = 28
const BAR_HEIGHT = 14
const TOP = 76
const BOTTOM = 30

const TEXT = '#717a85'
const GRID = '#8b949e'
const MET = '#3b82c4'
const MISSED = '#d2691e'

/** Only jobs with a ratio have a bar; of those that could not run the words stand in its place. */
export function plotRatios(all: readonly JobSummary[], subtitles: readonly string[]): string {
  const jobs = all.filter(({ unit }) => unit === 'x')
  const shown = jobs.flatMap(({ goal, range }) => [goal, range?.max ?? 0])
  const max = Math.max(2, Math.ceil(Math.max(...shown) * 2) / 2)
  const x = (ratio: number): number => round(LABEL_WIDTH + (ratio / max) * PLOT_WIDTH)
  const height = TOP + jobs.length * ROW_HEIGHT + BOTTOM
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escape(TITLE)}"`,
    `  font-family="system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif" font-size="13" fill="${TEXT}">`,
    `<text x="8" y="18" font-size="15" font-weight="600">${escape(TITLE)}</text>`,
    ...subtitles.map((text, n) => `<text x="8" y="${37 + n * 17}" font-size="12">${escape(text)}</text>`),
    ...axis(max, x, height),
    ...jobs.flatMap((job, row) => bar(job, TOP + row * ROW_HEIGHT, x)),
    '</svg>',
    '',
  ].join('\n')
}

const TITLE = 'Requests per second of nbd-remap, as a multiple of the best of its peers'

function axis(max: number, x: (ratio: number) => number, height: number): string[] {
  const ticks = Array.from({ length: Math.floor(max * 2) + 1 }, (_, n) => n / 2)
  const bottom = height - BOTTOM
  return ticks.flatMap((ratio) => [
    `<line x1="${x(ratio)}" x2="${x(ratio)}" y1="${TOP - 4}" y2="${bottom}" stroke="${GRID}" stroke-opacity="${ratio === 1 ? 0.9 : 0.25}"/>`,
    `<text x="${x(ratio)}" y="${bottom + 18}" font-size="12" text-anchor="middle">${ratio}</text>`,
  ])
}

/** The bar is the ratio of medians, the thin line its range over the rounds, the thick upright line the goal. */
function bar(job: JobSummary, top: number, x: (ratio: number) => number): string[] {
  const middle = top + ROW_HEIGHT / 2
  const label = `<text x="8" y="${middle + 4.5}">${escape(job.title)}</text>`
  const verdict = `${formatValue(job)} (goal ${formatGoal(job)}): ${formatVerdict(job)}`
  const goal = `<line x1="${x(job.goal)}" x2="${x(job.goal)}" y1="${top + 3}" y2="${top + ROW_HEIGHT - 3}" stroke="${TEXT}" stroke-width="3"/>`
  if (job.value === null || job.range === null) {
    const reason = `<text x="${x(0) + 6}" y="${middle + 4.5}" font-style="italic">${formatVerdict(job)}</text>`
    return [label, reason, goal]
  }
  const barTop = middle - BAR_HEIGHT / 2
  return [
    label,
    `<rect x="${x(0)}" y="${barTop}" width="${round(x(job.value) - x(0))}" height="${BAR_HEIGHT}" rx="2" fill-opacity="0.65" fill="${job.met ? MET : MISSED}"/>`,
    `<line x1="${x(job.range.min)}" x2="${x(job.range.max)}" y1="${middle}" y2="${middle}" stroke="${TEXT}" stroke-width="1.5"/>`,
    goal,
    `<text x="${WIDTH - VERDICT_WIDTH + 10}" y="${middle + 4.5}">${escape(verdict)}</text>`,
  ]
}

/** A curve over the number of remaps, with the goals as short lines. Both axes are logarithmic. */
export interface Curve {
  readonly title: string
  readonly unit: string
  readonly points: readonly { readonly remaps: number; readonly value: number; readonly goal: number }[]
}

const CURVE_WIDTH = 440
const CURVE_HEIGHT = 300
const CURVE_LEFT = 60
const CURVE_TOP = 50
const CURVE_BOTTOM = 40

export function plotCurves(curves: readonly Curve[], subtitle: string): string {
  const width = CURVE_WIDTH * curves.length
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${CURVE_HEIGHT + 20}" role="img" aria-label="${escape(curves.map(({ title }) => title).join('; '))}"`,
    `  font-family="system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif" font-size="13" fill="${TEXT}">`,
    ...curves.flatMap((curve, n) => [`<g transform="translate(${n * CURVE_WIDTH} 0)">`, ...drawCurve(curve), '</g>']),
    `<text x="8" y="${CURVE_HEIGHT + 14}" font-size="11">${escape(subtitle)}</text>`,
    '</svg>',
    '',
  ].join('\n')
}

function drawCurve({ title, unit, points }: Curve): string[] {
  const values = points.flatMap(({ value, goal }) => [value, goal])
  const [least, most] = [
    10 ** Math.floor(Math.log10(Math.min(...values))),
    10 ** Math.ceil(Math.log10(Math.max(...values))),
  ]
  const [first, last] = [10, 10 ** 7]
  const share = (value: number, from: number, to: number): number => Math.log10(value / from) / Math.log10(to / from)
  const x = (remaps: number): number => round(CURVE_LEFT + share(remaps, first, last) * (CURVE_WIDTH - CURVE_LEFT - 30))
  const y = (value: number): number =>
    round(CURVE_HEIGHT - CURVE_BOTTOM - share(value, least, most) * (CURVE_HEIGHT - CURVE_TOP - CURVE_BOTTOM))
  const powers = (from: number, to: number): number[] =>
    Array.from({ length: Math.round(Math.log10(to / from)) + 1 }, (_, n) => from * 10 ** n)
  return [
    `<text x="8" y="20" font-weight="600">${escape(title)}, ${unit}</text>`,
    ...powers(least, most).flatMap((value) => [
      `<line x1="${CURVE_LEFT}" x2="${CURVE_WIDTH - 30}" y1="${y(value)}" y2="${y(value)}" stroke="${GRID}" stroke-opacity="0.3"/>`,
      `<text x="${CURVE_LEFT - 6}" y="${y(value) + 4}" text-anchor="end">${Number(value.toPrecision(1))}</text>`,
    ]),
    ...powers(first, last).map(
      (remaps) =>
        `<text x="${x(remaps)}" y="${CURVE_HEIGHT - CURVE_BOTTOM + 18}" font-size="11" text-anchor="middle">${remaps.toLocaleString('en-US')}</text>`,
    ),
    `<polyline fill="none" stroke="${MET}" stroke-width="2" points="${points.map((point) => `${x(point.remaps)},${y(point.value)}`).join(' ')}"/>`,
    ...points.flatMap(({ remaps, value, goal }) => [
      `<circle cx="${x(remaps)}" cy="${y(value)}" r="4" fill="${value <= goal ? MET : MISSED}"/>`,
      `<line x1="${x(remaps) - 9}" x2="${x(remaps) + 9}" y1="${y(goal)}" y2="${y(goal)}" stroke="${TEXT}" stroke-width="3"/>`,
    ]),
  ]
}

const round = (value: number): number => Number(value.toFixed(1))
const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
