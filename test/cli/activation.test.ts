/**
 * Sockets that whoever starts the server has open already, and the notification of a service manager. The first tests have
 * libnbd start it, as `nbdcopy -- [ nbd-remap serve ... ]` does.
 */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync, readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { NbdClient } from '../../src/nbd/client.js'
import { MAIN_SIZE, PROGRAM, type PairFiles, newPair, pattern } from '../support/cli.js'
import { until } from '../support/nbd-server.js'
import { run, runOk } from '../support/tools.js'

const command = ({ main, spare }: PairFiles, ...args: string[]): string[] => [
  ...[process.execPath, PROGRAM, 'serve', '--main', main, '--spare', spare, '--create', ...args],
]

for (const supervise of [[], ['--supervise']]) {
  void t.test(['libnbd starts it', ...supervise].join(' '), async (t) => {
    const pair = newPair(t)
    const server = ['[', ...command(pair, ...supervise), ']']
    t.equal(await runOk('nbdinfo', '--size', '--', ...server), `${MAIN_SIZE}\n`, 'standard output is not written to')
    const info = JSON.parse(await runOk('nbdinfo', '--json', '--', ...server)) as { exports: Record<string, unknown>[] }
    t.match(info.exports, [{ 'export-name': 'disk', 'export-size': MAIN_SIZE }])
    const out = join(pair.folder, 'out.img')
    await runOk('nbdcopy', '--', ...server, out)
    t.ok(readFileSync(out).equals(pattern(MAIN_SIZE)))
    const changed = await run('nbdcopy', '--flush', '--', out, ...server)
    t.equal(changed.status, 0, changed.stderr)
    t.match(changed.stderr, /stopping: SIGTERM[^]*stopped\n/, 'libnbd ended it, in good order')
    t.match(await runOk(process.execPath, PROGRAM, 'verify', '--spare', pair.spare), /last stop clean/)
  })
}

/**
 * Makes sockets of the kinds given (a path, or a TCP address that is printed), puts them from descriptor 3 on and becomes
 * the command, as systemd does.
 */
const ACTIVATOR = `
import fcntl, os, socket, sys
kinds, command = sys.argv[1].split(','), sys.argv[2:]
high = []
for kind in kinds:
    if kind == 'tcp':
        s = socket.socket()
        s.bind(('127.0.0.1', 0))
        print(s.getsockname()[1], file=sys.stderr, flush=True)
    elif kind == 'datagram':
        s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    elif kind == 'file':
        s = open('/dev/null')
    else:
        s = socket.socket(socket.AF_UNIX)
        s.bind(kind)
    if kind not in ('datagram', 'file'):
        s.listen(8)
    # Out of the way of the descriptors from 3 on, and not closed when the object is collected.
    high.append(fcntl.fcntl(s.fileno(), fcntl.F_DUPFD_CLOEXEC, 64))
    s.close()
for fd, source in enumerate(high, 3):
    os.dup2(source, fd)
os.environ.setdefault('LISTEN_PID', str(os.getpid()))
os.environ.setdefault('LISTEN_FDS', str(len(kinds)))
os.environ['LISTEN_FDNAMES'] = ':'.join(kinds)
os.execv(command[0], command)
`

class Activated {
  readonly pid: number
  readonly exited: Promise<number | null>
  stdout = ''
  stderr = ''

  constructor(
    t: Test,
    kinds: readonly string[],
    server: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ) {
    const args = ['--pdeathsig', 'KILL', '/usr/bin/python3', '-c', ACTIVATOR, kinds.join(','), ...server]
    const child = spawn('setpriv', args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
    this.pid = child.pid ?? 0
    child.stdout.on('data', (data: Buffer) => (this.stdout += data.toString()))
    child.stderr.on('data', (data: Buffer) => (this.stderr += data.toString()))
    this.exited = new Promise((resolve) => child.once('close', resolve))
    t.teardown(async () => {
      child.kill('SIGKILL')
      await this.exited
    })
  }

  /** Of the TCP socket. */
  async port(): Promise<number> {
    await until(() => this.stderr.includes('\n'))
    return Number(this.stderr.split('\n')[0])
  }
}

async function sizeAt(uri: string): Promise<number> {
  const client = await NbdClient.connect(uri, { connectTimeoutMs: 60_000 })
  await client.disconnect()
  return client.size
}

/** Inodes of the sockets that a process has open. */
function socketsOf(pid: number): Set<string> {
  const links = readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`)
    } catch {
      return ''
    }
  })
  return new Set(links.filter((link) => link.startsWith('socket:')))
}

for (const supervise of [[], ['--supervise']]) {
  void t.test(['several sockets, unix and TCP', ...supervise].join(' '), async (t) => {
    const pair = newPair(t)
    const [first, second] = [join(pair.folder, '1'), join(pair.folder, '2')]
    const server = new Activated(t, [first, 'tcp', second], command(pair, ...supervise))
    const port = await server.port()
    for (const uri of [
      `nbd+unix:///?socket=${first}`,
      `nbd+unix:///disk?socket=${second}`,
      `nbd://127.0.0.1:${port}/`,
    ]) {
      t.equal(await sizeAt(uri), MAIN_SIZE, uri)
    }
    process.kill(server.pid, 'SIGTERM')
    t.equal(await server.exited, 0)
    t.equal(server.stdout, '')
    t.match(server.stderr, `serving nbd+unix:///disk?socket=${first}\n`)
    t.ok(existsSync(first), 'the sockets belong to who made them')
  })
}

