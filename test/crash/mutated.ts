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

const { drawHistory, historyOf, newCount, tryHistory } = await import('./history.js')

async function attempt(candidate: string | readonly Step[]): Promise<{ outcome: string; states: number }> {
  const count = newCount()
  const failure = await tryHistory(historyOf(candidate), count)
  return { outcome: failure ? `noticed: ${failure.message.split('\n')[0]}` : 'survived', states: count.states }
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
