/** The demonstration, run as a user runs it: every claim holds, and nothing is left behind, also after Ctrl-C. */

import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { processesIn } from '../../qemu/scenario/run.js'
import type { DemoResult } from '../../qemu/demo/story.js'
import { PROGRAM } from '../support/bench.js'

// Three boots under emulation. On two free cores the whole file takes a minute, on busy ones it may take many.
t.setTimeout(600_000)

interface Run {
  readonly child: ChildProcess
  /** Where its temporary files go; their paths are in the command lines of all that it starts. */
  readonly directory: string
  readonly stdout: () => string
  readonly stderr: () => string
  readonly exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
}

async function demo(t: Test, ...args: string[]): Promise<Run> {
  const directory = await mkdtemp(join(tmpdir(), 'nbd-demo-'))
  const env = { ...process.env, TMPDIR: directory }
  const child = spawn(process.execPath, [PROGRAM, 'demo', ...args], { env, detached: true, stdio: 'pipe' })
  const output = { stdout: '', stderr: '' }
  child.stdout.on('data', (data: Buffer) => (output.stdout += data.toString()))
  child.stderr.on('data', (data: Buffer) => (output.stderr += data.toString()))
  const exit = once(child, 'close').then(([code, signal]) => ({
    code: code as number | null,
    signal: signal as NodeJS.Signals | null,
  }))
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exit
    await rm(directory, { recursive: true, force: true })
  })
  return { child, directory, stdout: () => output.stdout, stderr: () => output.stderr, exit }
}

async function assertNothingLeft(t: Test, run: Run): Promise<void> {
  t.same(await readdir(run.directory), [], 'no temporary file is left')
  t.same(processesIn(run.directory), [], 'no process is left')
}

/** The same run as one page: what the claims say, and what happened when. */
function assertReport(t: Test, page: string): void {
  t.match(page, /<h1[^>]*>A virtual machine keeps its files/)
  t.equal(page.split('<svg class="timeline"').length - 1, 2, 'a timeline with nbd-remap, and one without')
  for (const text of [
    'SIGKILL to the server, requests in flight',
    'server: answers again',
    'blocks cannot be written',
    'are on spare.img',
  ])
    t.ok(page.includes(text), text)
  for (const line of ['guest, writes', 'guest, mean', 'server, 99 %'])
    t.ok(page.includes(line), `a line is called ${line}`)
}

/** Is claimed of a machine with free cores, which the one that runs the tests need not have. */
const isPause = ({ claim }: { readonly claim: string }): boolean => claim.includes('pause that the guest sees')
/** Longer than any machine needs to be busy for; QEMU would wait for the server much longer. */
const PAUSE_MAX_MS = 15_000

void t.test('every claim of the demo holds', async (t) => {
  const report = join(t.testdir(), 'report.html')
  const run = await demo(t, '--seed', '7', '--json', '--report', report)
  const exit = await run.exit
  const { seed, claims } = JSON.parse(run.stdout()) as DemoResult
  t.equal(seed, '7')
  const broken = claims.filter(({ holds }) => !holds)
  t.same(
    broken.filter((claim) => !isPause(claim)),
    [],
  )
  t.same(exit, { code: broken.length === 0 ? 0 : 1, signal: null }, run.stderr())
  t.same([...new Set(claims.map(({ act }) => act))], ['a', 'b', 'c', 'd', 'e'])
  t.comment(claims.map(({ act, claim, measured }) => `${act}: ${claim}: ${measured}`).join('\n'))
  const measured = (claim: RegExp): number => parseInt(claims.find((one) => claim.test(one.claim))?.measured ?? '', 10)
  t.ok(measured(/blocks go bad while the guest writes/) >= 200, 'at least 200 blocks went bad')
  const pauseMs = parseInt(claims.find(isPause)?.measured ?? '', 10)
  t.ok(pauseMs < PAUSE_MAX_MS, `the pause was ${pauseMs} ms`)
  t.match(run.stderr(), /guest's kernel: .*I\/O error/, 'what the disk does to a guest is shown in its own words')
  t.match(
    run.stderr(),
    /(all claims hold|1 claim\(s\) DO NOT HOLD); \d+ s; repeat with --seed 7\nreport: .*report\.html\n$/,
  )
  assertReport(t, await readFile(report, 'utf8'))
  await assertNothingLeft(t, run)
})

void t.test('Ctrl-C in the middle leaves nothing behind', async (t) => {
  const run = await demo(t)
  while (!run.stderr().includes('making an ext4 file system while')) await once(run.child.stderr!, 'data')
  const running = processesIn(run.directory)
  for (const program of [/qemu-system/, /qemu-storage-daemon/, /serve --supervise/]) {
    t.ok(
      running.some((commandLine) => program.test(commandLine)),
      `${program.source} runs`,
    )
  }
  // As a terminal does it: to the whole foreground process group.
  process.kill(-run.child.pid!, 'SIGINT')
  t.same(await run.exit, { code: 130, signal: null }, run.stderr())
  t.match(run.stderr(), /interrupted; nothing is left running\n$/)
  t.equal(run.stdout(), '')
  await assertNothingLeft(t, run)
})
