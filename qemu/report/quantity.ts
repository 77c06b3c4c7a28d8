/** Numbers, quantities and times as reports print them. */

const DIGITS = 3

/** Three digits that count, and no more zeros than needed: `0.0123`, `4.57`, `1,230`, `24,600`. */
export function formatNumber(value: number): string {
  if (Number.isNaN(value)) return 'unknown'
  if (!Number.isFinite(value)) return value > 0 ? 'unlimited' : String(value)
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en-US')
  return String(Number(value.toPrecision(DIGITS)))
}

export function formatQuantity(value: number, unit: string): string {
  const number = formatNumber(value)
  return unit === '' || Number.isNaN(value) ? number : `${number} ${unit}`
}

/** How long something took: `240 ms`, `12.3 s`, `2 min 05 s`. */
export function formatMs(ms: number): string {
  if (ms < 1000) return `${formatNumber(ms)} ms`
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`
  const seconds = Math.round(ms / 1000)
  return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, '0')} s`
}

/** When something happened, to the millisecond: `12.340 s`. */
export const formatMoment = (ms: number): string => `${(ms / 1000).toFixed(3)} s`
