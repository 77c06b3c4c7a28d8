/**
 * Damaged metadata, at random from a seed. CORRUPTION_CASES says how many cases to try (5,000), CRASH_SECONDS instead how long
 * to go on; SEED repeats a run.
 */
import t from 'tap'
import { Random } from '../../src/util/random.js'
import { drawShelf, tryCorruption } from './corruption.js'

// On two free cores it takes less than a minute; on busy ones it may take some.
t.setTimeout(Number(process.env['CRASH_SECONDS'] ?? 0) * 1000 + 600_000)

const CASES = Number(process.env['CORRUPTION_CASES'] ?? 5_000)
const SECONDS = Number(process.env['CRASH_SECONDS'] ?? 0)
/** Cases tried on one pair. */
const PER_SHELF = 50

void t.test('whatever is damaged, a pair is opened with everything right, or refused and says why', async (t) => {
  const given = process.env['SEED'] ?? new Random().seed
  t.comment(`SEED=${given}`)
  const count = { cases: 0, opened: 0, refused: 0, 'beyond notice': 0 }
  const end = Date.now() + SECONDS * 1000
  for (let n = 0; SECONDS > 0 ? Date.now() < end : count.cases < CASES; n++) {
    const random = new Random(given.includes('/') ? given : `${given}/${n}`)
    try {
      const shelf = await drawShelf(random)
      for (let trial = 0; trial < PER_SHELF; trial++) {
        count.cases++
        count[await tryCorruption(shelf, random)]++
      }
    } catch (error) {
      t.comment(`SEED=${random.seed}`)
      for (const line of String((error as Error).stack).split('\n')) t.comment(line)
      t.fail(`SEED=${random.seed}`)
      return
    }
    if (given.includes('/')) break
  }
  t.comment(`corruption cases visited: ${count.cases} (${JSON.stringify(count)})`)
  t.ok(count.opened > 0, `${count.opened} opened`)
  t.ok(count.refused > 0, `${count.refused} refused`)
})
