/** The client against the programs that it is for. */

import path from 'node:path'
import t from 'tap'
import { QmpClient, QmpCommandError } from '../../src/qmp/index.js'
import { qemuMonitor, storageDaemonMonitor } from '../support/qemu-monitor.js'
import { socketDirectory } from '../support/qmp-server.js'

void t.test('QEMU: status, events, errors, the whole schema', async (t) => {
  await using client = await qemuMonitor(t)
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
  // Its greeting says that all monitors are up.
  await using control = await qemuMonitor(t, `-qmp unix:${monitor},server=on,wait=off`)
  t.match(await control.execute('query-status'), { running: false })
  const first = await QmpClient.connect(monitor)
  await t.rejects(QmpClient.connect(monitor, { connectTimeoutMs: 500 }), { message: /is another client connected/ })
  await first.close()
  await using next = await QmpClient.connect(monitor)
  t.match(await next.execute('query-name'), {})
})

void t.test('qemu-storage-daemon: block nodes by QMP', async (t) => {
  await using client = await storageDaemonMonitor(t)
  await client.execute('blockdev-add', { driver: 'null-co', 'node-name': 'n', size: 1024 * 1024 })
  t.match(await client.execute('query-named-block-nodes', { flat: true }), [{ 'node-name': 'n', drv: 'null-co' }])
  await client.execute('quit')
  t.match(await client.closed, { name: 'QmpConnectionError' })
})
