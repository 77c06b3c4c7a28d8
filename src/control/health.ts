/**
 * The health of a pair as a score from 0 to 100, and why: 100 less the points of each factor (docs/HEALTH.md). Pure: what
 * has happened is given. A factor has its points to itself, so that the reasons add up to what is missing.
 */

/** What counts is the last hour, or the time since the start if that is shorter. */
export interface HealthReadings {
  readonly requests: number
  readonly failedRequests: number
  /** Blocks that were read late, or only when tried again. */
  readonly retries: number
  readonly weakBlocks: number
  /** Blocks that moved because a disk failed them, weak ones among them. */
  readonly failedBlocks: number
  /** The same for a whole day, at the present rate. */
  readonly failedBlocksPerDay: number
  /** Of the spares, as they are now. */
  readonly freeBlocks: number
  readonly spareBlocks: number
  readonly lostBlocks: number
  /** The thread that serves NBD does not answer. */
  readonly isStalled: boolean
}

export const HEALTH_FACTORS = [
  'stalled',
  'failed-requests',
  'retries',
  'weak-blocks',
  'remap-growth',
  'lost-blocks',
  'spare-used',
  'exhaustion',
] as const
export type HealthFactor = (typeof HEALTH_FACTORS)[number]

export interface HealthReason {
  readonly factor: HealthFactor
  readonly points: number
  /** For people. */
  readonly text: string
}

export const HEALTH_STATUSES = ['ok', 'warning', 'critical'] as const
export type HealthStatus = (typeof HEALTH_STATUSES)[number]

export interface Health {
  readonly score: number
  readonly status: HealthStatus
  /** The heaviest first. */
  readonly reasons: readonly HealthReason[]
  /** Until no spare block is left, at the present rate; undefined: nothing fails. */
  readonly daysLeft: number | undefined
}

export const WARNING_BELOW = 80
export const CRITICAL_BELOW = 50

export function healthOf(readings: HealthReadings): Health {
  const daysLeft = readings.failedBlocksPerDay > 0 ? readings.freeBlocks / readings.failedBlocksPerDay : undefined
  const reasons = HEALTH_FACTORS.map((factor) => ({ factor, ...FACTORS[factor](readings, daysLeft) }))
    .map((reason) => ({ ...reason, points: Math.round(reason.points) }))
    .filter(({ points }) => points > 0)
    .sort((a, b) => b.points - a.points)
  const score = Math.max(
    0,
    reasons.reduce((left, { points }) => left - points, 100),
  )
  return { score, status: statusOf(score), reasons, daysLeft }
}

const statusOf = (score: number): HealthStatus =>
  score < CRITICAL_BELOW ? 'critical' : score < WARNING_BELOW ? 'warning' : 'ok'

interface Judgement {
  readonly points: number
  readonly text: string
}

type Factor = (readings: HealthReadings, daysLeft: number | undefined) => Judgement

const STALLED_POINTS = 51
const LOST_POINTS = 15
const EXHAUSTED_POINTS = 51
/** Of all factors, the share of requests that clients saw fail is what they notice most. */
const FAILED_SHARE_POINTS = 1000
/** A spare of which half is free is as good as new. */
const FREE_SHARE_ENOUGH = 0.5
const DAYS_ENOUGH = 30

const FACTORS: Readonly<Record<HealthFactor, Factor>> = {
  stalled: ({ isStalled }) => ({ points: isStalled ? STALLED_POINTS : 0, text: 'a disk hangs' }),
  'failed-requests': ({ failedRequests, requests }) => ({
    points: failedRequests === 0 ? 0 : within(5, 30, (failedRequests / requests) * FAILED_SHARE_POINTS),
    text: `failed requests: ${failedRequests} of ${requests}`,
  }),
  retries: ({ retries }) => ({
    points: within(0, 10, retries),
    text: `late or retried reads: ${retries}`,
  }),
  'weak-blocks': ({ weakBlocks }) => ({
    points: within(0, 10, weakBlocks),
    text: `weak blocks: ${weakBlocks}`,
  }),
  'remap-growth': ({ failedBlocks }) => ({
    points: within(0, 20, failedBlocks),
    text: `failed blocks: ${failedBlocks}`,
  }),
  'lost-blocks': ({ lostBlocks }) => ({
    points: lostBlocks > 0 ? LOST_POINTS : 0,
    text: `blocks with lost content: ${lostBlocks}`,
  }),
  'spare-used': spareUsed,
  exhaustion: (_, daysLeft) => ({
    points: daysLeft === undefined ? 0 : within(0, 20, 20 * (1 - Math.log(daysLeft) / Math.log(DAYS_ENOUGH))),
    text: `no spare block will be left in ${formatDays(daysLeft ?? Infinity)}, if it goes on like that`,
  }),
}

function spareUsed({ freeBlocks, spareBlocks }: HealthReadings): Judgement {
  if (freeBlocks === 0) return { points: EXHAUSTED_POINTS, text: 'no spare block is left' }
  const share = freeBlocks / spareBlocks
  const points = within(0, 30, 30 * (1 - share / FREE_SHARE_ENOUGH))
  return { points, text: `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} % of the spare blocks are free` }
}

const within = (least: number, most: number, value: number): number => Math.min(most, Math.max(least, value))

const formatDays = (days: number): string =>
  days >= 2
    ? `${Math.round(days)} days`
    : days * 24 >= 2
      ? `${Math.round(days * 24)} hours`
      : `${Math.round(days * 1440)} minutes`
