/** `nbd-remap scan` on folders of disks: what belongs together, in which state, and the commands that it prints, run. */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { ScanReport } from '../../src/remap/scan.js'
import { quoted } from '../../src/cli/scan.js'
import {
  cli,
  digest,
  MAIN_SIZE,
  MANY_PROCESSES_TIMEOUT_MS,
  newFolder,
  newMain,
  newSpare,
  Program,
  pattern,
  Serve,
} from '../support/cli.js'
import { scribble } from '../support/refusals.js'
import { imageFile, startNbdkit } from '../support/upstream-servers.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

type Report = Omit<ScanReport, 'pairs'> & {
  readonly pairs: readonly (Omit<ScanReport['pairs'][number], 'command'> & { readonly command: string | null })[]
}

async function scan(t: Test, code: number, ...paths: string[]): Promise<Report> {
  const before = paths.map(digest)
  const { stdout, stderr, ...exit } = await cli(t, 'scan', '--json', ...paths)
  t.equal(exit.code, code, stderr)
  t.same(paths.map(digest), before)
  return JSON.parse(stdout) as Report
}

/** A pair in a folder of its own, served once, with a remap. */
async function servedPair(t: Test, folder: string, { seed = 1, spares = ['spare.img'] } = {}): Promise<string[]> {
  mkdirSync(folder, { recursive: true })
  const main = newMain(folder, 'main.img', seed)
  const [first = '', ...more] = spares.map((name) => newSpare(folder, name))
  const server = await Serve.start(t, { folder, main, spare: first }, [
    '--create',
    ...more.flatMap((spare) => ['--spare', spare]),
  ])
  await server.ask('remap-add', { 'main-sector': 80, sectors: 8 })
  await server.end()
  return [main, first, ...more]
}

/** Runs a command line as a shell does, with `nbd-remap` being this program, until it serves; then stops it. */
async function starts(t: Test, command: string, folder: string): Promise<void> {
  const split = spawnSync('sh', ['-c', `for word in ${command}; do echo "$word"; done`], { encoding: 'utf8' })
  const [name, ...args] = split.stdout.trimEnd().split('\n')
  t.equal(name, 'nbd-remap')
  const server = new Program(t, [...args, '--socket', join(folder, 'run.sock')])
  await server.until(() => server.stdout.includes('\n'), 'it serves')
  t.same(await server.end(), { code: 0, signal: null })
}

void t.test('several pairs in one folder, a pool, and what is neither', async (t) => {
  const folder = newFolder(t)
  const disks = join(folder, "it's one folder")
  const pairs = [
    await servedPair(t, join(folder, 'a'), { seed: 1 }),
    await servedPair(t, join(folder, 'b'), { seed: 2, spares: ['first.img', 'second.img'] }),
  ]
  mkdirSync(disks)
  for (const [n, paths] of pairs.entries()) {
    for (const [at, path] of paths.entries()) copyFileSync(path, join(disks, `${n}-${at}.img`))
  }
  newMain(disks, 'stranger.img', 7)
  writeFileSync(join(disks, 'empty'), '')
  writeFileSync(join(disks, 'notes.txt'), 'not a disk')
  mkdirSync(join(disks, 'subfolder'))
  spawnSync('mkfifo', [join(disks, 'fifo')])
  symlinkSync('nowhere', join(disks, 'dangling'))
  const report = await scan(t, 0, disks)
  t.match(report.pairs.map(({ state, main, spares }) => [state, main?.location, main?.by, spares.length]).sort(), [
    ['clean', join(disks, '0-0.img'), 'fingerprint', 1],
    ['clean', join(disks, '1-0.img'), 'fingerprint', 2],
  ])
  t.same(report.others, [join(disks, 'notes.txt'), join(disks, 'stranger.img')])
  t.match(report.skipped, [{ location: join(disks, 'empty'), reason: /is empty/ }])
  for (const { command } of report.pairs) await starts(t, command ?? '', folder)
  const text = (await cli(t, 'scan', disks)).stdout
  t.match(text, /^pair: stopped in good order\n {2}main: .*\(the disk it was\), 4 MiB\n {2}spare: .*1 of \d+ blocks/m)
  t.ok(text.includes(`start:   ${report.pairs[0]!.command ?? '?'}`))
})

