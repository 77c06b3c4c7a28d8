/**
 * The timeline of a run as SVG, legible as it is. What has no text stands in one group in units of milliseconds, so that
 * zooming is a transformation of that group; the script (browser/timeline.ts) makes it, and puts labels and ticks in place.
 */
import { formatMs, formatNumber, formatQuantity } from '../quantity.js'
import type { RunRecord, Series } from '../record.js'
import { gapsOf, markLanes, outagesOf, seriesLanes, spanOf, stepsOf, type MarkLane, type SeriesLane } from './lanes.js'
import { markup, type Content, type Markup } from './markup.js'
import { niceTicks } from './scale.js'

/** In pixels. The script has the same numbers from the attributes of the drawing. */
export const WIDTH = 1080
/** Around a drawing that stands alone. */
const MARGIN = 14
const LEFT = 132
const RIGHT = 116
const STEPS_HEIGHT = 24
const SERIES_HEIGHT = 84
const MARKS_HEIGHT = 22
const GAP = 16
const AXIS_HEIGHT = 26
/** Of the type that labels are set in, wide enough for most words. */
const CHARACTER_WIDTH = 6.8
const LABEL_PAD = 7
/** Of a text that is cut; less says nothing. */
const CUT_MIN = 9
const LINE_HEIGHT = 13
const AXIS_TICKS = 10
/** Marks of one lane that have a label, if they have room for it. */
const LABELS_MAX = 200
/** More ticks than this are drawn so that their density can be seen. */
const SPARSE_MAX = 60
/** Lines of more points are thin. */
const FINE_MIN = 1500

interface Row {
  readonly top: number
  readonly bottom: number
}

interface Plan {
  readonly spanMs: number
  readonly steps: Row | undefined
  readonly series: readonly (SeriesLane & Row)[]
  readonly marks: readonly (MarkLane & Row)[]
  readonly axisTop: number
  readonly height: number
}

/**
 * @param id unique on the page
 * @param head of a drawing that is a document of its own: what it has to bring along
 */
export function drawTimeline(run: RunRecord, beside: readonly RunRecord[], id: string, head?: Markup): Markup {
  const plan = planOf(run, beside)
  const { spanMs, height, axisTop } = plan
  const scaled = `translate(${LEFT} 0) scale(${(WIDTH - LEFT - RIGHT) / spanMs} 1)`
  const namespace = head && markup` xmlns="http://www.w3.org/2000/svg"`
  return markup`<svg class="timeline"${namespace} viewBox="${head === undefined ? `0 0 ${WIDTH} ${height}` : `${-MARGIN} ${-MARGIN} ${WIDTH + 2 * MARGIN} ${height + 2 * MARGIN}`}" role="img" aria-label="${summary(run, plan)}"
 data-span="${spanMs}" data-left="${LEFT}" data-right="${RIGHT}" data-axis="${axisTop}" data-character="${CHARACTER_WIDTH}" data-cut="${CUT_MIN}" data-pad="${LABEL_PAD}">
${head}<defs><clipPath id="${id}-plot"><rect class="plot" x="${LEFT}" y="0" width="${WIDTH - LEFT - RIGHT}" height="${height}"/></clipPath></defs>
<g class="ticks">${timeTicks(plan)}</g>
${plan.series.map(seriesGutter)}${plan.marks.map(marksGutter)}
<g clip-path="url(#${id}-plot)"><g class="scaled" transform="${scaled}">
${stepBands(run, plan)}${plan.series.map((lane) => seriesBody(lane, spanMs))}${outages(run, plan)}${plan.marks.map((lane) => rug(lane, plan))}
</g></g>
<g clip-path="url(#${id}-plot)" class="labels">${stepLabels(run, plan)}${plan.marks.map((lane) => markLabels(lane, spanMs))}</g>
<g class="cursor" visibility="hidden"><path d="M0 0V${axisTop}"/><rect y="${axisTop + 1}" width="76" x="-38" height="19" rx="3"/><text y="${axisTop + 15}" text-anchor="middle"></text></g>
</svg>`
}

function planOf(run: RunRecord, beside: readonly RunRecord[]): Plan {
  let top = 4
  const row = (height: number, gap: number): Row => {
    const placed = { top, bottom: top + height }
    top += height + gap
    return placed
  }
  const steps = stepsOf(run).length > 0 ? row(STEPS_HEIGHT, GAP) : undefined
  const series = seriesLanes(run, beside).map((lane) => ({ ...lane, ...row(SERIES_HEIGHT, GAP) }))
  const marks = markLanes(run).map((lane) => ({ ...lane, ...row(MARKS_HEIGHT, 2) }))
  const axisTop = top + 4
  return { spanMs: spanOf(run), steps, series, marks, axisTop, height: axisTop + AXIS_HEIGHT }
}

