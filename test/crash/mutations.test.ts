/**
 * Crash exploration is worth what it notices: with each of these mutations of the product it must fail, with the same
 * history on the product as it is it must not. What has to be done when the product or the histories have changed:
 * `node dist/test/crash/mutated.js NUMBER find` looks for another history.
 */
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { runOk } from '../support/tools.js'
import { historyOf, tryHistory } from './history.js'
import { MUTATIONS } from './mutations.js'

// On two free cores it takes less than a minute; on busy ones it may take some.
t.setTimeout(600_000)

const PROGRAM = fileURLToPath(new URL('mutated.js', import.meta.url))

for (const [number, { name, history }] of MUTATIONS.entries()) {
  void t.test(`noticed: ${name}`, async (t) => {
    t.equal(await tryHistory(historyOf(history)), undefined, 'nothing is wrong without the mutation')
    const output = await runOk(process.execPath, PROGRAM, String(number))
    t.match(output, /^noticed: /m)
  })
}
