/** The program over a real storage daemon, whose monitor serves one client. */

import { existsSync, readFileSync, statSync } from 'node:fs'
import { once } from 'node:events'
import path from 'node:path'
import t, { type Test } from 'tap'
import WebSocket from 'ws'
import { CONNECTION_LOST, CONNECTION_RESTORED, loadSchema, parseAddress, QmpClient } from '../../src/qmp/index.js'
import { cli, newFolder, newPair, Program } from '../support/cli.js'
import { storageDaemonMonitor } from '../support/qemu-monitor.js'

/** A daemon that listens at `monitor`; it ends with the test, or when it is told to `quit`. */
async function daemon(t: Test, monitor: string): Promise<void> {
  const more = ['--chardev', `socket,id=s,path=${monitor},server=on,wait=off`, '--monitor', 'chardev=s']
  // Its greeting says that all monitors are up.
  const control = await storageDaemonMonitor(t, ...more)
  t.teardown(() => control.close())
}

interface Announcement {
  readonly address: string
  readonly version: unknown
  readonly listen: readonly string[]
}

async function share(t: Test, ...args: string[]): Promise<{ program: Program; listen: readonly string[] }> {
  const program = new Program(t, ['qmp-share', '--json', ...args])
  await program.until(() => program.stdout.endsWith('\n'), 'it says where it listens')
  const { listen } = JSON.parse(program.stdout) as Announcement
  return { program, listen }
}

const connect = async (t: Test, address: string): Promise<QmpClient> => {
  const client = await QmpClient.connect(parseAddress(address))
  t.teardown(() => client.close())
  return client
}

void t.test('unix, TCP and WebSocket clients share a monitor; what they say is recorded', async (t) => {
  const folder = newFolder(t)
  const [monitor, socket, record] = ['m', 's', 'r.jsonl'].map((name) => path.join(folder, name)) as [
    string,
    string,
    string,
  ]
  await daemon(t, monitor)
  const addresses = ['--listen', socket, '--listen', '127.0.0.1:0', '--listen', 'ws://127.0.0.1:0/qmp']
  const { program, listen } = await share(t, monitor, ...addresses, '--record', record)
  t.equal(listen.length, 3)
  t.equal(statSync(socket).mode & 0o777, 0o600)
  t.equal(statSync(record).mode & 0o777, 0o600)

  const clients = await Promise.all(listen.map((address) => connect(t, address)))
  const queues = clients.map((client) => client.events('JOB_STATUS_CHANGE'))
  const [first, ...others] = clients as [QmpClient, ...QmpClient[]]
  await first.execute('blockdev-add', { driver: 'null-co', 'node-name': 'n', size: 1048576 })
  for (const client of others) t.match(await client.execute('query-named-block-nodes'), [{ 'node-name': 'n' }])
  for (const client of clients) t.ok((await loadSchema(client, { directory: undefined })).commands.has('blockdev-add'))
  const options = { driver: 'file', filename: path.join(folder, 'new'), size: 1048576 }
  await first.execute('blockdev-create', { 'job-id': 'j', options })
  for (const queue of queues) t.match((await queue.next()).data, { id: 'j', status: 'created' })

  t.same(await program.end(), { code: 0, signal: null })
  t.notOk(existsSync(socket))
  const lines = readFileSync(record, 'utf8').trimEnd().split('\n')
  const entries = lines.map((line) => JSON.parse(line) as Record<string, unknown>)
  for (const entry of entries)
    t.match(entry, { time: /^\d{4}-.*Z$/, direction: /^(command|reply|event)$/, message: {} })
  t.equal(entries.filter(({ message }) => (message as { execute?: string }).execute === 'blockdev-add').length, 1)
  t.match(
    entries.find(({ direction }) => direction === 'event'),
    {
      client: undefined,
      message: { event: 'JOB_STATUS_CHANGE', data: { id: 'j' } },
    },
  )
})

