/** Where the control socket can be, and who may use it there. */
import { statSync } from 'node:fs'
import { once } from 'node:events'
import net from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { QmpClient } from '../../src/qmp/client.js'
import { cli, fails, newPair, Serve } from '../support/cli.js'
import { run } from '../support/tools.js'

const USAGE = 2

const tcpPort = (server: Serve): number => Number(/ control socket on 127\.0\.0\.1:(\d+)\n/.exec(server.stderr)?.[1])

void t.test('on a unix socket of its owner, on TCP, and on both at once', async (t) => {
  const server = await Serve.start(t, newPair(t), ['--create', '--control', '127.0.0.1:0'])
  const address = `127.0.0.1:${tcpPort(server)}`
  t.equal(statSync(server.controlPath).mode & 0o777, 0o600)
  for (const control of [server.controlPath, address]) {
    const { stdout } = await cli(t, 'status', '--json', '--control', control)
    t.match(JSON.parse(stdout), { pid: server.pid }, control)
  }
  await using tcp = await QmpClient.connect({ host: '127.0.0.1', port: tcpPort(server) })
  await using unix = await QmpClient.connect(server.controlPath)
  using added = tcp.events('REMAP_ADDED')
  await unix.execute('remap-add', { 'main-sector': 8, sectors: 8 })
  t.match(await added.next({ timeoutMs: 10_000 }), { data: { 'main-sector': 8 } }, 'events reach all clients')
})

void t.test('a web page can not give commands on TCP', async (t) => {
  const server = await Serve.start(t, newPair(t), ['--create', '--control', '127.0.0.1:0'])
  // What a page may send anywhere without being asked: a form, or fetch() with mode no-cors.
  const body = '{"execute":"qmp_capabilities"}\n{"execute":"remap-add","arguments":{"main-sector":8,"sectors":8}}\n'
  const page = net.connect(tcpPort(server), '127.0.0.1')
  page.resume().on('error', () => undefined)
  page.write(`POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
  await once(page, 'close')
  t.equal(await remapsOf(server), 0, 'nothing was carried out')
  await using client = await QmpClient.connect({ host: '127.0.0.1', port: tcpPort(server) })
  await client.execute('remap-add', { 'main-sector': 8, sectors: 8 })
  t.equal(await remapsOf(server), 1, 'while a QMP client may do that')
})

const remapsOf = async (server: Serve): Promise<number> => (await server.ask<{ remaps: number }>('query-status')).remaps

void t.test('addresses that everybody could reach, and that cannot be had, are refused', async (t) => {
  const pair = newPair(t)
  const serve = ['serve', '--main', pair.main, '--spare', pair.spare, '--create', '--socket', join(pair.folder, 's')]
  for (const host of ['0.0.0.0', '[::]', '192.0.2.1', 'example.com']) {
    const args = [...serve, '--control', `${host}:4444`]
    await fails(t, USAGE, /could give commands: only a loopback address is possible/, args, [pair.spare])
  }
  await fails(t, USAGE, /--http serves WebSockets/, [...serve, '--control', 'ws://127.0.0.1:1/qmp'], [pair.spare])
  const server = await Serve.start(t, newPair(t), ['--create', '--control', '127.0.0.1:0'])
  const taken = [...serve, '--control', `127.0.0.1:${tcpPort(server)}`]
  await fails(t, 1, /another process listens there; give another place with --control/, taken, [pair.spare])
  const status = await cli(t, 'status', '--control', '127.0.0.1:1')
  t.match(status.stderr, /no server answers on the control socket 127\.0\.0\.1:1: nobody listens there/)
})

/** Nothing but the standard library of Python. */
const PYTHON = `
import json, socket, sys
file = socket.create_connection(("127.0.0.1", int(sys.argv[1]))).makefile("rw")
assert "QMP" in json.loads(file.readline())
for command in ("qmp_capabilities", "query-status"):
    file.write(json.dumps({"execute": command}) + "\\n")
    file.flush()
    reply = json.loads(file.readline())
print(reply["return"]["pid"])
`

void t.test('a program in another language needs sockets and JSON alone', async (t) => {
  const server = await Serve.start(t, newPair(t), ['--create', '--control', '127.0.0.1:0'])
  const { status, stdout, stderr } = await run('python3', '-c', PYTHON, String(tcpPort(server)))
  t.equal(status, 0, stderr)
  t.equal(Number(stdout), server.pid)
})
