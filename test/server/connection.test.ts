import { spawn } from 'node:child_process'
import net from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import * as nbd from '../../src/nbd/protocol.js'
import type { ClientInfo } from '../../src/server/connection.js'
import { KiB, MiB } from '../../src/util/units.js'
import { RawClient } from '../../src/conformance/raw-client.js'
import { serve, temporaryDirectory, until } from '../support/nbd-server.js'

/** A promise, and the function that resolves it. */
function gate(): { opened: Promise<void>; open: () => void } {
  let open: () => void = () => undefined
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { opened, open }
}

void t.test('DISC is not answered, what came before it is', async (t) => {
  const { connect, device } = await serve(t)
  const client = await (await connect()).go()
  const slow = gate()
  device.before = () => slow.opened
  client.request(nbd.NBD_CMD_WRITE, { cookie: 5n, length: 4 }, Buffer.from('last'))
  client.request(nbd.NBD_CMD_DISC, { cookie: 6n })
  client.request(nbd.NBD_CMD_WRITE, { cookie: 7n, length: 4 }, Buffer.from('late'))
  await until(() => device.calls.length > 0)
  slow.open()
  t.equal((await client.receiveAll()).toString('hex'), '67446698000000000000000000000005')
  t.equal(device.data.toString('utf8', 0, 4), 'last')
  t.equal(device.calls.length, 1, 'what comes after DISC is ignored')
})

void t.test('a client that only shuts down its sending side gets its replies', async (t) => {
  const { connect, device, server } = await serve(t)
  const client = await (await connect()).go()
  const slow = gate()
  device.before = () => slow.opened
  client.request(nbd.NBD_CMD_FLUSH, { cookie: 5n })
  client.send('25609513') // the beginning of a request that never comes
  client.socket.end()
  await until(() => device.calls.length > 0)
  slow.open()
  t.equal((await client.receiveAll()).toString('hex'), '67446698000000000000000000000005')
  await until(() => server.clients.length === 0)
})

void t.test('a disconnect anywhere in a header or a payload leaves nothing behind', async (t) => {
  const { connect, device, server } = await serve(t)
  const request = { flags: 0, type: nbd.NBD_CMD_WRITE, cookie: 1n, offset: 0, length: 600 }
  const message = Buffer.concat([nbd.encodeRequest(request), Buffer.alloc(600, 'x')])
  for (const cut of [1, 27, 28, 29, 300, 627]) {
    const client = await (await connect()).go()
    client.send(message.subarray(0, cut))
    if (cut % 2 === 0) client.socket.end()
    else client.socket.destroy()
    await until(() => server.clients.length === 0)
  }
  t.equal(server.bytesInFlight, 0)
  t.same(device.calls, [], 'half a write is no write')
})

void t.test('a client that vanishes does not cancel what the device does for it', async (t) => {
  const { connect, device, server } = await serve(t)
  const client = await (await connect()).go()
  const slow = gate()
  device.before = () => slow.opened
  client.request(nbd.NBD_CMD_WRITE, { length: 4 }, Buffer.from('kept'))
  client.request(nbd.NBD_CMD_READ, { length: 4096 })
  await until(() => device.calls.length === 2)
  client.socket.destroy()
  const other = await (await connect()).go()
  t.equal(server.bytesInFlight, 4100, 'their buffers are in use')
  slow.open()
  await until(() => server.clients.length === 1)
  t.equal(server.bytesInFlight, 0)
  t.equal(device.data.toString('utf8', 0, 4), 'kept')
  other.request(nbd.NBD_CMD_FLUSH)
  t.equal((await other.receiveSimpleReply()).error, 0)
})

void t.test('a client that does not read its replies is not read from either', async (t) => {
  const limits = { bytesInFlightMax: 4 * MiB }
  const { connect, device, server } = await serve(t, { limits }, 2 * MiB)
  const greedy = await (await connect()).go()
  greedy.socket.pause()
  const requests = 200
  for (let i = 0; i < requests; i++) greedy.request(nbd.NBD_CMD_READ, { cookie: BigInt(i), length: MiB })
  await until(() => server.bytesInFlight >= 4 * MiB)
  const healthy = await (await connect()).go()
  for (let i = 0; i < 50; i++) {
    healthy.request(nbd.NBD_CMD_READ, { offset: i, length: 512 })
    t.equal((await healthy.receiveSimpleReply()).error, 0)
    await healthy.receive(512)
  }
  const reads = device.calls.filter(({ length }) => length === MiB).length
  t.ok(reads < 10, `${reads} of ${requests} reads were begun`)
  t.ok(server.bytesInFlight <= 6 * MiB)
  greedy.socket.resume()
  for (let i = 0; i < requests; i++) {
    if ((await greedy.receiveSimpleReply()).cookie !== BigInt(i)) t.fail('a reply is missing')
    await greedy.receive(MiB)
  }
  await until(() => server.bytesInFlight === 0)
})

