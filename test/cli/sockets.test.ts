/** Sockets that cannot be had: one sentence, exit code 1, nothing written, and what was there before is left as it was. */
import { existsSync, lstatSync, mkdirSync, statSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import {
  cli,
  digest,
  fails,
  newPair,
  Program,
  Serve,
  type PairFiles,
  MANY_PROCESSES_TIMEOUT_MS,
} from '../support/cli.js'
import { FAILED } from '../support/refusals.js'
import { startNbdkit, startUpstream } from '../support/upstream-servers.js'

const disks = ({ main, spare }: PairFiles): string[] => ['serve', '--main', main, '--spare', spare, '--create']

/** A server of something else. */
async function listen(t: Test, address: net.ListenOptions): Promise<net.AddressInfo | undefined> {
  const server = net.createServer((socket) =>
    socket.on('error', () => undefined).end('SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n'),
  )
  await new Promise<void>((resolve) => server.listen(address, resolve))
  t.teardown(() => server.close())
  const bound = server.address()
  return typeof bound === 'string' || bound === null ? undefined : bound
}

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

void t.test('a path that is in use, or is no socket, is left as it is', async (t) => {
  const pair = newPair(t)
  const live = join(pair.folder, 'live')
  await listen(t, { path: live })
  const file = join(pair.folder, 'file')
  writeFileSync(file, 'precious')
  const directory = join(pair.folder, 'directory')
  mkdirSync(directory)
  const free = join(pair.folder, 'free')
  for (const [path, sentence] of [
    [live, /live.*; give another place with --(socket|control)$/],
    [file, /file exists and is not a socket/],
    [directory, /directory exists and is not a socket/],
    [join(pair.folder, 'no', 's'), /its folder does not exist; give another place with --/],
  ] as const) {
    const files = [path, pair.main, pair.spare]
    await fails(t, FAILED, sentence, [...disks(pair), '--socket', path], files)
    await fails(t, FAILED, sentence, [...disks(pair), '--socket', path, '--supervise'], files)
    await fails(t, FAILED, sentence, [...disks(pair), '--socket', free, '--control', path], files)
    await fails(t, FAILED, sentence, [...disks(pair), '--socket', free, '--control', path, '--supervise'], files)
    t.notOk(existsSync(free))
  }
})

void t.test('the sockets of a server that was killed are taken over', async (t) => {
  for (const args of [[], ['--supervise']]) {
    const pair = newPair(t)
    const killed = await Serve.start(t, pair)
    await killed.end('SIGKILL')
    t.ok(existsSync(killed.socketPath) && existsSync(killed.controlPath), 'both were left behind')
    const next = await Serve.start(t, pair, args)
    t.match(await next.ask('query-status'), { status: 'running' })
    t.equal((await next.read(0, 512)).length, 512)
    t.same(await next.end(), { code: 0, signal: null })
    t.notOk(existsSync(next.socketPath), 'a clean stop leaves no NBD socket')
    t.notOk(existsSync(next.controlPath), 'and no control socket')
  }
})

void t.test('only the owner may connect to the control socket', async (t) => {
  const server = await Serve.start(t, newPair(t))
  t.equal(statSync(server.controlPath).mode & 0o777, 0o600)
  t.ok(lstatSync(server.controlPath).isSocket())
})

void t.test('TCP: a port in use, an address that is not here, a host that is not known', async (t) => {
  const pair = newPair(t)
  const taken = await listen(t, { host: '127.0.0.1', port: 0 })
  for (const [address, sentence] of [
    [`127.0.0.1:${taken?.port}`, /cannot listen on 127\.0\.0\.1:\d+: another process listens there; .*--listen/],
    ['192.0.2.1:10809', /cannot listen on 192\.0\.2\.1:10809: this machine does not have that address/],
    ['nowhere.invalid:10809', /cannot listen on nowhere\.invalid:10809: (the host is not known|the name service)/],
  ] as const) {
    await fails(t, FAILED, sentence, [...disks(pair), '--listen', address], [pair.main, pair.spare])
  }
})

void t.test('TCP: the URI has the port that was chosen', async (t) => {
  const { main, spare } = newPair(t)
  const server = new Program(t, ['serve', '--main', main, '--spare', spare, '--create', '--listen', '127.0.0.1:0'])
  await server.until(() => server.stdout.includes('\n'), 'it printed its URI')
  t.match(server.stdout, /^nbd:\/\/127\.0\.0\.1:[1-9]\d*\/disk\n$/)
  const { socket } = { socket: net.connect(Number(/:(\d+)\//.exec(server.stdout)?.[1]), '127.0.0.1') }
  const greeting = await new Promise<Buffer>((resolve) => socket.once('data', resolve))
  t.equal(greeting.subarray(0, 8).toString(), 'NBDMAGIC')
  socket.destroy()
  t.same(await server.end(), { code: 0, signal: null })
})

void t.test('an upstream that cannot be reached, or does not speak NBD, or has no such export', async (t) => {
  const pair = newPair(t)
  const other = join(pair.folder, 'other')
  await listen(t, { path: other })
  const nobody = await listen(t, { host: '127.0.0.1', port: 0 })
  const nbdkit = await startUpstream(t, 'only', (path) => {
    const command = [
      '-f',
      '-U',
      path,
      '--filter=exportname',
      'memory',
      '4M',
      'exportname=only',
      'exportname-strict=true',
    ]
    return ['nbdkit', ...command]
  })
  const cases: [RegExp, string][] = [
    [
      /cannot reach NBD server at nbd\+unix:\S*none: the socket does not exist/,
      `nbd+unix:///disk?socket=${pair.folder}/none`,
    ],
    [/cannot reach NBD server at nbd:\/\/127\.0\.0\.1:1\/disk: connection refused/, 'nbd://127.0.0.1:1/disk'],
    [/NBD server at nbd\+unix:\S*other broke the protocol in the handshake/, `nbd+unix:///disk?socket=${other}`],
    [/NBD server at nbd:\S* broke the protocol in the handshake/, `nbd://127.0.0.1:${nobody?.port}/`],
    [
      /NBD server at nbd\+unix:\S+: the server refused the export 'wrong': NBD_REP_ERR_UNKNOWN/,
      `nbd+unix:///wrong?socket=${nbdkit.socket}`,
    ],
  ]
  const socket = ['--socket', join(pair.folder, 's'), '--create']
  for (const [sentence, uri] of cases) {
    await fails(t, FAILED, sentence, ['serve', '--main', uri, '--spare', pair.spare, ...socket], [pair.spare])
    await fails(t, FAILED, sentence, ['serve', '--main', pair.main, '--spare', uri, ...socket], [pair.main])
  }
})

void t.test('an upstream that can only be read', async (t) => {
  const pair = newPair(t)
  const { uri } = await startNbdkit(t, '-r', 'pattern', '4M')
  const args = ['--socket', join(pair.folder, 's')]
  const serve = ['serve', '--main', uri, '--spare', pair.spare, ...args]
  await fails(t, FAILED, /cannot open nbd\+unix:\S+: it can only be read \(add --read-only\)/, [...serve, '--create'])
  t.equal((await cli(t, 'format', '--main', uri, '--spare', pair.spare)).code, 0)
  const before = digest(pair.spare)
  const server = await Serve.start(t, { ...pair, main: uri }, ['--read-only'])
  t.equal((await server.read(8, 8)).toString('hex'), '0000000000000008')
  await server.end()
  t.equal(digest(pair.spare), before)
})

void t.test('asking a server that is not there', async (t) => {
  const { folder, main } = newPair(t)
  const other = join(folder, 'other')
  await listen(t, { path: other })
  for (const command of ['status', 'stats', 'remaps']) {
    const none = [command, '--control', join(folder, 'none')]
    await fails(t, FAILED, /no server answers on the control socket \S*none: there is no such socket/, none)
    await fails(t, FAILED, /no server answers on the control socket \S*: nobody listens there/, [
      command,
      '--control',
      main,
    ])
    await fails(t, FAILED, /no server answers .*other: \S*other does not speak QMP/, [command, '--control', other])
  }
})
