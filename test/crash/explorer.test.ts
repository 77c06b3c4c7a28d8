/**
 * Every moment at which the power may be cut, in histories from a seed. CRASH_STATES says how many states to visit (20,000),
 * CRASH_SECONDS instead how long to go on; SEED repeats a run, or one history of it when it is what a failure printed.
 */
import t from 'tap'
import { Random } from '../../src/util/random.js'
import { drawHistory, newCount, shrink, tryHistory } from './history.js'

// On two free cores it takes less than a minute; on busy ones it may take some.
t.setTimeout(Number(process.env['CRASH_SECONDS'] ?? 0) * 1000 + 600_000)

const STATES = Number(process.env['CRASH_STATES'] ?? 20_000)
const SECONDS = Number(process.env['CRASH_SECONDS'] ?? 0)

void t.test('whatever survives a power cut is opened, and is right', async (t) => {
  const given = process.env['SEED'] ?? new Random().seed
  t.comment(`SEED=${given}`)
  const count = newCount()
  const end = Date.now() + SECONDS * 1000
  const isOne = given.includes('/')
  for (let n = 0; isOne ? n === 0 : SECONDS > 0 ? Date.now() < end : count.states < STATES; n++) {
    const history = drawHistory(isOne ? given : `${given}/${n}`)
    const failure = await tryHistory(history, count)
    if (failure) {
      for (const line of (await shrink(history, failure)).split('\n')) t.comment(line)
      t.fail(`SEED=${history.seed}`)
      return
    }
    if (SECONDS > 0 && n % 1000 === 999) t.comment(JSON.stringify(count))
  }
  t.comment(`crash states visited: ${count.states} (${JSON.stringify(count)})`)
  if (isOne) return
  const { refused, ...visited } = count
  for (const [name, number] of Object.entries(visited)) t.ok(number > 0, `${number} ${name}`)
  t.ok(refused < count.states / 100, 'hardly anything is refused')
})