void t.test('tiny requests are bounded by their number', async (t) => {
  const { connect, device, server } = await serve(t, { limits: { requestsInFlightMax: 4 } })
  const client = await (await connect()).go()
  const slow = gate()
  device.before = () => slow.opened
  for (let i = 0; i < 10; i++) client.request(nbd.NBD_CMD_FLUSH, { cookie: BigInt(i) })
  await until(() => device.calls.length === 4)
  const other = await (await connect()).go()
  other.request(nbd.NBD_CMD_CACHE)
  await other.receiveSimpleReply()
  t.equal(device.calls.length, 4)
  t.equal(server.clients[0]?.requestsInFlight, 4)
  slow.open()
  for (let i = 0; i < 10; i++) t.equal((await client.receiveSimpleReply()).cookie, BigInt(i))
})

void t.test('all clients together are bounded, and none is stopped by the others', async (t) => {
  const limits = { bytesOwnMax: 4 * KiB, bytesSharedMax: 4 * KiB }
  const { connect, device, server } = await serve(t, { limits })
  const slow = gate()
  device.before = ({ offset }) => (offset === 0 ? slow.opened : undefined)
  const greedy = await (await connect()).go()
  for (let i = 0; i < 5; i++) greedy.request(nbd.NBD_CMD_READ, { cookie: BigInt(i), length: 4 * KiB })
  await until(() => server.bytesInFlight === 8 * KiB)
  const modest = await (await connect()).go()
  for (let i = 0; i < 5; i++) modest.request(nbd.NBD_CMD_READ, { cookie: BigInt(i), offset: 512, length: 4 * KiB })
  for (let i = 0; i < 5; i++) {
    t.equal((await modest.receiveSimpleReply()).cookie, BigInt(i))
    await modest.receive(4 * KiB)
  }
  t.equal(device.calls.filter(({ offset }) => offset === 0).length, 2)
  slow.open()
  for (let i = 0; i < 5; i++) {
    t.equal((await greedy.receiveSimpleReply()).cookie, BigInt(i))
    await greedy.receive(4 * KiB)
  }
  await until(() => server.bytesInFlight === 0)
})

void t.test('a payload counts before it is read, and what cannot be counted is not read', async (t) => {
  const limits = { bytesOwnMax: 4 * KiB, bytesSharedMax: MiB }
  const { connect, device, server } = await serve(t, { limits }, 4 * MiB)
  const first = await (await connect()).go()
  first.request(nbd.NBD_CMD_WRITE, { length: MiB }, Buffer.alloc(100))
  await until(() => server.bytesInFlight === MiB)
  const second = await (await connect()).go()
  second.request(nbd.NBD_CMD_WRITE, { offset: MiB, length: MiB }, Buffer.alloc(MiB, '2'))
  const third = await (await connect()).go()
  third.request(nbd.NBD_CMD_READ, { length: 4 * KiB })
  t.equal((await third.receiveSimpleReply()).error, 0, 'what a client has for itself is enough for others')
  await third.receive(4 * KiB)
  await until(() => server.bytesInFlight === MiB)
  t.ok(second.socket.bytesWritten - second.socket.writableLength < MiB, 'most of its payload is still with the client')
  t.equal(device.calls.length, 1)
  first.send(Buffer.alloc(MiB - 100, '1'))
  t.equal((await first.receiveSimpleReply()).error, 0)
  t.equal((await second.receiveSimpleReply()).error, 0)
  t.equal(device.data.toString('utf8', 2 * MiB - 2, 2 * MiB), '22')
  await until(() => server.bytesInFlight === 0)
})

void t.test('the largest requests are served one at a time', async (t) => {
  const limits = { bytesOwnMax: 4 * KiB, bytesSharedMax: 64 * KiB, bytesInFlightMax: 64 * KiB }
  const { connect, device, server } = await serve(t, { limits }, MiB)
  let most = 0
  device.before = () => {
    most = Math.max(most, server.bytesInFlight)
    return new Promise((resolve) => setImmediate(resolve))
  }
  const clients = await Promise.all([1, 2, 3].map(async () => (await connect()).go()))
  for (const client of clients) {
    client.request(nbd.NBD_CMD_READ, { length: MiB })
    client.request(nbd.NBD_CMD_WRITE, { length: MiB }, Buffer.alloc(MiB))
  }
  for (const client of clients) {
    t.equal((await client.receiveSimpleReply()).error, 0)
    await client.receive(MiB)
    t.equal((await client.receiveSimpleReply()).error, 0)
  }
  t.equal(most, MiB)
})

