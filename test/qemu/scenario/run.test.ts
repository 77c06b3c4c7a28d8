/** Runs of scenarios that need no virtual machine: what the record says, and that nothing is left when they are called off. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { readJson, type RunRecord } from '../../../qemu/report/index.js'
import { ScenarioFile } from '../../../qemu/scenario/document.js'
import { processesIn, runScenario } from '../../../qemu/scenario/run.js'
import { PROGRAM } from '../../support/bench.js'

// Each starts programs of its own, on a machine that may be busy.
t.setTimeout(240_000)

const STAGE = `
disks:
  main: { size: 32M, via: storage-daemon }
  spare: { size: 24M }
server: { main: main, spares: [spare] }
machines: {}
`
const BAD_BLOCKS = `title: Bad blocks are remapped
seed: 7
${STAGE}
steps:
  - name: blocks go bad
    fault: { on: main, clusters: 50, operations: [write] }
  - name: writing
    fio: { on: server, options: { rw: write, bs: 64k, size: 32M } }
  - name: writing to main
    only: control
    fio: { on: main, options: { rw: write, bs: 64k, size: 32M } }
  - event: REMAP_ADDED
    only: run
  - assert: { qmp: { execute: query-remap-table, expect: { remaps: 50 } } }
control:
  title: On the disk itself
  without: server
  expect: [{ check: writing to main, detail: Input/output error }]
`

const run = (text: string): Promise<RunRecord> => runScenario(ScenarioFile.parse(text, 'my.yaml'))
const checksOf = ({ checks }: RunRecord) => checks.map(({ name, ok }) => `${ok ? 'ok' : 'not ok'} ${name}`)

void t.test('a run and its control run make one record', async (t) => {
  const record = await run(BAD_BLOCKS)
  t.equal(record.outcome, 'passed', record.error ?? '')
  t.match(record, {
    name: 'my',
    title: 'Bad blocks are remapped',
    seed: '7',
    control: { outcome: 'failed', title: 'On the disk itself' },
  })
  t.same(checksOf(record), [
    'ok assert query-remap-table to server: remaps is 50',
    'ok nbd-remap verify finds the metadata whole',
    'ok no process is left',
    "ok control: fails 'writing to main'",
  ])
  t.ok(record.marks.some(({ kind, text }) => kind === 'fault' && text.startsWith('main: bad for write: 50 sectors: ')))
  t.equal(record.marks.filter(({ kind }) => kind === 'remap').length, 50)
  t.ok(record.marks.some(({ kind, text, durationMs = 0 }) => kind === 'step' && text === 'writing' && durationMs > 0))
  t.ok(record.series.some(({ lane }) => lane === 'throughput'))
  t.same(readJson(JSON.stringify({ version: 1, runs: [record] })).length, 1, 'it is a record as reports know them')
})

void t.test('a control run that does not fail as expected fails the scenario', async (t) => {
  const without = await run(
    BAD_BLOCKS.replace('clusters: 50', 'clusters: 50, times: 1')
      .replace('operations: [write]', 'operations: [read]')
      .replace(/ {2}- event[^]*remaps: 50 [^\n]*\n/, ''),
  )
  t.equal(without.outcome, 'failed')
  t.same(
    without.checks.filter(({ ok }) => !ok),
    [
      {
        name: "control: fails 'writing to main'",
        ok: false,
        detail: 'it does not fail there',
        atMs: without.durationMs,
      },
    ],
  )
})

void t.test('a step that fails is told with its place, the logs, and what is checked all the same', async (t) => {
  const record = await run(
    `title: x\n${STAGE}\nsteps:\n  - note: hello\n  - parallel:\n      - [{ assert: { qmp: { execute: query-status, expect: { pid: 0 } } } }]\n      - [{ event: NEVER }]\n  - note: never\n`,
  )
  t.equal(record.outcome, 'failed')
  t.match(
    record.error,
    /^my\.yaml:12:10: step 'assert': query-status to server: pid should be 0, and is \d+\nserver:\n.*formatted/s,
  )
  t.match(checksOf(record), [
    /^not ok assert query-status/,
    'ok nbd-remap verify finds the metadata whole',
    'ok no process is left',
  ])
  t.notOk(record.marks.some(({ text }) => text === 'never'))
})

void t.test('what cannot be started is told with command line and log, and the run is broken', async (t) => {
  const record = await run(
    `title: x\n${STAGE.replace('[spare]', '[spare], options: { bogus: 1 }')}\nsteps: [{ note: x }]\n`,
  )
  t.equal(record.outcome, 'broken')
  t.match(
    record.error,
    /nbd-remap exited with code 2 before it was ready\ncommand: .*serve .*--bogus 1\nlog: .*unknown option '--bogus'/s,
  )
})

void t.test('a run that takes too long is ended', async (t) => {
  const record = await run(
    `title: x\ntimeout: 3s\n${STAGE}\nsteps: [{ until: { qmp: { execute: query-status, expect: { pid: 0 } } } }]\n`,
  )
  t.equal(record.outcome, 'broken')
  t.match(record.error, /it took longer than its timeout of 3000 ms/)
})

void t.test(
  'steps of branches end when one fails, repetitions repeat, and what is in the background is joined',
  async (t) => {
    const text = `title: x
seed: 1
disks: { main: { size: 1M, via: storage-daemon } }
machines: {}
steps:
  - background: { name: back, steps: [{ repeat: { times: 3, steps: [{ note: again }, { moment: 5ms }] } }] }
  - repeat: { times: 2, steps: [{ fault: { on: main, random-sectors: 1 } }] }
  - join: back
  - note: after
`
    const record = await run(text)
    t.equal(record.outcome, 'passed', record.error ?? '')
    const notes = record.marks.flatMap(({ kind, text }) => (kind === 'note' ? [text] : []))
    t.same(notes, ['again', 'again', 'again', 'after'])
    const faults = (of: RunRecord) => of.marks.flatMap(({ kind, text }) => (kind === 'fault' ? [text] : []))
    t.equal(new Set(faults(record)).size, 2, 'each repetition draws anew')
    t.same(faults(await run(text)), faults(record), 'the same seed, the same faults')
    t.notSame(faults(await run(text.replace('seed: 1', 'seed: 2'))), faults(record), 'another seed, others')
  },
)

interface Cli {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
  readonly directory: string
}

/** @param interrupt fires when the signal is to be sent */
async function cli(t: Test, args: readonly string[], interrupt?: (directory: string) => boolean): Promise<Cli> {
  const directory = mkdtempSync(join(tmpdir(), 'nbd-scenario-'))
  t.teardown(() => {
    rmSync(directory, { recursive: true, force: true })
  })
  const env = { ...process.env, TMPDIR: directory }
  const child = spawn(process.execPath, [PROGRAM, 'scenario', ...args], { env, cwd: directory, detached: true })
  const output = { stdout: '', stderr: '' }
  child.stdout.on('data', (data: Buffer) => (output.stdout += data.toString()))
  child.stderr.on('data', (data: Buffer) => (output.stderr += data.toString()))
  const closed = once(child, 'close')
  if (interrupt !== undefined) {
    while (!interrupt(directory)) await new Promise((resolve) => setTimeout(resolve, 10))
    // As a terminal does it: to the whole foreground process group.
    process.kill(-child.pid!, 'SIGINT')
  }
  const [code] = (await closed) as [number | null]
  return { code, ...output, directory }
}

