/** How long a rule keeps a request waiting. Pure: the same draws give the same delays. */
import type { Random } from '../util/random.js'
import { DELAY_MAX_MS } from './parse.js'
import type { FaultRule } from './vocabulary.js'

const SHAPE_DEFAULT = 1.5

/** Milliseconds, to a thousandth. */
export function drawDelay(rule: FaultRule, random: Random): number {
  const ms = Math.min(draw(rule, random), rule['delay-max-ms'] ?? DELAY_MAX_MS)
  return Math.round(ms * 1000) / 1000
}

function draw(rule: FaultRule, random: Random): number {
  const { distribution = 'fixed', 'delay-ms': ms = 0, 'delay-max-ms': most = ms } = rule
  switch (distribution) {
    case 'fixed':
      return ms
    case 'uniform':
      return ms + random.next() * (most - ms)
    case 'exponential':
      return -ms * Math.log(1 - random.next())
    case 'pareto':
      return ms / (1 - random.next()) ** (1 / (rule.shape ?? SHAPE_DEFAULT))
    case 'percentiles':
      return percentile(rule.percentiles ?? [], random.next() * 100)
  }
}

/** On straight lines from 0 through the steps; nothing is longer than the last. */
function percentile(steps: readonly { readonly percent: number; readonly ms: number }[], percent: number): number {
  let last = { percent: 0, ms: 0 }
  for (const step of steps) {
    if (percent <= step.percent) {
      const share = step.percent === last.percent ? 1 : (percent - last.percent) / (step.percent - last.percent)
      return last.ms + share * (step.ms - last.ms)
    }
    last = step
  }
  return last.ms
}
