/** What `status`, `stats`, `remaps` and `verify` say, checked against what is so. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { StatisticsReply } from '../../src/control/statistics-commands.js'
import { HEADER_OFFSETS } from '../../src/spare/format.js'
import { MiB, sector } from '../../src/util/units.js'
import { FaultInjector } from '../../qemu/faults.js'
import { StorageDaemon } from '../../qemu/storage-daemon.js'
import { cli, MAIN_SIZE, MANY_PROCESSES_TIMEOUT_MS, newPair, pattern, Program, PROGRAM, Serve } from '../support/cli.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

interface Range {
  'main-sector': number
  'spare-sector': number
  sectors: number
  spare: string
  state: string
}

/** Runs a command that must succeed without a word on standard error. */
async function says(t: Test, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await cli(t, ...args)
  t.equal(code, 0, `${args.join(' ')}: ${stderr}`)
  t.equal(stderr, '')
  return stdout
}

async function saysJson<T>(t: Test, ...args: string[]): Promise<T> {
  const text = await says(t, ...args, '--json')
  t.ok(text.endsWith('\n'))
  return JSON.parse(text) as T
}

void t.test('status: the pair, the server and its clients', async (t) => {
  const pair = newPair(t)
  const server = await Serve.start(t, pair)
  const control = ['--control', server.controlPath]
  const client = await server.connect()
  await server.ask('remap-add', { 'main-sector': 0, sectors: 24 })
  const status = await saysJson<Record<string, unknown>>(t, 'status', ...control)
  t.match(status, {
    status: 'running',
    pid: server.pid,
    'read-only': false,
    uri: server.uri,
    'export-name': 'disk',
    'block-size': 4096,
    main: { name: pair.main, size: MAIN_SIZE },
    spares: [{ name: pair.spare, size: 10 * MiB, state: 'active', 'remapped-blocks': 3 }],
    remaps: 3,
    clients: [{ id: Number, address: 'unix', 'export-name': 'disk', 'requests-in-flight': 0 }],
  })
  const [{ 'total-blocks': total, 'free-blocks': free } = {}] = status['spares'] as Record<string, number>[]
  t.equal(free, (total ?? 0) - 3)
  const text = await says(t, 'status', ...control)
  t.match(text, new RegExp(`^server: +nbd-remap \\S+, pid ${server.pid}, since ${String(status['started-at'])}$`, 'm'))
  t.match(text, `export:   ${server.uri}\n`)
  t.match(text, `main:     ${pair.main}, 4 MiB\n`)
  t.match(text, `spare:    ${pair.spare}, 3 of ${total} blocks used (4 KiB each)\n`)
  t.match(text, /^remaps: +3$/m)
  t.match(text, /^clients: +1\n {2}\d+: unix, 0 in flight$/m)
  await client.disconnect()
  await server.end()
  const reader = await Serve.start(t, pair, ['--read-only'])
  t.match(await says(t, 'status', '--control', reader.controlPath), /export: .* \(read-only\)/)
})

