import t from 'tap'
import { drawDelay } from '../../src/faults/delay.js'
import type { FaultRule } from '../../src/faults/vocabulary.js'
import { Random } from '../../src/util/random.js'

/** Ascending. */
function draw(rule: FaultRule, count = 4000): number[] {
  const random = new Random('delay')
  return Array.from({ length: count }, () => drawDelay(rule, random)).sort((a, b) => a - b)
}

const at = (values: readonly number[], percent: number): number =>
  values[Math.floor((values.length * percent) / 100)] ?? NaN

const near = (value: number, wanted: number): boolean => Math.abs(value - wanted) < wanted * 0.15

void t.test('each distribution has the shape that its name says', (t) => {
  t.same(new Set(draw({ 'delay-ms': 7 })), new Set([7]))
  const uniform = draw({ distribution: 'uniform', 'delay-ms': 10, 'delay-max-ms': 30 })
  t.ok(at(uniform, 0) >= 10 && at(uniform, 99.9) <= 30 && near(at(uniform, 50), 20))
  const exponential = draw({ distribution: 'exponential', 'delay-ms': 10 })
  t.ok(near(at(exponential, 50), 10 * Math.log(2)))
  const pareto = draw({ distribution: 'pareto', 'delay-ms': 2, shape: 2, 'delay-max-ms': 50 })
  t.ok(at(pareto, 0) >= 2 && near(at(pareto, 75), 4) && pareto.at(-1) === 50, 'half of twice the least has a quarter')
  const steps = draw({
    distribution: 'percentiles',
    percentiles: [
      { percent: 50, ms: 1 },
      { percent: 99, ms: 20 },
      { percent: 100, ms: 500 },
    ],
  })
  t.ok(near(at(steps, 50), 1) && near(at(steps, 25), 0.5) && (steps.at(-1) ?? 0) > 20 && (steps.at(-1) ?? 0) <= 500)
  t.end()
})
