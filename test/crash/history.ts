/** A history from a seed, and the shortest one that still fails. */
import { Random } from '../../src/util/random.js'
import { Explorer, type Count } from './explorer.js'
import { formatted } from './machine.js'
import { POOL_SHAPE, SHAPE } from './mutations.js'
import { describeStep, drawShape, drawSteps, FLAVOURS, type Shape, type Step } from './steps.js'

export { newCount } from './explorer.js'

export interface History {
  readonly seed: string
  readonly flavour: string
  readonly shape: Shape
  readonly steps: readonly Step[]
}

export function drawHistory(seed: string): History {
  const random = new Random(seed)
  const flavour = random.pick([...FLAVOURS, ...FLAVOURS.slice(0, 1)])
  const shape = drawShape(random)
  return { seed, flavour: flavour.name, shape, steps: drawSteps(random, shape, flavour) }
}

/** That of a mutation. */
export function historyOf(history: string | readonly Step[]): History {
  if (typeof history === 'string') return drawHistory(history)
  const needsPool = history.some((step) => step.do === 'drain' || step.do === 'join')
  const shape = needsPool ? POOL_SHAPE : SHAPE
  return { seed: 'mutation', flavour: 'step by step', shape, steps: history }
}

/** @returns what is wrong; `undefined`: nothing. With what was visited. */
export async function tryHistory({ seed, shape, steps }: History, count?: Count): Promise<Error | undefined> {
  const random = new Random(`${seed} states`)
  const explorer = new Explorer(random)
  try {
    await explorer.explore(shape, await formatted(shape, random), steps)
    return undefined
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error))
  } finally {
    if (count) for (const name of Object.keys(count) as (keyof typeof count)[]) count[name] += explorer.count[name]
  }
}

/** Leaves out steps, as many as possible, so that it still fails. @returns a report for people */
export async function shrink(history: History, failure: Error): Promise<string> {
  let shortest = history
  let found = failure
  for (let length = history.steps.length >> 1; length >= 1; length = length >> 1) {
    for (let from = 0; from + length <= shortest.steps.length;) {
      const steps = [...shortest.steps.slice(0, from), ...shortest.steps.slice(from + length)]
      const failed = await failureOf({ ...shortest, steps })
      if (failed) {
        shortest = failed.history
        found = failed.error
      } else from += length
    }
  }
  return report(history, shortest, found)
}

const SEEDS_TRIED = 3

/** Where the steps are others, so are the states that a seed draws: several are tried. */
async function failureOf(history: History): Promise<{ history: History; error: Error } | undefined> {
  for (let n = 0; n < SEEDS_TRIED; n++) {
    const candidate = { ...history, seed: n === 0 ? history.seed : `${history.seed}+` }
    const error = await tryHistory(candidate)
    if (error) return { history: candidate, error }
  }
  return undefined
}

function report(history: History, { shape, steps }: History, error: Error): string {
  return [
    `SEED=${history.seed} (${history.flavour}), ${steps.length} of ${history.steps.length} steps are enough:`,
    `  ${JSON.stringify(shape)}`,
    ...steps.map((step) => `  ${describeStep(step)}`),
    error.name === 'BrokenPromise' ? error.message : (error.stack ?? String(error)),
  ].join('\n')
}