function summary(run: RunRecord, { series, marks, spanMs }: Plan): string {
  const lanes = [...series.map(({ name }) => name), ...marks.map(({ name, total }) => `${total} ${name.toLowerCase()}`)]
  return `Timeline of ${run.name} over ${formatQuantity(spanMs / 1000, 's')}: ${lanes.join(', ') || 'nothing was recorded'}`
}

const placeX = (ms: number, spanMs: number): number => LEFT + (ms / spanMs) * (WIDTH - LEFT - RIGHT)
const round = (value: number): number => Math.round(value * 10) / 10

function timeTicks({ spanMs, axisTop, steps }: Plan): Content[] {
  const ticks = niceTicks(spanMs / 1000, AXIS_TICKS).filter((seconds) => seconds * 1000 <= spanMs)
  return ticks.map((seconds) => {
    const x = round(placeX(seconds * 1000, spanMs))
    return markup`<path d="M${x} ${steps?.bottom ?? 0}V${axisTop}"/><text x="${x}" y="${axisTop + 15}" text-anchor="middle">${seconds} s</text>`
  })
}

function stepBands(run: RunRecord, { steps }: Plan): Content[] {
  if (steps === undefined) return []
  return stepsOf(run).map(
    ({ fromMs, toMs }, n) =>
      markup`<rect class="step n${n % 2}" x="${round(fromMs)}" y="${steps.top}" width="${round(Math.max(toMs - fromMs, 0))}" height="${STEPS_HEIGHT}"/>`,
  )
}

function stepLabels(run: RunRecord, { steps, spanMs }: Plan): Content[] {
  if (steps === undefined) return []
  return stepsOf(run).map(({ text, fromMs, toMs }) =>
    label({ className: 'step', text, fromMs, toMs, y: steps.top + 16, spanMs }),
  )
}

interface Label {
  readonly className: string
  readonly text: string
  readonly fromMs: number
  /** Where its room ends. */
  readonly toMs: number
  readonly y: number
  readonly spanMs: number
}

/** Text that is cut to the room it has. */
function label({ className, text, fromMs, toMs, y, spanMs }: Label): Markup {
  const x = placeX(fromMs, spanMs)
  const room = placeX(toMs, spanMs) - x - 2 * LABEL_PAD
  return markup`<text class="${className}" x="${round(x + LABEL_PAD)}" y="${y}" data-from="${round(fromMs)}" data-to="${round(toMs)}" data-text="${text}">${fit(text, room)}</text>`
}

export function fit(text: string, room: number): string {
  const characters = Math.floor(room / CHARACTER_WIDTH)
  if (text.length <= characters) return text
  return characters < CUT_MIN ? '' : `${text.slice(0, characters - 1).trimEnd()}…`
}

function seriesGutter({ name, unit, axis, series, top, bottom }: SeriesLane & Row): Markup {
  const y = (value: number): number => round(bottom - axis.place(value) * (bottom - top))
  const ticks = axis.ticks.map(
    (tick) =>
      markup`<text class="tick" x="${LEFT - 8}" y="${y(tick) + 4}" text-anchor="end">${formatNumber(tick)}</text>`,
  )
  const note = axis.logarithmic ? `${unit}, log scale` : unit
  return markup`<text class="lane" x="0" y="${top + 12}">${fit(name, LEFT - 40)}</text><text class="unit" x="0" y="${top + 27}">${note}</text>${ticks}${endLabels(series, y, bottom)}`
}

/** The names of the lines, where they end; kept apart from each other, and in their lane as long as there is room. */
function endLabels(series: readonly Series[], y: (value: number) => number, bottom: number): Content[] {
  const ends = series.map((one, n) => ({ one, n, y: y(one.points.findLast(([, value]) => value !== null)?.[1] ?? 0) }))
  ends.sort((a, b) => a.y - b.y)
  const lowest = bottom + 4
  let free = -Infinity
  const placed = ends.map((end, n) => {
    const most = lowest - (ends.length - 1 - n) * LINE_HEIGHT
    const at = Math.max(Math.min(end.y + 4, most), free)
    free = at + LINE_HEIGHT
    return { ...end, at }
  })
  return placed.map(
    ({ one, n, at }) =>
      markup`<text class="end ${lineClass(one, n)}" x="${WIDTH - RIGHT + 8}" y="${round(at)}">${fit(one.name, RIGHT - 8)}</text>`,
  )
}

/** Colour by what is measured: rates, times, and all else. */
export const lineClass = ({ unit }: Series, n: number): string =>
  `${unit.endsWith('/s') ? 'rate' : /^(ns|[uµ]s|ms|s)$/.test(unit) ? 'time' : 'count'} n${n % 3}`

