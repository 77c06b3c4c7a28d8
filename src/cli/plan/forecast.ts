/** How many bad blocks there will be when. Pure arithmetic; times are days. */

export const DAYS = { hour: 1 / 24, day: 1, week: 7, month: 30.4375, year: 365.25 } as const

export interface Expectation {
  /** Bad blocks that there are already, or will be at once. */
  readonly atOnce: number
  /** Further ones, at the beginning. */
  readonly perDay: number
  /** By which share that rate grows in a month: 0.1 is ten percent. */
  readonly growthPerMonth: number
}

export function badBlocksAfter({ atOnce, perDay, growthPerMonth }: Expectation, days: number): number {
  if (growthPerMonth === 0) return atOnce + perDay * days
  const growthPerDay = Math.log(1 + growthPerMonth) / DAYS.month
  return atOnce + (perDay * Math.expm1(growthPerDay * days)) / growthPerDay
}

/** After how many days there are so many; 0: at once, `Infinity`: never. */
export function daysUntil({ atOnce, perDay, growthPerMonth }: Expectation, blocks: number): number {
  const left = blocks - atOnce
  if (left <= 0) return 0
  if (perDay === 0) return Infinity
  if (growthPerMonth === 0) return left / perDay
  const growthPerDay = Math.log(1 + growthPerMonth) / DAYS.month
  // A rate that falls adds up to an end.
  const argument = (left * growthPerDay) / perDay
  return argument <= -1 ? Infinity : Math.log1p(argument) / growthPerDay
}
