/** That the benchmark runs and what it leaves: not how fast anything is. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { run } from '../support/tools.js'
import { JOBS } from './jobs.js'
import type { JobSummary } from './summary.js'

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url))
const SMALL = ['--jobs', '^4k-randread-qd32$', '--rounds', '1', '--size', '16']

async function temporaryDirectory(t: Test): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), 'nbd-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  return directory
}

void t.test('a run leaves JSON, a plot, and a table on standard output', async (t) => {
  const directory = await temporaryDirectory(t)
  const [json, plot] = [path.join(directory, 'bench.json'), path.join(directory, 'bench.svg')]
  const options = [...SMALL, '--seconds', '0.3', '--json', json, '--plot', plot]
  const { status, stdout, stderr } = await run(process.execPath, MAIN, ...options)
  t.equal(status, 0, stderr)
  t.match(stdout, /^job +server +requests\/s/)
  t.match(stdout, /^ +qemu-nbd +[\d,]+/m)
  t.match(stderr, /^\[1\/1\] 4 KiB random read, queue depth 32$/m)

  const result = JSON.parse(await readFile(json, 'utf8')) as { jobs: JobSummary[] }
  t.match(result, {
    command: /^npm run bench -- --jobs '\^4k-randread-qd32\$'/,
    date: /^\d{4}-\d\d-\d\dT/,
    tookSeconds: Number,
    rounds: 1,
    seconds: 0.3,
    machine: {
      cpu: String,
      cores: Number,
      versions: { 'nbd-remap': /\d/, node: /\d/, fio: /\d/, nbdkit: /\d/, 'qemu-nbd': /\d/ },
    },
    jobs: [
      { name: '4k-randread-qd32', kind: 'compare', unit: 'x', goal: 1.5, value: Number, notRun: null, failed: null },
    ],
  })
  t.equal(result.jobs.length, 1)
  const [job] = result.jobs
  t.same(
    job?.servers.map(({ server }) => server),
    ['nbd-remap', 'nbdkit', 'qemu-nbd'],
  )
  for (const { server, samples, ...ranges } of job?.servers ?? []) {
    t.equal(samples.length, 1, `${server} has one round`)
    t.equal(Object.keys(ranges).length, 5)
    for (const range of Object.values(ranges)) t.match(range, { median: Number, min: Number, max: Number })
    for (const { median } of Object.values(ranges)) t.ok(median > 0)
  }
  t.ok((job?.control?.p99Ms ?? 0) > 0, 'the control socket was asked meanwhile')
  const svg = await readFile(plot, 'utf8')
  t.match(svg, /^<svg [^]*Medians of 1 rounds[^]*4 KiB random read, queue depth 32[^]*<\/svg>\n$/)
})

void t.test('an interrupted run leaves no process and no file', async (t) => {
  const directory = await temporaryDirectory(t)
  const child = spawn(process.execPath, [MAIN, ...SMALL, '--seconds', '60'], {
    env: { ...process.env, TMPDIR: directory },
    stdio: 'ignore',
  })
  const exited = once(child, 'exit')
  await fioRuns(directory, child)
  child.kill('SIGINT')
  t.same(await exited, [130, null])
  t.same(await readdir(directory), [], 'its directories are gone')
  t.same(await processesWith(directory), [], 'its processes are gone')
})

void t.test('every job has a name and a title of its own', (t) => {
  const names = JOBS.map(({ name }) => name)
  t.equal(new Set(names).size, names.length)
  t.equal(new Set(JOBS.map(({ title }) => title)).size, names.length)
  t.end()
})

void t.test('a job that does not exist is refused with those that do', async (t) => {
  const { status, stderr } = await run(process.execPath, MAIN, '--jobs', 'nonsense')
  t.equal(status, 1)
  t.match(stderr, /no job matches; there are: 4k-randread-qd32, /)
})

/** Resolves when fio has been started, the last and least polite of the programs. */
async function fioRuns(directory: string, child: ChildProcess): Promise<void> {
  while (!(await processesWith(directory)).some((commandLine) => commandLine.includes('--ioengine=nbd'))) {
    if (child.exitCode !== null) throw new Error('the benchmark ended by itself')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** Command lines of all processes that mention `text`. A zombie has none. */
async function processesWith(text: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')))
  return lines.filter((line) => line.includes(text)).map((line) => line.replaceAll('\0', ' ').trim())
}
