/** `serve --supervise` as its user sees it: one process, one line, one address, whatever happens to the worker. */
import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { NbdClient } from '../../src/nbd/client.js'
import { cli, fails, MAIN_SIZE, MANY_PROCESSES_TIMEOUT_MS, newPair, pattern, Serve } from '../support/cli.js'
import { REFUSED, serve } from '../support/refusals.js'
import { imageFile, startQemuNbd } from '../support/upstream-servers.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

/** Processes whose arguments have this text, the running ones. */
function processesWith(text: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((name) => commandLine(name).includes(text))
    .map(Number)
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}

async function gone(text: string): Promise<void> {
  // The last process of a group has no parent here that could tell of its end.
  while (processesWith(text).length > 0) await new Promise((resolve) => setTimeout(resolve, 10))
}

const workerOf = async (server: Serve): Promise<number> => (await server.ask<{ pid: number }>('query-status')).pid

void t.test(
  'when a worker is killed, the next one serves at the same address, and nothing is printed again',
  async (t) => {
    const pair = newPair(t)
    const server = await Serve.start(t, pair, ['--create', '--supervise'])
    const uri = server.uri
    await server.ask('remap-add', { 'main-sector': 800, sectors: 8 })
    const workers = new Set<number>()
    for (let round = 1; round <= 5; round++) {
      const client = await NbdClient.connect(uri)
      const content = pattern(4096, round)
      await client.write(800 * 512, [content])
      const worker = await workerOf(server)
      t.notOk(workers.has(worker) || worker === server.pid, 'a worker of its own')
      workers.add(worker)
      process.kill(worker, 'SIGKILL')
      await client.lost
      const again = await NbdClient.connect(uri, { connectTimeoutMs: 30_000 })
      const found = Buffer.alloc(content.length)
      await again.read(800 * 512, found)
      t.ok(found.equals(content), 'what was acknowledged is there')
      await again.disconnect()
      t.match(await server.ask('query-remaps'), { total: 1 }, 'the control socket is there again')
    }
    t.same(await server.end(), { code: 0, signal: null })
    t.equal(server.stdout, `${uri}\n`)
    t.equal(server.stderr.match(/died \(SIGKILL\)/g)?.length, 5)
    t.same(processesWith(pair.folder), [], 'no process is left')
    const verify = await cli(t, 'verify', '--spare', pair.spare)
    t.equal(verify.code, 0, verify.stdout)
  },
)

void t.test('a worker that cannot start ends the supervisor with its sentence and its exit code', async (t) => {
  const pair = newPair(t)
  await fails(t, REFUSED, /is blank: add --create/, serve(pair, '--supervise'), [pair.main, pair.spare])
  const none = { ...pair, main: `${pair.folder}/none` }
  await fails(t, 1, /there is no such file/, serve(none, '--supervise'), [pair.spare])
  t.same(processesWith(pair.folder), [])
})

void t.test('when the disk is taken meanwhile, the next worker is refused and the supervisor ends', async (t) => {
  const pair = newPair(t)
  const server = await Serve.start(t, pair, ['--create', '--supervise'])
  const client = await server.connect()
  // The worker that comes next finds the header of a spare on the main disk.
  const { HEADER_SIZE, HEADER_OFFSETS } = await import('../../src/spare/format.js')
  const header = readFileSync(pair.spare).subarray(HEADER_OFFSETS[0], HEADER_SIZE)
  await client.write(0, [Buffer.from(header)])
  process.kill(await workerOf(server), 'SIGKILL')
  t.same(await server.exited, { code: 3, signal: null })
  t.match(server.stderr, /^nbd-remap: main \S+ carries the header of an nbd-remap spare/m)
  t.same(processesWith(pair.folder), [])
})

void t.test('SIGKILL of the supervisor: worker and stand-by stop by themselves, in good order', async (t) => {
  const pair = newPair(t)
  const server = await Serve.start(t, pair, ['--create', '--supervise'])
  const client = await server.connect()
  await client.write(0, [pattern(4096, 7)])
  server.child.kill('SIGKILL')
  await client.lost
  await gone(pair.folder)
  const verify = await cli(t, 'verify', '--spare', pair.spare, '--json')
  t.match(JSON.parse(verify.stdout), { clean: true, problems: [] })
  const next = await Serve.start(t, pair, ['--supervise'])
  t.ok((await next.read(0, 4096)).equals(pattern(4096, 7)))
  t.same(await next.end(), { code: 0, signal: null })
})

void t.test('a stop between two workers says that it was not clean', async (t) => {
  const pair = newPair(t)
  const server = await Serve.start(t, pair, ['--create', '--supervise'])
  const worker = await workerOf(server)
  // The second death in a row comes with a pause, in which the signal arrives.
  process.kill(worker, 'SIGKILL')
  await server.until(() => server.stderr.includes('died (SIGKILL)'), 'the death was noticed')
  const exit = await server.end('SIGTERM')
  if (exit.code === 1) t.match(server.stderr, /^nbd-remap: the worker died before it could stop in good order/m)
  else t.equal(exit.code, 0, 'the next worker was there already, and stopped in good order')
  t.same(processesWith(pair.folder), [])
})

void t.test('a worker that cannot stop cleanly when it is told to has no next one', async (t) => {
  const upstream = await startQemuNbd(t, await imageFile(t, MAIN_SIZE))
  const pair = { ...newPair(t), main: upstream.uri }
  const server = await Serve.start(t, pair, ['--create', '--supervise', '--stop-timeout', '0.2'])
  const client = await server.connect()
  await client.write(0, [pattern(4096, 7)])
  await client.disconnect()
  await upstream.kill()
  await server.ask('quit')
  t.same(await server.exited, { code: 1, signal: null })
  t.match(server.stderr, /^nbd-remap: not stopped after 0\.2 s, because a disk hangs/m)
  t.notMatch(server.stderr, /the next one takes over/)
  t.same(processesWith(pair.folder), [])
})
