/**
 * Explores the product with a mutation:
 *
 *   mutated.js NUMBER        tries the history that goes with the mutation of this number
 *   mutated.js NUMBER find   looks for a short history that notices it, and prints its seed
 *
 * The last line says `survived`, or `noticed` and what was wrong; the exit status is 0 either way.
 */
import { register } from 'node:module'
import { MUTATIONS } from './mutations.js'
import type { Step } from './steps.js'

const [number, task] = process.argv.slice(2)
const mutation = MUTATIONS[Number(number)]
if (!mutation) throw new RangeError(`there is no mutation ${number ?? ''}`)
register('./mutating-loader.js', import.meta.url, { data: mutation })

// A request that nobody waits for may fail: that is no way to notice a mutation.
process.on('unhandledRejection', () => undefined)

/** A history that takes longer is not worth keeping. */
const STATES_MAX = 150
const DRAWS = 8

const { drawHistory, historyOf, newCount, tryHistory } = await import('./history.js')

/** Which states are looked at is drawn: several draws for each history, until it is noticed. */
async function attempt(candidate: string | readonly Step[]): Promise<{ outcome: string; states: number }> {
  const count = newCount()
  const history = historyOf(candidate)
  for (let draw = 0; draw < DRAWS; draw++) {
    const failure = await tryHistory({ ...history, seed: `${history.seed} ${draw}` }, count)
    // Anything else would be a mutation that does not even run.
    if (failure && failure.name !== 'BrokenPromise') throw failure
    if (failure) return { outcome: `noticed: ${failure.message.split('\n')[0]}`, states: count.states }
  }
  return { outcome: 'survived', states: count.states }
}

if (task === 'find') {
  const needsFaults = mutation.name.includes('missed an update')
  for (let n = 0; n < 1000; n++) {
    if (needsFaults && drawHistory(`mutation/${n}`).flavour !== 'bad metadata blocks') continue
    const { outcome, states } = await attempt(`mutation/${n}`)
    if (outcome === 'survived' || states > STATES_MAX) continue
    console.log(`mutation/${n} after ${states} states: ${outcome}`)
    break
  }
} else {
  const { outcome, states } = await attempt(mutation.history)
  console.log(`${states} states`)
  console.log(outcome)
}
