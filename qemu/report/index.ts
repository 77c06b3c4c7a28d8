/** Reports of runs: what a run leaves behind, and the forms in which it can be read. */
export { writeHtml, type HtmlOptions } from './html/page.js'
export { readJson, RecordFormatError, RUNS_VERSION, writeJson, type RunsDocument } from './json.js'
export { writeJunit } from './junit.js'
export {
  isWithinLimit,
  MARK_KINDS,
  outcomeOf,
  type Check,
  type Mark,
  type MarkKind,
  type Measurement,
  type Outcome,
  type Point,
  type RunRecord,
  type Series,
} from './record.js'
export type { SamplerOptions } from './sampler.js'
export { ServerSampler } from './server-sampler.js'
export { writeSvg } from './svg.js'
export { writeTap } from './tap.js'
export { Track, TRACK_POINTS_MAX } from './track.js'