function seriesBody(lane: SeriesLane & Row, spanMs: number): Markup {
  const { axis, series, top, bottom } = lane
  const y = (value: number): number => round(bottom - axis.place(value) * (bottom - top))
  const grid = axis.ticks.map((tick) => `M0 ${y(tick)}H${spanMs}`).join('')
  // A rate that is not known is an outage of who tells it; a latency that is not known may be a lack of requests.
  const outages = lane.unit.endsWith('/s') ? distinct(series.flatMap(gapsOf)) : []
  const gaps = outages.map(
    ({ fromMs, toMs }) =>
      markup`<rect class="gap" x="${round(fromMs)}" y="${top}" width="${round(toMs - fromMs)}" height="${bottom - top}"/>`,
  )
  const areas =
    series.length > 1
      ? []
      : series.map((one, n) => markup`<path class="area ${lineClass(one, n)}" d="${areaPath(one, y, bottom)}"/>`)
  const lines = series.map(
    (one, n) =>
      markup`<path class="line ${lineClass(one, n)}${one.points.length > FINE_MIN ? ' fine' : ''}" d="${linePath(one, y)}"/>`,
  )
  return markup`<path class="grid" d="${grid}"/>${gaps}${areas}${lines}`
}

/** Lines of one server have the same gaps. */
const distinct = <T extends { readonly fromMs: number }>(gaps: readonly T[]): T[] => [
  ...new Map(gaps.map((gap) => [gap.fromMs, gap])).values(),
]

/** The stretches between gaps. */
function stretches({ points }: Series): (readonly [number, number])[][] {
  const found: [number, number][][] = [[]]
  for (const [atMs, value] of points) {
    if (value === null) found.push([])
    else found.at(-1)?.push([atMs, value])
  }
  return found.filter((stretch) => stretch.length > 0)
}

const corners = (stretch: readonly (readonly [number, number])[], y: (value: number) => number): string =>
  stretch.map(([atMs, value]) => `${Math.round(atMs)} ${y(value)}`).join('L')

/** A stretch of one point is drawn as a line of no length, which round caps make a dot. */
const linePath = (series: Series, y: (value: number) => number): string =>
  stretches(series)
    .map((stretch) => `M${corners(stretch, y)}${stretch.length === 1 ? 'h0' : ''}`)
    .join('')

const areaPath = (series: Series, y: (value: number) => number, bottom: number): string =>
  stretches(series)
    .map((stretch) => `M${Math.round(stretch[0]?.[0] ?? 0)} ${bottom}L${corners(stretch, y)}V${bottom}Z`)
    .join('')

/** Shades the series while the server was away, and lets every kill cut through all lanes. */
function outages(run: RunRecord, { series, marks, axisTop, steps }: Plan): Content[] {
  const top = steps?.bottom ?? 0
  const last = series.at(-1)
  const shades =
    last === undefined
      ? []
      : outagesOf(run).map(
          ({ fromMs, toMs }) =>
            markup`<rect class="outage" x="${round(fromMs)}" y="${top}" width="${round(toMs - fromMs)}" height="${last.bottom - top}"/>`,
        )
  const kills = marks.find(({ kind }) => kind === 'kill')?.marks ?? []
  return [
    shades,
    markup`<path class="kill" d="${kills.map(({ atMs }) => `M${round(atMs)} ${top}V${axisTop}`).join('')}"/>`,
  ]
}

function marksGutter({ name, total, top, kind }: MarkLane & Row): Markup {
  return markup`<text class="lane" x="0" y="${top + 15}">${name}</text><text class="count ${kind}" x="${LEFT - 8}" y="${top + 15}" text-anchor="end">${formatNumber(total)}</text>`
}

function rug({ kind, marks, top, bottom }: MarkLane & Row, { spanMs }: Plan): Content[] {
  const ticks = (failed: boolean): string =>
    marks
      .filter((mark) => (mark.failed ?? false) === failed)
      .map(({ atMs }) => `M${round(atMs)} ${top + 3}V${bottom - 3}`)
      .join('')
  const bars = marks.map(({ atMs, durationMs = 0 }) =>
    durationMs > 0
      ? markup`<rect class="bar ${kind}" x="${round(atMs)}" y="${top + 3}" width="${round(durationMs)}" height="${bottom - top - 6}"/>`
      : undefined,
  )
  const dense = marks.length > SPARSE_MAX ? ' dense' : ''
  return [
    markup`<path class="row" d="M0 ${bottom}H${spanMs}"/>`,
    bars,
    markup`<path class="rug ${kind}${dense}" d="${ticks(false)}"/>`,
    markup`<path class="rug failed" d="${ticks(true)}"/>`,
  ]
}

/** Beside each tick, as far as the next one leaves room; where there are many, pointing at them tells. */
function markLabels({ kind, marks, top }: MarkLane & Row, spanMs: number): Content[] {
  if (marks.length > LABELS_MAX) return []
  return marks.map(({ atMs, durationMs = 0, text, failed = false }, n) => {
    const fromMs = atMs + durationMs
    const toMs = marks[n + 1]?.atMs ?? spanMs
    const told = durationMs > 0 ? `${text}, ${formatMs(durationMs)}` : text
    return label({
      className: failed ? 'failed' : kind,
      text: told,
      fromMs,
      toMs: Math.max(fromMs, toMs),
      y: top + 15,
      spanMs,
    })
  })
}