void t.test('Ctrl-C leaves nothing behind, whenever it comes', async (t) => {
  const endless = `title: x\n${STAGE}\nsteps: [{ repeat: { for: 10m, steps: [{ fio: { on: server, options: { rw: write, size: 4M } } }] } }]\ncontrol: { title: y, change: { server: { supervise: false } }, expect: [verify] }\n`
  const folder = mkdtempSync(join(tmpdir(), 'nbd-scenario-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  const file = join(folder, 'endless.yaml')
  writeFileSync(file, endless)
  const lab = (directory: string): string =>
    readdirSync(directory).find((name) => name.startsWith('nbd-remap-lab-')) ?? ''
  const has = (program: RegExp) => (directory: string) =>
    processesIn(directory).some((commandLine) => program.test(commandLine))
  const moments: readonly [string, (directory: string) => boolean][] = [
    ['when the directory was just made', (directory) => lab(directory) !== ''],
    ['while the storage daemon starts', has(/qemu-storage-daemon/)],
    ['while the server starts', has(/serve --supervise/)],
    ['while fio runs', has(/ioengine=nbd/)],
  ]
  for (const [when, moment] of moments) {
    const { code, stdout, stderr, directory } = await cli(t, ['run', file], moment)
    t.equal(code, 130, `${when}: ${stderr}`)
    t.match(stderr, /interrupted; nothing is left running\n$/, when)
    t.equal(stdout, '', when)
    t.same(readdirSync(directory), [], `${when}: no file is left`)
    t.same(processesIn(directory), [], `${when}: no process is left`)
  }
})

void t.test('the program reports in all forms, and says by its exit code how it went', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'nbd-scenario-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  const [good, bad, broken] = ['good.yaml', 'bad.yaml', 'broken.yaml'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]
  const scenario = (remaps: number): string =>
    `title: x\n${STAGE}\nsteps: [{ assert: { qmp: { execute: query-remap-table, expect: { remaps: ${remaps} } } } }]\n`
  writeFileSync(good, scenario(0))
  writeFileSync(bad, scenario(1))
  writeFileSync(broken, 'title: 5\nstpes: []\n')
  const { code, stdout, stderr, directory } = await cli(t, [
    'run',
    good,
    bad,
    '--seed',
    '3',
    '--tap',
    '--junit',
    'r.xml',
    '--json',
    'r.json',
    '--html',
    'r.html',
    '--keep',
  ])
  t.equal(code, 1, stderr)
  t.match(stdout, /^TAP version 14\n.*^ok 1 - good .*^not ok 2 - bad /ms)
  t.match(stderr, /^passed {2}good, .* --seed 3$.*^FAILED {2}bad, /ms)
  t.match(stderr, /bad\.yaml:\d+:\d+: step 'assert': query-remap-table to server: remaps should be 1, and is 0/)
  for (const report of ['r.xml', 'r.json', 'r.html']) t.ok(existsSync(join(directory, report)), report)
  const kept = readdirSync(directory).filter((name) => name.startsWith('nbd-remap-lab-'))
  t.equal(kept.length, 2, 'what --keep keeps')
  t.ok(existsSync(join(directory, kept[0]!, 'server.log')))

  const wrong = await cli(t, ['run', broken, 'nobody'])
  t.equal(wrong.code, 2)
  t.match(wrong.stderr, /broken\.yaml:1:8: title must be a text, not 5\n.*broken\.yaml:2:1: there is no 'stpes' here/s)
  t.match(wrong.stderr, /there is no scenario 'nobody': nbd-remap scenario list shows/)
  t.match((await cli(t, ['run', 'choas'])).stderr, /there is no scenario 'choas' \(did you mean chaos\?\)/)
  t.equal((await cli(t, ['check', broken])).code, 2)
  t.match(await cli(t, ['run', good, bad, '--set', 'remaps=1']), {
    code: 2,
    stderr: /no scenario has the parameter 'remaps'/,
  })
  t.match(await cli(t, ['check', good]), { code: 0, stdout: /good\.yaml: x\n/ })
  const list = await cli(t, ['list', '--json'])
  t.ok(
    (JSON.parse(list.stdout) as { scenarios: { name: string }[] }).scenarios.some(
      ({ name }) => name === 'bad-blocks-under-load',
    ),
  )
})