void t.test('stats: the counters of what was done', async (t) => {
  const server = await Serve.start(t, newPair(t))
  const control = ['--control', server.controlPath]
  const client = await server.connect()
  for (let n = 0; n < 5; n++) await client.write(n * 8192, [pattern(8192, n)])
  for (let n = 0; n < 3; n++) await client.read(n * 512, Buffer.alloc(512))
  await client.flush()
  await client.trim(MiB, 65_536)
  await client.writeZeroes(2 * MiB, 65_536)
  const stats = await saysJson<StatisticsReply>(t, 'stats', ...control)
  t.match(stats, {
    reads: 3,
    'bytes-read': 1536,
    writes: 5,
    'bytes-written': 40_960,
    flushes: 1,
    trims: 1,
    'write-zeroes': 1,
    'main-read-errors': 0,
    'main-write-errors': 0,
    'failed-requests': 0,
  })
  for (const { operation, count, histogram, ...figures } of stats.latency) {
    t.equal(count, operation === 'write' ? 5 : operation === 'read' ? 3 : 1, operation)
    t.equal(
      histogram.reduce((sum, bucket) => sum + bucket.count, 0),
      count,
    )
    const { 'p50-us': p50, 'p90-us': p90, 'p99-us': p99, 'p999-us': p999, 'max-us': max, 'mean-us': mean } = figures
    t.ok(0 < p50 && p50 <= p90 && p90 <= p99 && p99 <= p999 && p999 <= max, JSON.stringify(figures))
    t.ok(0 < mean && mean <= max)
  }
  const { latency, lifetime, since, ...counters } = stats
  t.equal(lifetime.writes, 5)
  t.ok(Date.parse(since) <= Date.now())
  const text = await says(t, 'stats', ...control)
  for (const name of Object.keys(counters)) t.match(text, new RegExp(`^${name}( +[\\d.]+){1,2}$`, 'm'))
  t.match(text, /^writes +5 +5$/m)
  for (const { operation } of latency) t.match(text, new RegExp(`^${operation}( +[\\d.]+){7}$`, 'm'))
  await client.disconnect()
})

void t.test('counters survive restarts, and begin anew when told to', async (t) => {
  const pair = newPair(t)
  const writeTo = async (server: Serve): Promise<void> => {
    const client = await server.connect()
    for (let n = 0; n < 4; n++) await client.write(n * 4096, [pattern(4096, n)])
    await client.disconnect()
  }
  const statsOf = (server: Serve): Promise<StatisticsReply> =>
    saysJson<StatisticsReply>(t, 'stats', '--control', server.controlPath)
  const first = await Serve.start(t, pair)
  await writeTo(first)
  await first.ask('remap-add', { 'main-sector': 64, sectors: 8 })
  t.equal((await first.end()).code, 0)
  const second = await Serve.start(t, pair, [])
  t.match(await statsOf(second), { writes: 0, lifetime: { writes: 4, 'bytes-written': 16_384 } })
  await writeTo(second)
  t.match(await statsOf(second), { writes: 4, lifetime: { writes: 8 } })
  const told = await cli(t, 'stats', '--control', second.controlPath, '--reset')
  t.match(told, { code: 0, stdout: '' })
  const anew = await statsOf(second)
  t.match(anew, { writes: 0, lifetime: { writes: 8 } }, 'the lifetime goes on')
  t.same(
    anew.latency.map(({ count }) => count),
    [0, 0, 0, 0, 0],
  )
  await writeTo(second)
  await second.ask('remap-add', { 'main-sector': 128, sectors: 8 })
  await second.ask('reset-stats', { lifetime: true })
  await writeTo(second)
  // Whatever it had counted since: killed, it cannot write it down any more.
  await second.end('SIGKILL')
  const third = await Serve.start(t, pair, [])
  t.match(await statsOf(third), { writes: 0, lifetime: { writes: 0, 'bytes-written': 0 } })
  const usage = await cli(t, 'stats', '--control', third.controlPath, '--lifetime')
  t.match(usage, { code: 2, stderr: /--lifetime goes with --reset/ })
})

