/** What happened in a run and when, on one clock that only goes forward. */
import type { Check, Mark, MarkKind, Measurement, Series } from '../report/record.js'

export class Timeline {
  readonly startedAt = new Date()
  readonly marks: Mark[] = []
  readonly checks: Check[] = []
  readonly measurements: Measurement[] = []
  readonly series: Series[] = []
  readonly #startMs = performance.now()
  readonly #onMark: ((mark: Mark) => void) | undefined

  constructor(onMark?: (mark: Mark) => void) {
    this.#onMark = onMark
  }

  /** Milliseconds since the beginning. */
  now(): number {
    return Math.round(performance.now() - this.#startMs)
  }

  mark(kind: MarkKind, text: string, atMs = this.now()): void {
    this.#keep({ atMs, kind, text })
  }

  /** Marks what lasts from its call until `work` is done. */
  async during<T>(kind: MarkKind, text: string, work: () => Promise<T>): Promise<T> {
    const atMs = this.now()
    this.#onMark?.({ atMs, kind, text })
    try {
      return await work()
    } finally {
      this.marks.push({ atMs, kind, text, durationMs: this.now() - atMs })
    }
  }

  check(name: string, ok: boolean, detail?: string): void {
    const atMs = this.now()
    this.checks.push({ name, ok, ...(detail === undefined ? {} : { detail }), atMs })
    this.#keep({ atMs, kind: 'check', text: `${ok ? 'ok' : 'NOT ok'}: ${name}` })
  }

  #keep(mark: Mark): void {
    this.marks.push(mark)
    this.#onMark?.(mark)
  }
}
