/** Scenarios whose virtual machine cannot start, dies, or hangs, and Ctrl-C while it boots. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { ScenarioFile } from '../../qemu/scenario/document.js'
import { processesIn, runScenario } from '../../qemu/scenario/run.js'
import { PROGRAM } from '../support/bench.js'

// A guest boots in each; on a busy machine that may take minutes.
t.setTimeout(600_000)

const scenario = (steps: string, machine = ''): string =>
  `title: x\ndisks: { main: { size: 16M } }\nmachines: { guest: { drives: [{ disk: main }]${machine} } }\nsteps:\n${steps}`
const run = (text: string) => runScenario(ScenarioFile.parse(text, 'my.yaml'))

void t.test('QEMU that cannot start is told with its command line and its words', async (t) => {
  const record = await run(scenario('  - guest: sync\n', ', args: [-bogus]'))
  t.equal(record.outcome, 'broken')
  t.match(
    record.error,
    /^qemu-system-x86_64 exited with code 1 .*\ncommand: qemu-system-x86_64 .* -bogus .*\nlog: .*-bogus: invalid option/s,
  )
})

void t.test('QEMU that dies is told with the step, its end, and its command line', async (t) => {
  const record = await run(
    scenario('  - parallel:\n      - [{ guest: { run: sleep 1000, within: 1h } }]\n      - [{ kill: guest }]\n'),
  )
  t.equal(record.outcome, 'failed')
  t.match(
    record.error,
    /^my\.yaml:6:10: step 'guest': the .*guest's agent .*\nguest:\nit was killed by SIGKILL\ncommand: qemu-system/s,
  )
  t.match(
    record.checks.filter(({ ok }) => !ok),
    [{ name: /sleep 1000/ }, { detail: /does not run/ }],
    'what could not be looked at is not all right',
  )
})

void t.test('QEMU that hangs ends the run by the time limit of the step', async (t) => {
  const record = await run(scenario('  - stop: guest\n  - guest: { run: sync, within: 1s }\n'))
  t.equal(record.outcome, 'failed')
  t.match(record.error, /^my\.yaml:6:5: step 'guest': the guest's command did not end within 1000 ms: sync/)
  t.ok(record.checks.some(({ detail = '' }) => detail.includes("the machine 'guest' was stopped by a step")))
  t.match(record.checks.at(-1), { name: 'no process is left', ok: true })
})

void t.test('in a machine that is paused nothing can be looked at, and that is told at once', async (t) => {
  const record = await run(scenario('  - qmp: { to: guest, execute: stop }\n  - guest: { run: sync, within: 1s }\n'))
  t.equal(record.outcome, 'failed')
  const paused = "the machine 'guest' is paused (paused)"
  t.same(
    record.checks.filter(({ detail }) => detail === paused).map(({ ok }) => ok),
    [false, false],
    'the log of the kernel, and the file systems',
  )
})

void t.test('Ctrl-C while the guest boots leaves nothing behind', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'nbd-scenario-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  const [file, temporary] = [join(folder, 'my.yaml'), mkdtempSync(join(folder, 'tmp-'))]
  writeFileSync(file, scenario('  - guest: sleep 1000\n'))
  const env = { ...process.env, TMPDIR: temporary }
  const child = spawn(process.execPath, [PROGRAM, 'scenario', 'run', file], { env, detached: true, stdio: 'ignore' })
  const closed = once(child, 'close')
  while (!processesIn(temporary).some((commandLine) => commandLine.includes('qemu-system')))
    await new Promise((resolve) => setTimeout(resolve, 10))
  process.kill(-child.pid!, 'SIGINT')
  t.same(await closed, [130, null])
  t.same(readdirSync(temporary), [])
  t.same(processesIn(temporary), [])
})
