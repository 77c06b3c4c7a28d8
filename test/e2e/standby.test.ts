/** `serve --standby`: the server that waits takes over when the other one is gone or hangs, and not otherwise. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { NbdClient } from '../../src/nbd/client.js'
import type { ServerProcess } from '../../src/control/process-commands.js'
import {
  cli,
  fails,
  MANY_PROCESSES_TIMEOUT_MS,
  newFolder,
  newMain,
  newPair,
  newSpare,
  pattern,
  Serve,
  type PairFiles,
} from '../support/cli.js'
import { GREETING, scriptedServer } from '../support/qmp-server.js'
import { REFUSED, serve } from '../support/refusals.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

const USAGE = 2
const SHORT = ['--standby-timeout', '0.4']
const BLOCK = pattern(4096, 9)

/** A server that has acknowledged and flushed a block at 0, and one that stands by for it, both as their users would start them. */
async function twoServers(
  t: Test,
  options: readonly string[] = [],
): Promise<{ pair: PairFiles; active: Serve; standby: Serve }> {
  const pair = newPair(t)
  const active = await Serve.start(t, pair, ['--create', ...options])
  const client = await active.connect()
  await client.write(0, [BLOCK])
  await client.flush()
  await client.disconnect()
  const standby = Serve.begin(t, pair, ['--standby', ...SHORT, ...options])
  await standby.until(() => standby.stderr.includes('standing by for'), 'it stood by')
  return { pair, active, standby }
}

const serving = (server: Serve): Promise<void> => server.until(() => server.stdout.includes('\n'), 'it printed its URI')

const pidsOf = ({ pid, 'supervisor-pid': supervisor }: ServerProcess): number[] => [
  pid,
  ...(supervisor === undefined ? [] : [supervisor]),
]

async function assertServes(t: Test, standby: Serve, { spare }: PairFiles): Promise<void> {
  t.ok((await standby.read(0, BLOCK.length)).equals(BLOCK), 'what was acknowledged is there')
  t.match(await standby.ask('query-status'), { status: 'running' }, 'at the same control socket')
  t.same(await standby.end(), { code: 0, signal: null })
  const verify = await cli(t, 'verify', '--spare', spare)
  t.equal(verify.code, 0, verify.stdout)
}

for (const options of [[], ['--supervise']]) {
  const kind = options.length > 0 ? 'supervised server' : 'server'

  void t.test(`a ${kind} is killed: the other takes its place`, async (t) => {
    const { pair, active, standby } = await twoServers(t, options)
    const pids = pidsOf(await active.ask('query-process'))
    for (const pid of pids.reverse()) process.kill(pid, 'SIGKILL')
    await active.exited
    await serving(standby)
    t.equal(standby.stdout, active.stdout, 'the same address')
    await standby.says(/taking over from server \d+.*: it is gone/)
    await assertServes(t, standby, pair)
  })

  void t.test(`a ${kind} is stopped: it is killed, and the other takes its place`, async (t) => {
    const { pair, active, standby } = await twoServers(t, options)
    const client = await active.connect()
    const pids = pidsOf(await active.ask('query-process'))
    for (const pid of pids.reverse()) process.kill(pid, 'SIGSTOP')
    await client.lost
    const again = await NbdClient.connect(active.uri)
    const content = Buffer.alloc(BLOCK.length)
    await again.read(0, content)
    t.ok(content.equals(BLOCK), 'a client that comes back at once is served')
    await again.disconnect()
    t.same(await active.exited, { code: null, signal: 'SIGKILL' })
    await standby.says(/taking over from server \d+.*: it is stopped/)
    await assertServes(t, standby, pair)
  })
}

void t.test('a server that stops in good order is followed, too', async (t) => {
  const { pair, active, standby } = await twoServers(t)
  t.same(await active.end(), { code: 0, signal: null })
  await serving(standby)
  await assertServes(t, standby, pair)
})

void t.test('a worker that dies is left to its supervisor', async (t) => {
  // However long the next worker takes to start on a busy machine.
  const { active, standby } = await twoServers(t, ['--supervise', '--standby-timeout', '60'])
  const before = await active.ask<ServerProcess>('query-process')
  process.kill(before.pid, 'SIGKILL')
  await standby.until(
    () => (standby.stderr.match(/standing by for/g)?.length ?? 0) === 2,
    'it stood by for the next worker',
  )
  const after = await active.ask<ServerProcess>('query-process')
  t.equal(after['supervisor-pid'], before['supervisor-pid'])
  t.not(after.pid, before.pid)
  t.same(await standby.end(), { code: 0, signal: null })
  t.equal(standby.stdout, '')
  t.ok((await active.read(0, BLOCK.length)).equals(BLOCK), 'and it serves on')
})