void t.test('remaps: neighbours joined, in order, from a sector on, up to a limit', async (t) => {
  const server = await Serve.start(t, newPair(t))
  const control = ['--control', server.controlPath]
  t.same(await saysJson(t, 'remaps', ...control), { remaps: [], total: 0 })
  t.equal((await says(t, 'remaps', ...control)).split('\n').length, 2, 'only the heading')
  for (const first of [4000, 800, 816, 80]) await server.ask('remap-add', { 'main-sector': first, sectors: 16 })
  const { remaps, total } = await saysJson<{ remaps: Range[]; total: number }>(t, 'remaps', ...control)
  t.equal(total, remaps.length)
  t.same(
    remaps.map((range) => range['main-sector']),
    [80, 800, 4000],
  )
  t.same(
    remaps.map(({ sectors }) => sectors),
    [16, 32, 16],
  )
  const text = await says(t, 'remaps', ...control)
  const rows = text
    .trim()
    .split('\n')
    .slice(1)
    .map((row) => row.trim().split(/\s+/))
  t.same(
    rows,
    remaps.map((range) => [...[range['main-sector'], range['spare-sector'], range.sectors].map(String), 'remapped']),
  )
  t.match(await saysJson(t, 'remaps', ...control, '--from-sector', '820', '--limit', '1'), {
    remaps: [{ 'main-sector': 800 }],
    total: 3,
  })
  t.match(await says(t, 'remaps', ...control, '--limit', '2'), /\(2 of 3 ranges: see --limit and --from-sector\)\n$/)
})

void t.test('faults of the main disk, in stats, remaps and status', async (t) => {
  const pair = newPair(t)
  const daemon = await StorageDaemon.start({ directory: pair.folder, disks: [{ name: 'main', file: pair.main }] })
  t.teardown(() => daemon.close())
  const faults = new FaultInjector(daemon, 'main')
  const server = await Serve.start(t, { ...pair, main: daemon.uri('main') })
  const control = ['--control', server.controlPath]
  const client = await server.connect()
  await faults.set([
    { sector: sector(64), operation: 'write' },
    { sector: sector(1027), operation: 'read' },
  ])
  await client.write(60 * 512, [pattern(16 * 512, 9)])
  await t.rejects(client.read(1024 * 512, Buffer.alloc(4096)), /NBD_EIO/)
  const { remaps } = await saysJson<{ remaps: Range[] }>(t, 'remaps', ...control)
  t.match(remaps, [
    { 'main-sector': 64, sectors: 8, state: 'remapped' },
    { 'main-sector': 1024, sectors: 8, state: 'lost' },
  ])
  t.match(await says(t, 'remaps', ...control), /^ +1024 +\d+ +8 +lost$/m)
  const stats = await saysJson<Record<string, number>>(t, 'stats', ...control)
  t.equal(stats['main-write-errors'], 1)
  t.equal(stats['main-read-errors'], 1)
  t.equal(stats['failed-requests'], 1)
  await client.disconnect()
  await server.end()
  const verify = await cli(t, 'verify', '--spare', pair.spare)
  t.match(verify.stdout, /2 remapped \(1 with lost sectors\), 0 retired/)
  t.equal(verify.code, 0)
})

void t.test('verify: an intact spare, one after a crash, one with damaged copies', async (t) => {
  const pair = newPair(t)
  const server = await Serve.start(t, pair)
  await server.ask('remap-add', { 'main-sector': 800, sectors: 16 })
  await server.end()
  const intact = await saysJson<Record<string, unknown>>(t, 'verify', '--spare', pair.spare)
  t.match(intact, {
    spare: pair.spare,
    clean: true,
    blockSize: 4096,
    main: { location: pair.main, size: MAIN_SIZE },
    headerCopies: 5,
    slots: { remapped: 2, retired: 0, lost: 0 },
    problems: [],
  })
  const text = await says(t, 'verify', '--spare', pair.spare)
  t.match(text, `spare:    ${pair.spare}, last stop clean\n`)
  t.match(text, /2 remapped \(0 with lost sectors\), 0 retired/)
  t.match(text, /^result: +intact$/m)

  const killed = await Serve.start(t, pair)
  await killed.end('SIGKILL')
  t.match(await cli(t, 'verify', '--spare', pair.spare), { code: 0, stdout: /last stop not clean/ })

  const file = await open(pair.spare, 'r+')
  for (const offset of HEADER_OFFSETS.slice(1, 3)) await file.write(Buffer.alloc(64, 1), 0, 64, offset + 64)
  await file.close()
  const damaged = await cli(t, 'verify', '--spare', pair.spare, '--json')
  t.equal(damaged.code, 1)
  const report = JSON.parse(damaged.stdout) as { problems: string[] }
  t.same(report.problems, ['header copy 1: checksum does not match', 'header copy 2: checksum does not match'])
  const again = await cli(t, 'verify', '--spare', pair.spare)
  t.equal(again.code, 1)
  for (const problem of report.problems) t.match(again.stdout, `WRONG:    ${problem}\n`)
  t.match(again.stdout, /^result: +2 problem\(s\)$/m)
})

