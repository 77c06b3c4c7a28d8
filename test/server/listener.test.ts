import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import net from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import * as nbd from '../../src/nbd/protocol.js'
import { ListenError } from '../../src/server/listener.js'
import { NbdServer } from '../../src/server/server.js'
import { MemoryDevice } from '../support/memory-device.js'
import { RawClient } from '../../src/conformance/raw-client.js'
import { serve, temporaryDirectory, until } from '../support/nbd-server.js'

function silentServer(t: Test): NbdServer {
  const device = new MemoryDevice(512)
  const server = new NbdServer({ exports: [{ name: 'main', description: '', device, readOnly: false }] })
  t.teardown(() => server.close())
  return server
}

void t.test('several addresses at once, TCP with the port that was chosen', async (t) => {
  const { server, path } = await serve(t)
  const address = await server.listen({ host: '127.0.0.1', port: 0 })
  t.same(server.addresses, [{ path }, address])
  t.ok('port' in address && address.port > 0)
  const socket = net.connect(address as { host: string; port: number })
  t.teardown(() => socket.destroy())
  const greeting = await new Promise<Buffer>((resolve) => socket.once('data', resolve))
  t.equal(nbd.decodeGreeting(greeting), 3)
})

void t.test('a path whose server was killed is taken over', async (t) => {
  const path = join(await temporaryDirectory(t), 's')
  const dead = spawn(process.execPath, [
    '-e',
    `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log())`,
  ])
  await new Promise((resolve) => dead.stdout.once('data', resolve))
  dead.kill('SIGKILL')
  await new Promise((resolve) => dead.once('close', resolve))
  t.ok(existsSync(path))
  t.same(await silentServer(t).listen({ path }), { path })
  const client = await RawClient.connect(path)
  client.socket.destroy()
})

void t.test('a path that another server listens on is refused', async (t) => {
  const { path, connect } = await serve(t)
  await t.rejects(silentServer(t).listen({ path }), new ListenError(`${path} is already in use by a running server`))
  await (await connect()).go()
})

void t.test('a file that is not a socket is refused and left alone', async (t) => {
  const path = join(await temporaryDirectory(t), 'file')
  await writeFile(path, 'precious')
  await t.rejects(
    silentServer(t).listen({ path }),
    new ListenError(`${path} exists and is not a socket: it is left as it is`),
  )
  t.equal(await readFile(path, 'utf8'), 'precious')
})

void t.test('addresses that cannot be are refused with a reason', async (t) => {
  const directory = await temporaryDirectory(t)
  await t.rejects(
    silentServer(t).listen({ path: join(directory, 'no', 's') }),
    /cannot listen on .*: its folder does not exist$/,
  )
  await t.rejects(silentServer(t).listen({ host: '192.0.2.1', port: 1 }), /this machine does not have that address$/)
  await t.rejects(silentServer(t).listen({ path: `/${'x'.repeat(107)}` }), /longer than 107 bytes/)
  await t.rejects(silentServer(t).listen({ host: '127.0.0.1', port: 99_999 }), ListenError)
  await t.rejects(silentServer(t).listen({ fd: 9999 }), ListenError)
})

void t.test('closing removes the path', async (t) => {
  const { path, server } = await serve(t)
  t.ok(existsSync(path))
  await server.close()
  t.notOk(existsSync(path))
})

void t.test('an inherited listening socket is served, and left for the next process', async (t) => {
  const path = join(await temporaryDirectory(t), 's')
  // The parent holds the socket and runs one server after the other on descriptor 3, as a supervisor does.
  const parent = `
import os, socket, subprocess, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(8)
os.dup2(s.fileno(), 3)
for _ in range(2):
    subprocess.run([sys.argv[2], '--input-type=module', '-e', sys.argv[3]], pass_fds=[3], check=True)
    print('gone', flush=True)
`
  const server = `
    import { NbdServer } from ${JSON.stringify(import.meta.resolve('../../src/server/server.js'))}
    import { MemoryDevice } from ${JSON.stringify(import.meta.resolve('../support/memory-device.js'))}
    const server = new NbdServer({
      exports: [{ name: '', description: '', device: new MemoryDevice(512), readOnly: false }],
      onClientDisconnected: () => server.close(),
    })
    await server.listen({ fd: 3 })
    console.log('ready', server.addresses[0].path)`
  const child = spawn('/usr/bin/python3', ['-c', parent, path, process.execPath, server], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill())
  const ended = new Promise((resolve) => child.once('close', resolve))
  let printed = ''
  child.stdout.on('data', (data: Buffer) => (printed += data.toString()))
  await until(() => printed.includes('\n'))
  t.equal(printed, `ready ${path}\n`, 'it knows where it listens')
  for (let round = 0; round < 2; round++) {
    const client = await (await RawClient.connect(path)).go({ name: '' })
    client.request(nbd.NBD_CMD_FLUSH)
    t.equal((await client.receiveSimpleReply()).error, 0, `server ${round + 1}`)
    client.socket.destroy()
    await until(() => printed.split('gone').length === round + 2)
  }
  t.equal(await ended, 0)
})
