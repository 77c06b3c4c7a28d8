/**
 * `LabWorkload`: a writer in the guest. It knows what the guest was told is on the disk, and when each write began and
 * ended by the host's clock.
 */
import type { Series } from '../report/record.js'
import type { Workload } from '../scenario/format-steps.js'
import { dataSize } from './guest-script.js'

export interface Write {
  readonly number: number
  readonly beginMs: number
  readonly endMs: number
  readonly ok: boolean
}

/** From its start to its end. */
interface Life {
  firstMs?: number
  endMs?: number
  /** When writes succeeded. */
  readonly good: number[]
}

const SECOND_MS = 1000

function longestGapOf({ firstMs, endMs, good }: Life, nowMs: number, afterMs: number): number {
  if (firstMs === undefined) return 0
  const moments = [firstMs, ...good, endMs ?? nowMs].map((at) => Math.max(at, afterMs))
  return Math.max(...moments.slice(1).map((at, n) => at - (moments[n] ?? at)))
}

export class LabWorkload {
  readonly settings: Workload
  readonly writes: Write[] = []
  /** SHA-256 by number, of the files that have to be there. */
  readonly files = new Map<number, string>()
  readonly #keep: number
  #begun: { number: number; atMs: number } | undefined
  #next = 0
  /** It may be started again after its guest was. */
  readonly #lives: Life[] = []
  /** Why it ended, if not because it was told to. */
  broken: string | undefined

  constructor(settings: Workload) {
    this.settings = settings
    this.#keep = settings.keep
  }

  get name(): string {
    return this.settings.name
  }

  /** Number of the next write that was never begun. */
  get nextNumber(): number {
    return this.#next
  }

  get running(): boolean {
    const life = this.#lives.at(-1)
    return life !== undefined && life.endMs === undefined
  }

  begin(): void {
    this.#begun = undefined
    this.broken = undefined
    this.#lives.push({ good: [] })
  }

  /** In the middle of a write. */
  get writing(): boolean {
    return this.#begun !== undefined
  }

  get failures(): number {
    return this.writes.filter(({ ok }) => !ok).length
  }

  /** A line of the report port, without the name. */
  receive([what, number = '', status, sum = '-']: readonly string[], atMs: number): void {
    const n = Number(number)
    if (what === 'b') {
      const life = this.#lives.at(-1)
      if (life !== undefined) life.firstMs ??= atMs
      this.#begun = { number: n, atMs }
      this.#next = n + 1
    } else if (what === 'd') this.files.delete(n)
    else if (what === 'e' && this.#begun?.number === n) this.#ended(n, this.#begun.atMs, atMs, status === '0', sum)
  }

  #ended(number: number, beginMs: number, endMs: number, ok: boolean, sum: string): void {
    this.#begun = undefined
    this.writes.push({ number, beginMs, endMs, ok })
    if (ok) this.#lives.at(-1)?.good.push(endMs)
    if (ok && this.settings.kind === 'files') this.files.set(number, sum)
  }

  ended(atMs: number, broken?: string): void {
    const life = this.#lives.at(-1)
    if (life !== undefined) life.endMs ??= atMs
    this.broken ??= broken
  }

  /**
   * What each block must say, by its place: the number of the last write that succeeded there. A later write that was begun may
   * have reached the disk, too.
   */
  blocks(): Map<number, { readonly number: number; readonly maybe: readonly number[] }> {
    const blocks = new Map<number, { number: number; maybe: number[] }>()
    for (const { number, ok } of this.writes) {
      const place = number % this.#keep
      if (ok) blocks.set(place, { number, maybe: [] })
      else blocks.get(place)?.maybe.push(number)
    }
    if (this.#begun !== undefined) blocks.get(this.#begun.number % this.#keep)?.maybe.push(this.#begun.number)
    return blocks
  }

  /**
   * Milliseconds: the longest time in which no write has succeeded, from the first write to the end, or to `nowMs`. That it was
   * ended and started again is no pause.
   * @param afterMs only what lasts beyond this moment counts, from there on
   */
  longestGap(nowMs: number, afterMs = 0): number {
    return Math.max(0, ...this.#lives.map((life) => longestGapOf(life, nowMs, afterMs)))
  }

  /** What an observation of a scenario looks at. */
  state(nowMs: number): object {
    const { length: attempts } = this.writes
    const { failures, running } = this
    return { attempts, writes: attempts - failures, failures, 'longest-gap': this.longestGap(nowMs), running }
  }

  /** Milliseconds, ascending, of the writes that began after `afterMs`. */
  latencies(afterMs = 0): number[] {
    return this.writes
      .filter(({ beginMs, ok }) => ok && beginMs >= afterMs)
      .map(({ beginMs, endMs }) => endMs - beginMs)
      .sort((a, b) => a - b)
  }

  /** MiB/s over its whole life, or from `afterMs` on. */
  throughput(nowMs: number, afterMs = 0): number {
    const since = Math.max(afterMs, this.writes[0]?.beginMs ?? 0)
    const count = this.writes.filter(({ ok, endMs }) => ok && endMs >= since).length
    const seconds = (this.#endOr(nowMs) - since) / SECOND_MS
    return seconds > 0 ? (count * dataSize(this.settings)) / (1024 * 1024) / seconds : 0
  }

  #endOr(nowMs: number): number {
    return this.#lives.at(-1)?.endMs ?? nowMs
  }

  /** Per second. */
  series(nowMs: number): Series[] {
    const [first] = this.writes
    if (first === undefined) return []
    const from = Math.floor(first.beginMs / SECOND_MS)
    const to = Math.floor(this.#endOr(nowMs) / SECOND_MS)
    const seconds = Array.from({ length: to - from + 1 }, (_, n) => from + n)
    const bySecond = new Map<number, Write[]>(seconds.map((second) => [second, []]))
    for (const write of this.writes) if (write.ok) bySecond.get(Math.floor(write.endMs / SECOND_MS))?.push(write)
    const good = (second: number): readonly Write[] => bySecond.get(second) ?? []
    const mib = dataSize(this.settings) / (1024 * 1024)
    const latency = (second: number): number | null => {
      const worst = Math.max(...good(second).map(({ beginMs, endMs }) => endMs - beginMs))
      return Number.isFinite(worst) ? worst : null
    }
    return [
      {
        lane: 'throughput',
        name: this.name,
        unit: 'MiB/s',
        points: seconds.map((second) => [second * SECOND_MS, Number((good(second).length * mib).toFixed(3))] as const),
      },
      {
        lane: 'latency',
        name: `${this.name}, longest`,
        unit: 'ms',
        points: seconds.map((second) => [second * SECOND_MS, latency(second)] as const),
      },
    ]
  }
}
