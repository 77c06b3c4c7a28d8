/**
 * The built-in scenarios: all of them are well-formed and have a control run, and some are run for real. The others are run by
 * `npm run scenarios`.
 */
import t from 'tap'
import { builtInScenarios, findScenario } from '../../qemu/scenario/built-in.js'
import { runScenario } from '../../qemu/scenario/run.js'

// A boot under emulation takes seconds, and on a busy machine many.
t.setTimeout(600_000)

/** Quick ones, of which each has something that the others have not: a take-over, a replica, a paused machine. */
const PLAYED = ['standby-takes-over', 'read-errors-with-replica', 'spare-exhausted']
/** What goes by the clock is for a machine that does nothing else. */
const BY_THE_CLOCK = new Set(['longest pause'])

void t.test('there is a scenario for each disaster, and each has a control run', (t) => {
  const scenarios = builtInScenarios()
  t.same(scenarios.map(({ name }) => name).sort(), [
    'bad-blocks-under-load',
    'chaos',
    'failing-spare',
    'hard-read-errors',
    'header-copies-destroyed',
    'latency-storm',
    'main-gone',
    'memory-pressure',
    'mirror-to-healthy-disk',
    'power-cut',
    'read-errors-with-replica',
    'server-hung',
    'server-killed',
    'spare-exhausted',
    'standby-takes-over',
    'upstream-lost',
    'weak-reads',
  ])
  for (const { name, scenario } of scenarios) t.ok(scenario.control, name)
  t.end()
})

for (const name of PLAYED) {
  void t.test(`scenario ${name}`, async (t) => {
    const { checks, control, error } = await runScenario(findScenario(name))
    t.equal(error, undefined)
    for (const { name, ok, detail } of checks) if (!BY_THE_CLOCK.has(name)) t.ok(ok, name, { detail })
    t.not(control?.outcome, 'passed', 'it fails without the part that is shown')
  })
}
