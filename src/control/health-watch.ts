/**
 * `HealthWatch`: looks at the counters again and again, so that what has happened lately can be told from what happened
 * long ago, and announces when the health has changed. It remembers a day, one look a minute.
 */
import type { JsonObject } from '../qmp/message.js'
import type { Counter, Statistics } from '../remap/statistics.js'
import { healthOf, type Health } from './health.js'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS
/** A score that differs less from that of an hour ago is the same. */
const STEADY = 5
/** So much the score has to change within its status to be news. */
const NEWS = 10

export const TRENDS = ['better', 'steady', 'worse'] as const
export type Trend = (typeof TRENDS)[number]

export interface WatchedHealth extends Health {
  readonly trend: Trend
  /** An hour ago, or at the first look. */
  readonly scoreBefore: number
  readonly failedBlocksPerDay: number
}

/** What can be known now, without waiting. */
export interface Present {
  readonly statistics: Statistics
  readonly lostBlocks: number
  readonly isStalled: boolean
}

const WATCHED = [
  'reads',
  'writes',
  'flushes',
  'trims',
  'writeZeroes',
  'failedRequests',
  'slowReads',
  'retriedReads',
  'weakBlocks',
  'failedBlocks',
] as const satisfies readonly Counter[]
type Counts = Readonly<Record<(typeof WATCHED)[number], number>>

interface Look {
  readonly atMs: number
  readonly counts: Counts
  readonly score: number
}

export class HealthWatch {
  readonly #emit: (event: 'HEALTH_CHANGED', data: JsonObject) => void
  readonly #looks: Look[] = []
  #announced: Health = { score: 100, status: 'ok', reasons: [], daysLeft: undefined }

  constructor(emit: (event: 'HEALTH_CHANGED', data: JsonObject) => void) {
    this.#emit = emit
  }

  /** How it is at `nowMs`, on a steady clock; remembered, and announced if it is news. */
  look(present: Present, nowMs: number): WatchedHealth {
    const health = this.#judge(present, nowMs)
    this.#remember({ atMs: nowMs, counts: countsOf(present.statistics), score: health.score })
    if (isNews(this.#announced, health)) this.#announce(health)
    return health
  }

  #judge({ statistics, lostBlocks, isStalled }: Present, nowMs: number): WatchedHealth {
    const counts = countsOf(statistics)
    const hour = since(this.#before(nowMs - HOUR_MS)?.counts, counts)
    const failedBlocksPerDay = this.#failedPerDay(counts, nowMs)
    const health = healthOf({
      requests: hour.reads + hour.writes + hour.flushes + hour.trims + hour.writeZeroes,
      failedRequests: hour.failedRequests,
      retries: hour.slowReads + hour.retriedReads,
      weakBlocks: hour.weakBlocks,
      failedBlocks: hour.failedBlocks,
      failedBlocksPerDay,
      freeBlocks: statistics.freeBlocks,
      spareBlocks: statistics.spareBlocks,
      lostBlocks,
      isStalled,
    })
    const scoreBefore = this.#before(nowMs - HOUR_MS)?.score ?? health.score
    return { ...health, trend: trendOf(scoreBefore, health.score), scoreBefore, failedBlocksPerDay }
  }

  /** A burst right after the start says little of a whole day: less than an hour counts as one. */
  #failedPerDay(counts: Counts, nowMs: number): number {
    const first = this.#before(nowMs - DAY_MS)
    const lastedMs = Math.max(HOUR_MS, nowMs - (first?.atMs ?? nowMs))
    return (since(first?.counts, counts).failedBlocks / lastedMs) * DAY_MS
  }

  /** The last look that is at least so old; else the first one. */
  #before(atMs: number): Look | undefined {
    return this.#looks.findLast((look) => look.atMs <= atMs) ?? this.#looks[0]
  }

  #remember(look: Look): void {
    const last = this.#looks.at(-1)
    if (last && look.atMs - last.atMs < MINUTE_MS) return
    this.#looks.push(look)
    while (this.#looks[1] && this.#looks[1].atMs <= look.atMs - DAY_MS) this.#looks.shift()
  }

  #announce(health: WatchedHealth): void {
    const { score: scoreBefore, status: statusBefore } = this.#announced
    this.#announced = health
    this.#emit('HEALTH_CHANGED', {
      score: health.score,
      status: health.status,
      'score-before': scoreBefore,
      'status-before': statusBefore,
      reasons: health.reasons.map(({ text }) => text),
    })
  }
}

const countsOf = (statistics: Statistics): Counts =>
  Object.fromEntries(WATCHED.map((name) => [name, statistics[name]])) as Counts

/** Counters that were reset begin anew. */
const since = (before: Counts | undefined, now: Counts): Counts =>
  Object.fromEntries(
    WATCHED.map((name) => [name, now[name] < (before?.[name] ?? 0) ? now[name] : now[name] - (before?.[name] ?? 0)]),
  ) as Counts

const trendOf = (before: number, now: number): Trend =>
  now <= before - STEADY ? 'worse' : now >= before + STEADY ? 'better' : 'steady'

const isNews = (before: Health, now: Health): boolean =>
  before.status !== now.status || Math.abs(before.score - now.score) >= NEWS
