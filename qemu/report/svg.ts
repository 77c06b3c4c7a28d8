/** The timeline of a run alone, as a picture for documents. It is light or dark as its reader has it. */
import { Markup, markup } from './html/markup.js'
import { PICTURE_STYLE } from './html/style.js'
import { drawTimeline } from './html/timeline.js'
import type { RunRecord } from './record.js'
import { thin } from './thin.js'

/** Enough for a picture that nobody zooms into. */
const POINTS_MAX = 400

export function writeSvg(run: RunRecord): string {
  const series = run.series.map((one) => ({ ...one, points: thin(one.points, POINTS_MAX) }))
  const head = markup`<style>${new Markup(PICTURE_STYLE)}
.timeline{font-family:system-ui,sans-serif}</style><rect class="paper" x="-10%" y="-10%" width="120%" height="120%"/>`
  return `${drawTimeline({ ...run, series }, [], 'timeline', head).toString()}\n`
}
