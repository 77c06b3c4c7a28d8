/** How long to wait before the next attempt to connect. */

export interface BackOff {
  readonly firstMs: number
  readonly maxMs: number
}

/** A server that is restarted is there again soon; one that is not is asked every few seconds. */
export const BACK_OFF: BackOff = { firstMs: 100, maxMs: 5000 }

/** @param attempt counts from 0 */
export const backOffMs = (attempt: number, { firstMs, maxMs }: BackOff = BACK_OFF): number =>
  Math.min(maxMs, firstMs * 2 ** Math.min(attempt, 30))