void t.test('a client that makes others wait, and does nothing, is dropped', async (t) => {
  const limits = { bytesOwnMax: 4 * KiB, bytesSharedMax: MiB, stallTimeoutMs: 50, bytesPerMsMin: MiB }
  const { connect, server, lines } = await serve(t, { limits }, 8 * MiB)
  const silent = await (await connect()).go()
  silent.request(nbd.NBD_CMD_WRITE, { length: MiB }, Buffer.alloc(100))
  await until(() => server.bytesInFlight === MiB)
  const other = await (await connect()).go()
  other.request(nbd.NBD_CMD_READ, { length: 2 * MiB })
  t.equal((await silent.receiveAll()).length, 0)
  t.equal((await other.receiveSimpleReply()).error, 0)
  await other.receive(2 * MiB)
  t.match(lines.join('\n'), /client 1 \(unix\): dropped: others waited too long/)

  const deaf = await (await connect()).go()
  deaf.socket.pause()
  deaf.request(nbd.NBD_CMD_READ, { length: 8 * MiB })
  await until(() => server.bytesInFlight === 8 * MiB)
  other.request(nbd.NBD_CMD_READ, { length: 2 * MiB })
  t.equal((await other.receiveSimpleReply()).error, 0)
  await other.receive(2 * MiB)
  t.match(lines.join('\n'), /client 3 \(unix\): dropped: others waited too long/)
  t.equal(server.clients.length, 1)
  await until(() => server.bytesInFlight === 0)
})

void t.test('a client that nobody waits for may take its time', async (t) => {
  const limits = { bytesOwnMax: 4 * KiB, bytesSharedMax: MiB, stallTimeoutMs: 4, bytesPerMsMin: MiB }
  const { connect, server } = await serve(t, { limits }, MiB)
  const slow = await (await connect()).go()
  slow.request(nbd.NBD_CMD_WRITE, { length: MiB }, Buffer.alloc(100))
  await until(() => server.bytesInFlight === MiB)
  const until50 = performance.now() + 50
  await until(() => performance.now() > until50)
  slow.send(Buffer.alloc(MiB - 100))
  t.equal((await slow.receiveSimpleReply()).error, 0)
})

void t.test('a client that asks for options and does not read the answers is not read from', async (t) => {
  const { connect, server } = await serve(t, { limits: { optionsMax: 1e9, handshakeTimeoutMs: 1e6 } })
  const client = await connect()
  await client.greet()
  client.socket.pause()
  const options = Buffer.concat(Array.from({ length: 4096 }, () => nbd.encodeOption(nbd.NBD_OPT_LIST)))
  const rounds = 8
  for (let i = 0; i < rounds; i++) client.send(options)
  const other = await (await connect()).go()
  other.request(nbd.NBD_CMD_FLUSH)
  t.equal((await other.receiveSimpleReply()).error, 0)
  t.ok(client.socket.writableLength > 0, 'not all of it has left the client')
  client.socket.resume()
  for (let i = 0; i < 2 * rounds * 4096; i++) {
    const { type } = await client.receiveOptionReply()
    if (type !== (i % 2 === 0 ? nbd.NBD_REP_SERVER : nbd.NBD_REP_ACK)) t.fail(`answer ${i}`)
  }
  t.equal(server.clients.length, 1)
})

void t.test('close answers what is in flight, then closes the sockets', async (t) => {
  const { connect, device, server, path } = await serve(t)
  const slow = gate()
  device.before = () => slow.opened
  const busy = await (await connect()).go()
  const idle = await (await connect()).go()
  const early = await connect()
  await early.greet()
  busy.request(nbd.NBD_CMD_WRITE, { cookie: 3n, length: 4 }, Buffer.from('done'))
  busy.request(nbd.NBD_CMD_WRITE, { cookie: 4n, length: 4 }, Buffer.from('do'))
  await until(() => device.calls.length === 1)
  const closed = server.close()
  t.equal((await idle.receiveAll()).length, 0)
  t.equal((await early.receiveAll()).length, 0)
  const refused = new Promise((resolve) => net.connect({ path }).once('error', resolve))
  t.match(await refused, { code: 'ENOENT' })
  busy.request(nbd.NBD_CMD_FLUSH)
  slow.open()
  t.equal((await busy.receiveAll()).toString('hex'), '67446698000000000000000000000003')
  await closed
  t.equal(device.calls.length, 1, 'an incomplete request and a later one are not begun')
  t.equal(device.data.toString('utf8', 0, 4), 'done')
})

