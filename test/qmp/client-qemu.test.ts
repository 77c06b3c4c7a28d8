/** The client against the programs that it is for. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import net from 'node:net'
import path from 'node:path'
import t, { type Test } from 'tap'
import { QmpClient, QmpCommandError } from '../../src/qmp/index.js'
import { socketDirectory } from '../support/qmp-server.js'

/** Starts `program`, which dials the socket that its arguments name, and returns that connection. */
async function start(t: Test, program: string, args: (socket: string) => string[]): Promise<net.Socket> {
  const socket = path.join(await socketDirectory(t), 'q')
  const server = net.createServer().listen(socket)
  t.teardown(() => server.close())
  await once(server, 'listening')
  const child = spawn(program, args(socket), { stdio: 'inherit' })
  const exited = once(child, 'exit')
  t.teardown(async () => {
    child.kill()
    await exited
  })
  const [connection] = (await once(server, 'connection')) as [net.Socket]
  return connection
}

void t.test('QEMU: status, events, errors, the whole schema', async (t) => {
  const socket = await start(t, 'qemu-system-x86_64', (socket) =>
    `-M none -S -nodefaults -display none -qmp unix:${socket}`.split(' '),
  )
  await using client = await QmpClient.attach(socket, 'QEMU', { oob: true })
  t.match(client.greeting.capabilities, ['oob'])
  t.match(await client.execute('query-status'), { running: false })
  using queue = client.events('STOP', 'RESUME')
  await Promise.all([client.execute('cont'), client.execute('stop')])
  t.match(
    [await queue.next({ timeoutMs: 5000 }), await queue.next({ timeoutMs: 5000 })],
    [{ event: 'RESUME', timestamp: { seconds: Number } }, { event: 'STOP' }],
  )
  await t.rejects(
    client.execute('nope'),
    new QmpCommandError('nope', 'CommandNotFound', 'The command nope has not been found'),
  )
  await t.rejects(client.execute('query-status', { a: 1 }), /Parameter 'a' is unexpected/)
  t.ok(((await client.execute('query-qmp-schema')) as unknown[]).length > 500)
  t.match(await client.execute('query-yank', {}, { oob: true }), [{ type: 'chardev' }])
  const shutdown = client.events('SHUTDOWN')
  await client.execute('quit')
  t.match(await shutdown.next({ timeoutMs: 5000 }), { data: { guest: false, reason: 'host-qmp-quit' } })
  t.match(await client.closed, /hung up|lost/)
})

void t.test('QEMU: a second client of the same monitor is told so', async (t) => {
  const monitor = path.join(await socketDirectory(t), 'm')
  const started = await start(t, 'qemu-system-x86_64', (socket) =>
    `-M none -S -nodefaults -display none -qmp unix:${monitor},server=on,wait=off -qmp unix:${socket}`.split(' '),
  )
  // Its greeting says that all monitors are up.
  await using control = await QmpClient.attach(started, 'QEMU')
  t.match(await control.execute('query-status'), { running: false })
  const first = await QmpClient.connect(monitor)
  await t.rejects(QmpClient.connect(monitor, { connectTimeoutMs: 50 }), { message: /is another client connected/ })
  await first.close()
  await using next = await QmpClient.connect(monitor)
  t.match(await next.execute('query-name'), {})
})

void t.test('qemu-storage-daemon: block nodes by QMP', async (t) => {
  const socket = await start(t, 'qemu-storage-daemon', (socket) => [
    '--chardev',
    `socket,id=q,path=${socket}`,
    '--monitor',
    'chardev=q',
  ])
  await using client = await QmpClient.attach(socket, 'storage daemon')
  await client.execute('blockdev-add', { driver: 'null-co', 'node-name': 'n', size: 1024 * 1024 })
  t.match(await client.execute('query-named-block-nodes', { flat: true }), [{ 'node-name': 'n', drv: 'null-co' }])
  await client.execute('quit')
  t.match(await client.closed, { name: 'QmpConnectionError' })
})
