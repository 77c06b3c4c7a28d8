/** A line with fewer points that looks the same. Pure. */
import type { Point } from './record.js'

/** At most about so many of the points: the least and the greatest of each stretch. Peaks, troughs and gaps stay. */
export function thin(points: readonly Point[], pointsMax: number): readonly Point[] {
  if (points.length <= pointsMax) return points
  const size = Math.ceil((points.length * 2) / pointsMax)
  const kept: Point[] = []
  for (let start = 0; start < points.length; start += size) kept.push(...extremes(points.slice(start, start + size)))
  return kept
}

/** In the order of their times. A gap is kept at its place, since what is left out between two points would be drawn over. */
function extremes(points: readonly Point[]): Point[] {
  const known = points.filter(([, value]) => value !== null)
  const gap = points.find(([, value]) => value === null)
  const by = (better: (a: number, b: number) => boolean): Point[] =>
    known.length === 0 ? [] : [known.reduce((a, b) => (better(b[1] ?? 0, a[1] ?? 0) ? b : a))]
  const chosen = new Set([...by((a, b) => a < b), ...by((a, b) => a > b), ...(gap === undefined ? [] : [gap])])
  return points.filter((point) => chosen.has(point))
}