void t.test('close does not wait for ever for a client that does not read', async (t) => {
  const { connect, device, server } = await serve(t, { limits: { closeTimeoutMs: 50 } }, 8 * MiB)
  const client = await (await connect()).go()
  client.socket.pause()
  client.request(nbd.NBD_CMD_READ, { length: 8 * MiB })
  await until(() => device.calls.length === 1)
  await server.close()
  t.equal(server.bytesInFlight, 0)
})

void t.test('clients are shown, and announced when they come and go', async (t) => {
  const events: [string, ClientInfo][] = []
  const { connect, server } = await serve(t, {
    onClientConnected: (client) => events.push(['connected', client]),
    onClientDisconnected: (client) => events.push(['disconnected', client]),
  })
  const handshaking = await connect()
  await handshaking.greet()
  t.same(server.clients, [])
  const client = await (await connect()).go({ name: '' })
  t.match(server.clients, [{ id: 2, address: 'unix', exportName: 'main', since: Date, requestsInFlight: 0 }])
  handshaking.socket.destroy()
  client.request(nbd.NBD_CMD_DISC)
  await client.receiveAll()
  await until(() => server.clients.length === 0)
  t.match(events, [
    ['connected', { id: 2, exportName: 'main' }],
    ['disconnected', { id: 2 }],
  ])
})

void t.test('when all places are taken a client in its handshake gives way, one that works does not', async (t) => {
  const { connect, server } = await serve(t, { limits: { clientsMax: 2 } })
  const working = await (await connect()).go()
  const waiting = await connect()
  await waiting.greet()
  const newcomer = await (await connect()).go()
  t.equal((await waiting.receiveAll()).length, 0)
  const refused = await connect()
  t.equal((await refused.receiveAll()).length, 0)
  for (const client of [working, newcomer]) {
    client.request(nbd.NBD_CMD_FLUSH)
    t.equal((await client.receiveSimpleReply()).error, 0)
  }
  t.equal(server.clients.length, 2)
})

void t.test('a socket that was accepted elsewhere is served, with what the client has sent already', async (t) => {
  const { server } = await serve(t)
  const path = join(await temporaryDirectory(t), 'p')
  const listener = net.createServer({ pauseOnConnect: true })
  await new Promise<void>((resolve) => listener.listen(path, resolve))
  t.teardown(() => listener.close())
  const accepted = new Promise<net.Socket>((resolve) => listener.once('connection', resolve))
  const client = net.connect({ path })
  t.teardown(() => client.destroy())
  const go = nbd.encodeOption(nbd.NBD_OPT_GO, nbd.encodeInfoRequest({ name: '', infos: [] }))
  await new Promise((resolve) => client.write(Buffer.concat([nbd.encodeClientFlags(3), go]), resolve))
  server.accept(await accepted)
  await until(() => server.clients.length === 1)
  t.match(server.clients, [{ exportName: 'main' }])
})

void t.test('a broken invariant ends the process', async (t) => {
  const path = join(await temporaryDirectory(t), 's')
  const program = `
    import { NbdServer } from ${JSON.stringify(import.meta.resolve('../../src/server/server.js'))}
    import { MemoryDevice } from ${JSON.stringify(import.meta.resolve('../support/memory-device.js'))}
    import { assert } from ${JSON.stringify(import.meta.resolve('../../src/util/assert.js'))}
    const device = new MemoryDevice(512)
    device.before = () => assert(false, 'the table is lost')
    const server = new NbdServer({ exports: [{ name: '', description: '', device, readOnly: false }] })
    await server.listen({ path: ${JSON.stringify(path)} })
    console.log('ready')`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'pipe'] })
  t.teardown(() => child.kill())
  let errors = ''
  child.stderr.on('data', (data: Buffer) => (errors += data.toString()))
  await new Promise((resolve) => child.stdout.once('data', resolve))
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  const client = await (await RawClient.connect(path)).go({ name: '' })
  t.teardown(() => client.socket.destroy())
  client.request(nbd.NBD_CMD_FLUSH)
  t.equal((await client.receiveAll()).length, 0, 'no reply')
  t.not(await ended, 0)
  t.match(errors, /InvariantError: invariant broken: the table is lost/)
})