void t.test('a worker inherits neither the sockets nor the variables', async (t) => {
  const pair = newPair(t)
  const notify = join(pair.folder, 'notify')
  const path = join(pair.folder, '1')
  const server = new Activated(t, [path, 'tcp'], command(pair, '--supervise'), { NOTIFY_SOCKET: notify })
  await until(() => /worker \d+ serves/.test(server.stderr))
  t.equal(await sizeAt(`nbd+unix:///?socket=${path}`), MAIN_SIZE)
  const worker = Number(/worker (\d+) serves/.exec(server.stderr)?.[1])
  const environment = readFileSync(`/proc/${worker}/environ`, 'utf8').split('\0')
  t.same(
    environment.filter((variable) => /^(LISTEN_|NOTIFY_)/.test(variable)),
    [],
  )
  const listening = ['3', '4'].map((fd) => readlinkSync(`/proc/${server.pid}/fd/${fd}`))
  const open = socketsOf(worker)
  for (const socket of listening) t.notOk(open.has(socket), `${socket} is not open in the worker`)
  t.ok(open.size > 0, 'it has others')
})

void t.test('sockets that cannot be meant are refused', async (t) => {
  const pair = newPair(t)
  const refuse = async (sentence: RegExp, code: number, kinds: string[], args: string[], env = {}): Promise<void> => {
    const server = new Activated(t, kinds, command(pair, ...args), env)
    t.equal(await server.exited, code, server.stderr)
    t.match(server.stderr, sentence)
    t.equal(server.stdout, '')
  }
  const path = join(pair.folder, 'x')
  await refuse(/--socket and --listen do not go with sockets that are passed in/, 2, ['tcp'], ['--socket', path])
  await refuse(/LISTEN_FDS is no number of sockets: many/, 2, ['tcp'], [], { LISTEN_FDS: 'many' })
  await refuse(/LISTEN_FDS are for process 1 and this is \d+: start it without a shell or npx/, 2, ['tcp'], [], {
    LISTEN_PID: '1',
  })
  await refuse(/cannot listen on fd 3: /, 1, ['datagram'], [])
  await refuse(/cannot listen on fd 4: /, 1, ['tcp', 'file'], [])
  await refuse(/cannot listen on fd 5: /, 1, ['tcp', 'tcp'], [], { LISTEN_FDS: '3' })
})

void t.test('variables meant for another process change nothing for one that is told where to listen', async (t) => {
  const pair = newPair(t)
  const path = join(pair.folder, 'x')
  const server = new Activated(t, ['tcp'], command(pair, '--socket', path), { LISTEN_PID: '1' })
  await until(() => server.stdout.includes('\n'))
  t.equal(await sizeAt(server.stdout.trim()), MAIN_SIZE)
})

/** Prints the datagrams that arrive, as a service manager takes them: it closes the descriptors that come with them. */
const MANAGER = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print('bound', flush=True)
while True:
    print(s.recv(4096).decode().replace('\\n', ' '), flush=True)
`

for (const supervise of [[], ['--supervise']]) {
  void t.test(['the service manager hears of the start and the stop', ...supervise].join(' '), async (t) => {
    const pair = newPair(t)
    const [path, notify] = [join(pair.folder, '1'), join(pair.folder, 'notify')]
    const manager = spawn('/usr/bin/python3', ['-c', MANAGER, notify], { stdio: ['ignore', 'pipe', 'inherit'] })
    t.teardown(() => manager.kill())
    let heard = ''
    manager.stdout.on('data', (data: Buffer) => (heard += data.toString()))
    await until(() => heard === 'bound\n')
    const server = new Activated(t, [path], command(pair, ...supervise), { NOTIFY_SOCKET: notify })
    await until(() => heard.includes('READY=1'))
    t.match(heard, `READY=1 STATUS=serving nbd+unix:///disk?socket=${path}\n`)
    t.equal(await sizeAt(`nbd+unix:///?socket=${path}`), MAIN_SIZE)
    t.notMatch(heard, /STOPPING/)
    process.kill(server.pid, 'SIGTERM')
    await until(() => heard.includes('STOPPING=1'))
    t.equal(await server.exited, 0)
    t.notMatch(server.stderr, /cannot notify/)
  })
}

void t.test('a service manager that cannot be told is a warning', async (t) => {
  const pair = newPair(t)
  const notify = join(pair.folder, 'nobody')
  const server = new Activated(t, [join(pair.folder, '1')], command(pair), { NOTIFY_SOCKET: notify })
  await until(() => server.stderr.includes('cannot notify'))
  t.match(server.stderr, /warn {2}cannot notify the service manager of READY=1: systemd-notify ended with 1/)
  t.equal(await sizeAt(`nbd+unix:///?socket=${join(pair.folder, '1')}`), MAIN_SIZE)
})