void t.test('with --reconnect it waits for the monitor, and for the next one', async (t) => {
  const folder = newFolder(t)
  const [monitor, socket] = ['m', 's'].map((name) => path.join(folder, name)) as [string, string]
  const program = new Program(t, ['qmp-share', monitor, '--listen', socket, '--reconnect'])
  await program.until(() => program.stderr.includes('trying again'), 'it misses the monitor')
  await daemon(t, monitor)
  const client = await connect(t, socket)
  using queue = client.events()
  await client.execute('quit')
  t.match(await queue.next(), { event: CONNECTION_LOST })
  await t.rejects(client.execute('query-jobs'), /is not connected: the command was not sent/)
  await daemon(t, monitor)
  t.match(await queue.next(), { event: CONNECTION_RESTORED, data: { version: { qemu: { major: Number } } } })
  t.same(await client.execute('query-jobs'), [])
  t.same(await program.end('SIGINT'), { code: 0, signal: null })
})

void t.test('without --reconnect it ends when there is no monitor, or no more', async (t) => {
  const folder = newFolder(t)
  const [monitor, socket] = ['m', 's'].map((name) => path.join(folder, name)) as [string, string]
  t.match(await cli(t, 'qmp-share', monitor, '--listen', socket), {
    code: 1,
    stderr: /cannot connect to .*\/m: the socket does not exist/,
  })
  t.notOk(existsSync(socket))
  await daemon(t, monitor)
  const { program } = await share(t, monitor, '--listen', socket)
  const client = await connect(t, socket)
  await client.execute('quit')
  t.match(await program.exited, { code: 1 })
  t.match(program.stderr, /m (hung up|lost)/)
  t.notOk(existsSync(socket))
})

void t.test('the control socket of nbd-remap can be shared, too', async (t) => {
  const { folder, main, spare } = newPair(t)
  const [control, socket] = ['c', 's'].map((name) => path.join(folder, name)) as [string, string]
  const disks = ['--main', main, '--spare', spare, '--create']
  const server = new Program(t, ['serve', ...disks, '--socket', path.join(folder, 'disk'), '--control', control])
  await server.until(() => server.stdout.includes('nbd+unix'), 'it serves')
  await share(t, control, '--listen', socket)
  const [first, second] = await Promise.all([connect(t, socket), connect(t, socket)])
  using queue = second.events('REMAP_ADDED')
  await first.execute('remap-add', { 'main-sector': 8, sectors: 8 })
  t.match((await queue.next()).data, { 'main-sector': 8 })
  t.match(await cli(t, 'status', '--control', socket), { code: 0, stdout: /remaps: +1/ })
})

void t.test('web pages are kept off the WebSocket', async (t) => {
  const folder = newFolder(t)
  const monitor = path.join(folder, 'm')
  await daemon(t, monitor)
  const { listen } = await share(t, monitor, '--listen', 'ws://127.0.0.1:0/qmp')
  const url = listen[0] ?? ''
  const refusals: [string, WebSocket.ClientOptions, RegExp][] = [
    [url, { origin: 'http://example.org' }, /403/],
    [url, { headers: { host: 'rebound.example.org' } }, /421/],
    [`${url}/other`, {}, /404/],
  ]
  for (const [address, options, message] of refusals) {
    const [error] = (await once(new WebSocket(address, options), 'error')) as [Error]
    t.match(error.message, message)
  }
  t.equal((await fetch(url.replace('ws:', 'http:'))).status, 426)
})

void t.test('addresses that cannot be meant', async (t) => {
  const refused = async (address: string, stderr: RegExp): Promise<void> => {
    t.match(await cli(t, 'qmp-share', 'm', '--listen', address), { code: 2, stderr })
  }
  await refused('0.0.0.0:1', /only a loopback address is possible/)
  await refused('ws://192.0.2.1:1/', /only a loopback address is possible/)
  await refused('wss://127.0.0.1:1/', /TLS is for a proxy/)
  t.match(await cli(t, 'qmp-share', 'm'), { code: 2, stderr: /--listen/ })
  const folder = newFolder(t)
  const nowhere = path.join(folder, 'no', 's')
  t.match(await cli(t, 'qmp-share', 'm', '--listen', nowhere), { code: 1, stderr: /folder does not exist.*--listen/ })
  const record = ['--listen', path.join(folder, 's'), '--record', path.join(folder, 'no', 'r')]
  t.match(await cli(t, 'qmp-share', 'm', ...record), {
    code: 1,
    stderr: /cannot record to .*: its folder does not exist/,
  })
})
