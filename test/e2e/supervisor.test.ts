/** `serve --supervise`: whatever happens to workers, a client that connects is served by one of them. */

import { once } from 'node:events'
import { connect } from 'node:net'
import t, { type Test } from 'tap'
import type { RemapServer } from '../../qemu/remap-server.js'
import { NbdClient } from '../../src/nbd/client.js'
import { QmpClient } from '../../src/qmp/client.js'
import { MiB } from '../../src/util/units.js'
import { assertIntact, Bench, PROGRAM } from '../support/bench.js'
import { MANY_PROCESSES_TIMEOUT_MS } from '../support/cli.js'
import { run } from '../support/tools.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

async function serve(t: Test): Promise<{ bench: Bench; server: RemapServer }> {
  const bench = await Bench.open(t, { main: 8 * MiB, spare: 16 * MiB })
  const [main, spare] = [bench.image('main'), bench.image('spare')]
  return { bench, server: await bench.startServer({ main, spare, args: ['--create'] }) }
}

/** On a busy machine the next worker takes its time, but a connection that is lost is never answered. */
const connectTo = (server: RemapServer): Promise<NbdClient> =>
  NbdClient.connect(server.uri, { connectTimeoutMs: 120_000 })

/** Resolves when the worker's connections are closed, which is before the supervisor can know that it died. */
const gone = (client: NbdClient): Promise<Error> => client.lost

void t.test('a connection handed to a worker that dies goes to the next one', async (t) => {
  const { server } = await serve(t)
  const first = await connectTo(server)
  await first.write(0, [Buffer.alloc(512, 'before')])
  const pid = await server.workerPid()
  // A worker that stands still is handed connections and cannot take them.
  process.kill(pid, 'SIGSTOP')
  const clients = Array.from({ length: 5 }, () => connectTo(server))
  // The supervisor is single-threaded: once it has accepted this last one, it has handed over all before.
  await accepted(server)
  process.kill(pid, 'SIGKILL')
  for (const client of await Promise.all(clients)) {
    const content = Buffer.alloc(512)
    await client.read(0, content)
    t.same(content, Buffer.alloc(512, 'before'))
    await client.disconnect()
  }
  t.not(await server.workerPid(), pid)
  await gone(first)
})

async function accepted(server: RemapServer): Promise<void> {
  const socket = connect(server.socketPath)
  await once(socket, 'connect')
  socket.destroy()
}

void t.test('a client that reconnects at once is served, again and again', async (t) => {
  const { bench, server } = await serve(t)
  for (let round = 0; round < 4; round++) {
    const client = await connectTo(server)
    const content = Buffer.alloc(512, `round ${round}`)
    await client.write(round * 512, [content])
    process.kill(await server.workerPid(), 'SIGKILL')
    await gone(client)
    const next = await connectTo(server)
    const found = Buffer.alloc(512)
    await next.read(round * 512, found)
    t.same(found, content, `round ${round}`)
    await next.disconnect()
  }
  t.same(await server.stop(), { code: 0, signal: null })
  await assertIntact(t, bench.image('spare'))
})

void t.test('a client may end its side before its replies have come', async (t) => {
  const { server } = await serve(t)
  const program = `
import socket, struct, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
def take(n):
    data = b''
    while len(data) < n:
        more = s.recv(n - len(data)); assert more, 'closed early'; data += more
    return data
take(18); s.sendall(struct.pack('>I', 3))
s.sendall(b'IHAVEOPT' + struct.pack('>II', 1, 0)); take(10)
for n in range(64):
    s.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 0, n, 0, 65536))
s.shutdown(socket.SHUT_WR)
for n in range(64):
    take(16 + 65536)
print('all')`
  t.same(await run('/usr/bin/python3', '-c', program, server.socketPath), { status: 0, stdout: 'all\n', stderr: '' })
})

void t.test('a worker whose supervisor dies stops in good order', async (t) => {
  const { bench, server } = await serve(t)
  const client = await connectTo(server)
  await client.write(0, [Buffer.alloc(4096, 1)])
  const control = await QmpClient.connect(server.controlPath)
  const closed = control.closed
  process.kill(server.process.pid, 'SIGKILL')
  await closed
  await gone(client)
  await assertIntact(t, bench.image('spare'))
})

void t.test('SIGTERM and SIGINT stop supervisor, worker and stand-by', async (t) => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const { bench, server } = await serve(t)
    // As Ctrl-C does it: to all of them at once.
    process.kill(-server.process.pid, signal)
    t.same(await server.process.exited, { code: 0, signal: null }, signal)
    t.throws(() => process.kill(-server.process.pid, 0), { code: 'ESRCH' }, 'nobody is left')
    await assertIntact(t, bench.image('spare'))
  }
})

void t.test('a second server on the same pair is refused, and the first one goes on', async (t) => {
  const { bench, server } = await serve(t)
  const disks = ['--main', bench.image('main'), '--spare', bench.image('spare')]
  const { status, stderr } = await run(
    process.execPath,
    PROGRAM,
    'serve',
    '--supervise',
    ...disks,
    '--listen',
    '127.0.0.1:0',
  )
  t.equal(status, 3)
  t.match(stderr, /is in use by another process/)
  const client = await connectTo(server)
  await client.write(0, [Buffer.alloc(512, 1)])
  await client.disconnect()
})