void t.test('a main that is gone, changed or there twice, and spares that are missing, stale or damaged', async (t) => {
  const folder = newFolder(t)
  const [main = '', first = '', second = ''] = await servedPair(t, folder, { spares: ['a.img', 'b.img'] })
  const stale = join(folder, 'stale.img')
  copyFileSync(first, stale)
  const problemsOf = async (...paths: string[]): Promise<string> => {
    const { pairs } = await scan(t, 1, ...paths)
    t.equal(pairs.length, 1)
    t.equal(pairs[0]?.command, null)
    return pairs[0]?.problems.join('; ') ?? ''
  }
  t.match(await problemsOf(first, second), /main disk of 4194304 bytes is not among them, last seen at .*main\.img/)
  t.match(await problemsOf(main, first), /spare [0-9a-f]{32} is missing, last seen at .*b\.img/)
  const copies = ['one.img', 'two.img'].map((name) => join(folder, name))
  for (const copy of copies) copyFileSync(main, copy)
  t.match(await problemsOf(first, second, ...copies), /one\.img and .*two\.img both look like its main disk/)
  await starts(t, (await scan(t, 0, main, first, second)).pairs[0]?.command ?? '', folder)
  t.match(await problemsOf(main, stale, second), /spare .*stale\.img .* is stale: the pool was served 1 time/)
  const both = await scan(t, 0, main, stale, second, first)
  t.same(
    both.pairs[0]?.spares.map(({ standing }) => standing),
    ['stale', 'member', 'member'],
  )
  t.match(both.pairs[0]?.command, /a\.img.*b\.img/)
  await scribble(main, 0, pattern(8192, 9))
  t.match(
    await problemsOf(main, first, second),
    /main .*main\.img is not as it should be: its content is not what it was/,
  )
  truncateSync(first, 9 * 1024 * 1024)
  t.match((await scan(t, 1, main, first)).damaged, [{ location: first, reason: /it was truncated/ }])
})

void t.test('disks in use are looked at, and their server does not notice', async (t) => {
  const folder = newFolder(t)
  const files = { folder, main: newMain(folder), spare: newSpare(folder) }
  const server = await Serve.start(t, files)
  await server.ask('remap-add', { 'main-sector': 80, sectors: 8 })
  const report = await scan(t, 0, files.main, files.spare)
  t.match(report.pairs, [{ state: 'in-use', main: { location: files.main, by: 'recognised' }, problems: [] }])
  await server.ask('remap-add', { 'main-sector': 800, sectors: 8 })
  await server.end('SIGKILL')
  t.match((await scan(t, 0, folder)).pairs, [{ state: 'not-clean', main: { by: 'recognised' } }])
})

void t.test('over NBD, and servers that are dead or silent', async (t) => {
  const folder = newFolder(t)
  const main = await startNbdkit(t, 'file', await imageFile(t, MAIN_SIZE, 1))
  const spare = await startNbdkit(t, 'file', await imageFile(t, 10 * 1024 * 1024))
  const server = await Serve.start(t, { folder, main: main.uri, spare: spare.uri })
  t.match((await scan(t, 0, main.uri, spare.uri)).pairs, [{ state: 'in-use', main: { location: main.uri } }])
  await server.end()
  const { pairs } = await scan(t, 0, main.uri, spare.uri)
  t.match(pairs, [{ state: 'clean' }])
  await starts(t, pairs[0]?.command ?? '', folder)
  main.signal('SIGSTOP')
  const dead = `nbd+unix:///?socket=${folder}/nobody`
  const { stdout, code } = await cli(t, 'scan', '--timeout', '0.3', main.uri, dead)
  main.signal('SIGCONT')
  t.equal(code, 1)
  t.match(stdout, /skipped:\n {2}nbd\S+: .*(0\.3 s|300 ms).*\n {2}nbd\S+nobody: .*socket does not exist/)
})

void t.test('nothing at all, and wrong usage', async (t) => {
  const folder = newFolder(t)
  t.match(await cli(t, 'scan', folder), { code: 1, stdout: 'no spare was found\n' })
  t.match(await cli(t, 'scan', join(folder, 'nothing')), {
    code: 1,
    stdout: /nothing: there is no such file, folder or device/,
  })
  t.match(await cli(t, 'scan'), { code: 2, stderr: /missing required argument 'path'/ })
})

void t.test('a word for the shell', (t) => {
  for (const word of ["it's", 'a b', '$HOME', '', 'plain.img', 'nbd+unix:///x?socket=/a&b']) {
    t.equal(spawnSync('sh', ['-c', `printf %s ${quoted(word)}`], { encoding: 'utf8' }).stdout, word)
  }
  t.equal(quoted('/dev/sdb'), '/dev/sdb')
  t.end()
})
