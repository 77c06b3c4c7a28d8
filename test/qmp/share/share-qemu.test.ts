/** A shared monitor of QEMU itself. */

import path from 'node:path'
import t from 'tap'
import { loadSchema, QmpClient } from '../../../src/qmp/index.js'
import { qemuMonitor } from '../../support/qemu-monitor.js'
import { socketDirectory } from '../../support/qmp-server.js'
import { RawClient, sharedMonitor } from '../../support/shared-monitor.js'

void t.test('two clients of one QEMU: events for both, out-of-band commands, human ones, and the schema', async (t) => {
  const monitor = path.join(await socketDirectory(t), 'm')
  // Its greeting says that all monitors are up.
  await using control = await qemuMonitor(t, `-qmp unix:${monitor},server=on,wait=off`)
  const shared = await sharedMonitor(t, { address: monitor })
  await using first = await QmpClient.connect(shared.path, { oob: true })
  await using second = await QmpClient.connect(shared.path)
  t.same(first.greeting, control.greeting)
  using firstQueue = first.events('STOP', 'RESUME')
  using secondQueue = second.events('STOP', 'RESUME')
  await Promise.all([first.execute('cont'), first.execute('stop')])
  for (const queue of [firstQueue, secondQueue]) {
    t.match([await queue.next(), await queue.next()], [{ event: 'RESUME' }, { event: 'STOP' }])
  }
  t.match(await first.execute('query-yank', {}, { oob: true }), [{ type: 'chardev' }, { type: 'chardev' }])
  await t.rejects(second.execute('query-yank', {}, { oob: true }), /'exec-oob' is unexpected/)
  t.match(await second.execute('human-monitor-command', { 'command-line': 'info status' }), /VM status: paused/)
  const schemas = await Promise.all([first, second].map((client) => loadSchema(client, { directory: undefined })))
  for (const { commands } of schemas) t.ok(commands.has('blockdev-add'))
})

void t.test('half a surrogate pair is JSON to us and not to QEMU: only its sender hears of it', async (t) => {
  const monitor = path.join(await socketDirectory(t), 'm')
  await using control = await qemuMonitor(t, `-qmp unix:${monitor},server=on,wait=off`)
  t.match(await control.execute('query-name'), {})
  const shared = await sharedMonitor(t, { address: monitor })
  const client = await RawClient.negotiated(t, shared.path, ['oob'])
  const refused = { error: { class: 'GenericError', desc: /\\ud800 is not a valid Unicode character/ } }
  client.send('{"execute": "query-name", "arguments": {"a": "\\ud800"}, "id": 1}')
  t.match(await client.next(), { ...refused, id: 1 })
  client.send('{"exec-oob": "query-yank", "arguments": {"a": "\\ud800"}, "id": 2}')
  t.match(await client.next(), { ...refused, id: 2 })
  client.send({ execute: 'query-name', id: 3 })
  t.same(await client.next(), { return: {}, id: 3 })
})