void t.test('two that are started alike: one serves, the other stands by, and a third waits for that', async (t) => {
  const pair = newPair(t)
  const first = await Serve.start(t, pair, ['--create', '--standby', ...SHORT])
  const second = Serve.begin(t, pair, ['--standby', ...SHORT])
  await second.until(() => second.stderr.includes('standing by for'), 'it stood by')
  const third = Serve.begin(t, pair, ['--standby', ...SHORT])
  await third.until(() => third.stderr.includes('another server stands by already'), 'it waited')
  await first.end('SIGKILL')
  await serving(second)
  await third.until(() => third.stderr.includes('standing by for'), 'its turn to stand by came')
  t.equal(third.stdout, '')
  t.same(await third.end(), { code: 0, signal: null })
  t.same(await second.end(), { code: 0, signal: null })
})

void t.test('a disk that is in use, by a server that cannot be asked, is waited for', async (t) => {
  const pair = newPair(t)
  const active = await Serve.start(t, pair, ['--create'], 'a')
  const standby = Serve.begin(t, pair, ['--standby', ...SHORT], 'b')
  await standby.until(() => standby.stderr.includes('is in use, and nobody answers at'), 'it said so')
  t.same(await active.end(), { code: 0, signal: null })
  await serving(standby)
  t.same(await standby.end(), { code: 0, signal: null })
})

void t.test('a server of another disk is not the one to stand by for', async (t) => {
  const pair = newPair(t)
  const active = await Serve.start(t, pair, ['--create'])
  const folder = newFolder(t)
  const other = { folder: pair.folder, main: newMain(folder), spare: newSpare(folder) }
  const standby = Serve.begin(t, other, ['--standby', ...SHORT])
  t.same(await standby.exited, { code: REFUSED, signal: null })
  t.match(standby.stderr, /^nbd-remap: the server at \S+ has main \S+ and not \S+: it is not the one to stand by for/m)
  t.same(await active.end(), { code: 0, signal: null })
})

/** A server on another machine, which answers until it is told not to. */
async function elsewhere(t: Test): Promise<{ path: string; silence: () => void }> {
  let isSilent = false
  const { path } = await scriptedServer(
    t,
    (socket) => socket.write(GREETING),
    (socket, { execute, id }) => {
      const server = { pid: 1, machine: 'another', 'data-plane': 'running', main: '/dev/there' }
      if (!isSilent) socket.write(`${JSON.stringify({ return: execute === 'query-process' ? server : {}, id })}\r\n`)
    },
  )
  return {
    path,
    silence: () => {
      isSilent = true
    },
  }
}

void t.test(
  'a server on another machine is never taken for dead: without a command to end it nobody takes over',
  async (t) => {
    const pair = newPair(t)
    const there = await elsewhere(t)
    const standby = Serve.begin(t, pair, ['--create', '--standby', there.path, ...SHORT])
    await standby.until(() => standby.stderr.includes('standing by for server 1'), 'it stood by')
    there.silence()
    await standby.until(() => standby.stderr.includes('only --fence-command can end it there'), 'it said why not')
    t.same(await standby.end(), { code: 0, signal: null })
    t.equal(standby.stdout, '')
  },
)

void t.test('the command of the operator has the last word', async (t) => {
  const pair = newPair(t)
  const there = await elsewhere(t)
  const [log, done] = [join(pair.folder, 'log'), join(pair.folder, 'done')]
  // It fails the first time.
  const command = `echo "$NBD_REMAP_PID" "$NBD_REMAP_MACHINE" >> ${log}; [ -e ${done} ] || { touch ${done}; exit 7; }`
  const standby = Serve.begin(t, pair, ['--create', '--standby', there.path, ...SHORT, '--fence-command', command])
  await standby.until(() => standby.stderr.includes('standing by for server 1'), 'it stood by')
  t.notOk(existsSync(log))
  there.silence()
  await serving(standby)
  await standby.says(/the command of --fence-command ended with exit code 7: this server does not take over/)
  t.equal(readFileSync(log, 'utf8'), '1 another\n1 another\n')
  t.same(await standby.end(), { code: 0, signal: null })
})

void t.test('what does not go together is refused', async (t) => {
  const pair = newPair(t)
  const files = [pair.main, pair.spare]
  await fails(
    t,
    USAGE,
    /--standby needs the control socket/,
    ['serve', '--main', pair.main, '--spare', pair.spare, '--standby'],
    files,
  )
  await fails(
    t,
    USAGE,
    /--standby does not go with --read-only/,
    serve(pair, '--standby', 'x.qmp', '--read-only'),
    files,
  )
  await fails(t, USAGE, /--fence-command goes with --standby/, serve(pair, '--fence-command', 'true'), files)
})