void t.test('--watch repeats, and waits for a server that is being restarted', async (t) => {
  const pair = newPair(t)
  const server = await Serve.start(t, pair)
  const watch = new Program(t, ['status', '--control', server.controlPath, '--json', '--watch', '0.05'])
  const answers = (): number => watch.stdout.split('\n').length - 1
  await watch.until(() => answers() >= 3, 'it answered three times')
  await server.end()
  await watch.until(() => watch.stderr.includes('nbd-remap: no server answers'), 'it missed the server')
  const before = answers()
  const next = await Serve.start(t, pair)
  await watch.until(() => answers() > before, 'it answered again')
  const lines = watch.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { pid: number })
  t.equal(lines[0]?.pid, server.pid)
  t.equal(lines.at(-1)?.pid, next.pid)
  t.same(await watch.end('SIGINT'), { code: null, signal: 'SIGINT' })
})

/** Runs `nbd-remap ARGS | READER`. @returns the exit code of nbd-remap, and all that was printed */
async function piped(
  args: readonly string[],
  reader: string,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const script = `"$@" | ${reader}; code=\${PIPESTATUS[0]}; echo; echo "\$code"`
  const child = spawn('bash', ['-c', script, 'bash', process.execPath, PROGRAM, ...args])
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', (data: Buffer) => (stdout += data.toString()))
  child.stderr.on('data', (data: Buffer) => (stderr += data.toString()))
  await once(child, 'close')
  const lines = stdout.trimEnd().split('\n')
  return { code: Number(lines.pop()), stdout: lines.join('\n'), stderr }
}

void t.test('long output into a pipe that is closed early does no harm', async (t) => {
  const pair = newPair(t)
  writeFileSync(join(pair.folder, 'main.img'), pattern(32 * MiB))
  const server = await Serve.start(t, pair)
  const control = ['--control', server.controlPath]
  // Every other block, so that no two are neighbours: long enough not to fit into a pipe.
  for (let n = 0; n < 400; n++) await server.ask('remap-add', { 'main-sector': 16 * n, sectors: 8 })
  const all = await says(t, 'remaps', ...control, '--limit', '100000')
  t.equal(all.split('\n').length, 402)
  for (const args of [
    ['remaps', ...control],
    ['remaps', ...control, '--json'],
    ['remaps', ...control, '--format', 'badblocks'],
    ['status', ...control, '--watch', '0.01'],
  ]) {
    const { code, stdout, stderr } = await piped(args, args.includes('--json') ? 'head -c 10' : 'head -1')
    t.equal(code, 0, args.join(' '))
    t.ok(stdout.length > 0)
    t.equal(stderr, '')
  }
  t.match(await server.ask('query-status'), { status: 'running' })
  const other = newPair(t)
  await says(t, 'format', '--main', other.main, '--spare', other.spare)
  t.match(await piped(['dump', '--spare', other.spare], 'true'), { code: 0, stdout: '', stderr: '' })
})

void t.test('format: says what it did, and leaves the main as it is', async (t) => {
  const pair = newPair(t)
  const args = ['format', '--main', pair.main, '--spare', pair.spare, '--block-size', '512']
  t.equal(await says(t, ...args), `${pair.spare}: formatted as the spare of ${pair.main}\n`)
  const report = await saysJson<Record<string, unknown>>(t, 'verify', '--spare', pair.spare)
  t.match(report, { blockSize: 512, clean: true, problems: [], main: { location: pair.main } })
})
