/**
 * The promises P1, P2 and P3 against a model, see `Episode`. Run one seed again with SEED=...; a failure is made as short as
 * possible and prints what runs it alone: SEED=... EPISODE=... STEPS=.... `MODEL_SECONDS` goes on for so long.
 */
import t from 'tap'
import { DeviceError } from '../../src/device/device.js'
import type { RemapTarget } from '../../src/remap/target.js'
import { Random } from '../../src/util/random.js'
import { MiB } from '../../src/util/units.js'
import { Episode, shrink, StepError, type EpisodeOptions } from '../support/model-episode.js'
import { seededRandom } from '../support/random.js'

const REQUESTS = 50_000
const STEPS = 700
const SHRINK_RUNS_MAX = 400
const pool = new Random('pool').bytes(2 * MiB)
const allSteps = Array.from({ length: STEPS }, (_, n) => n)

const seconds = Number(process.env['MODEL_SECONDS'] ?? 0)
// Shrinking takes as long as the run again.
t.setTimeout((seconds + 300) * 1000)

const optionsOf = (seed: string, n: number): EpisodeOptions => ({ seed: `${seed}/${n}`, pool, fillsUp: n % 3 === 0 })

async function failureOf(options: EpisodeOptions, steps: readonly number[]): Promise<StepError | undefined> {
  try {
    await new Episode(options).run(steps)
    return undefined
  } catch (error) {
    if (error instanceof StepError) return error
    throw error
  }
}

/** The steps that are needed for a failure that happened in `failure.step`. */
const shorten = (options: EpisodeOptions, steps: readonly number[], failure: StepError): Promise<readonly number[]> =>
  shrink(
    steps.slice(0, steps.indexOf(failure.step) + 1 || steps.length),
    async (fewer) => (await failureOf(options, fewer).catch(() => undefined)) !== undefined,
    SHRINK_RUNS_MAX,
  )

void t.test('promises P1, P2 and P3 hold against a model', async (t) => {
  const { seed } = seededRandom(t)
  const only = process.env['EPISODE']
  const steps = process.env['STEPS']?.split(',').map(Number) ?? allSteps
  const total: Record<string, number> = {}
  const endMs = performance.now() + seconds * 1000
  for (let n = Number(only ?? 0); (total['requests'] ?? 0) < REQUESTS || performance.now() < endMs; n++) {
    const options = optionsOf(seed, n)
    const episode = new Episode(options)
    try {
      await episode.run(steps)
    } catch (error) {
      if (!(error instanceof StepError)) throw error
      const few = await shorten(options, steps, error)
      t.fail(`SEED=${seed} EPISODE=${n} STEPS=${few.join(',')}: ${error.message} (in step ${error.step} of the whole)`)
      return
    }
    for (const [name, value] of Object.entries(episode.count)) total[name] = (total[name] ?? 0) + value
    if (only !== undefined) break
  }
  t.comment(JSON.stringify(total))
  if (only !== undefined) return
  for (const name of ['faults', 'administered', 'remaps', 'lost', 'reopens', 'cuts'])
    t.ok(total[name], `${name} happened`)
})

/** Zeros reach a remapped block only in part. */
function plantBug(target: RemapTarget): void {
  const writeZeroes = target.writeZeroes.bind(target)
  target.writeZeroes = async (offset, length, options) => {
    const isRemapped = target.table.lookup(Math.floor(offset / target.pool.blockSize) as never) !== undefined
    await writeZeroes(offset, isRemapped && length > 1 ? length - 1 : length, options)
  }
}

void t.test('a planted bug is found, and its case made short', async (t) => {
  const { seed } = seededRandom(t)
  let failure: StepError | undefined
  let n = 0
  for (; failure === undefined; n++) failure = await failureOf({ ...optionsOf(seed, n), sabotage: plantBug }, allSteps)
  const options = { ...optionsOf(seed, n - 1), sabotage: plantBug }
  t.notOk(failure instanceof DeviceError)
  const steps = await shorten(options, allSteps, failure)
  t.comment(`episode ${n - 1}, steps ${steps.join(', ')}: ${failure.message}`)
  t.ok(steps.length <= 12, `${steps.length} of ${STEPS} steps`)
  t.ok(await failureOf(options, steps), 'they fail by themselves')
  t.equal(await failureOf({ ...options, sabotage: undefined }, steps), undefined, 'and only with the bug')
})

void t.test('shrinking leaves what is needed, and nothing else', async (t) => {
  const needs =
    (...needed: number[]) =>
    (steps: readonly number[]) =>
      Promise.resolve(needed.every((step) => steps.includes(step)))
  t.same(await shrink(allSteps, needs(3, 400, 699), 1000), [3, 400, 699])
  t.same(await shrink(allSteps, needs(), 1000), [])
})
