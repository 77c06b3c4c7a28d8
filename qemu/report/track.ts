/** `Track`: one line of a timeline while it is being recorded, in bounded memory however long that takes. */
import type { Point, Series } from './record.js'
import { thin } from './thin.js'

/** Beyond this the line is thinned to half of it: at ten points a second, after a quarter of an hour. */
export const TRACK_POINTS_MAX = 9000

export class Track {
  readonly #head: Omit<Series, 'points'>
  #points: Point[] = []

  constructor(head: Omit<Series, 'points'>) {
    this.#head = head
  }

  /** @param value what is not finite is not known */
  add(atMs: number, value: number): void {
    this.#keep([Math.round(atMs), Number.isFinite(value) ? Number(value.toPrecision(5)) : null])
  }

  /** Nothing is known from here on, until the next point. */
  gap(atMs: number): void {
    if (this.#points.length > 0 && this.#points.at(-1)?.[1] !== null) this.#keep([Math.round(atMs), null])
  }

  get series(): Series {
    return { ...this.#head, points: this.#points }
  }

  #keep(point: Point): void {
    this.#points.push(point)
    if (this.#points.length > TRACK_POINTS_MAX) this.#points = [...thin(this.#points, TRACK_POINTS_MAX / 2)]
  }
}

/** The lines, without those of which nothing was seen. */
export const seriesOf = (tracks: Readonly<Record<string, Track>>): Series[] =>
  Object.values(tracks)
    .map((track) => track.series)
    .filter(({ points }) => points.length > 0)
