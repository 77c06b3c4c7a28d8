import type { Socket } from 'node:net'
import { once } from 'node:events'
import { setImmediate as nextTurn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { CONNECTION_LOST, CONNECTION_RESTORED, EVENTS_DROPPED, QmpClient } from '../../../src/qmp/index.js'
import { GREETING, negotiating, scriptedServer, type ScriptedServer } from '../../support/qmp-server.js'
import { RawClient, sharedMonitor } from '../../support/shared-monitor.js'

const event = (name: string, data: unknown = {}): string =>
  `${JSON.stringify({ event: name, data, timestamp: { seconds: 1, microseconds: 2 } })}\r\n`

const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await nextTurn()
}

interface Received {
  execute?: string
  id?: number
}

/** A monitor that answers each command with its name, at once or when it is told. */
async function monitor(
  t: Test,
  onCommand: (socket: Socket, command: Received) => void = answer,
): Promise<ScriptedServer & { sockets: Socket[] }> {
  const sockets: Socket[] = []
  const server = await scriptedServer(
    t,
    (socket) => {
      sockets.push(socket)
      socket.write(GREETING)
    },
    negotiating(onCommand),
  )
  return { ...server, sockets }
}

const answer = (socket: Socket, { execute, id }: Received): void => {
  socket.write(`{"return": "${String(execute)}", "id": ${String(id)}}\r\n`)
}

void t.test('each client gets the greeting, its own replies with its own ids, and every event', async (t) => {
  const server = await monitor(t)
  const { path } = await sharedMonitor(t, { address: server.path })
  const clients = Array.from({ length: 3 }, () => new RawClient(t, path))
  for (const client of clients) {
    t.match(await client.next(), { QMP: { version: { qemu: { major: 7 } }, capabilities: ['oob'] } })
    client.send({ execute: 'qmp_capabilities', id: 0 })
    t.same(await client.next(), { return: {}, id: 0 })
  }
  for (const [index, client] of clients.entries()) client.send({ execute: `x${index}`, id: 'same' })
  for (const [index, client] of clients.entries()) t.same(await client.next(), { return: `x${index}`, id: 'same' })
  server.sockets[0]?.write(event('E'))
  for (const client of clients) t.match(await client.next(), { event: 'E' })
  t.equal(server.sockets.length, 1, 'over one connection')
})

void t.test('a client that has not negotiated gets no events and may give no commands', async (t) => {
  const server = await monitor(t)
  const { path } = await sharedMonitor(t, { address: server.path })
  const early = new RawClient(t, path)
  await early.next()
  const client = await RawClient.negotiated(t, path)
  server.sockets[0]?.write(event('E'))
  t.match(await client.next(), { event: 'E' })
  early.send({ execute: 'stop', id: 1 }, { execute: 'qmp_capabilities', arguments: { enable: ['magic'] } })
  t.match(await early.next(), { error: { class: 'CommandNotFound', desc: /capabilities negotiation/ }, id: 1 })
  t.match(await early.next(), { error: { desc: "Capability 'magic' is not available" } })
  early.send({ execute: 'qmp_capabilities' }, { execute: 'qmp_capabilities' })
  t.same(await early.next(), { return: {} })
  t.match(await early.next(), { error: { class: 'CommandNotFound', desc: /already complete/ } })
  t.same(
    server.received.map(({ execute }) => execute),
    ['qmp_capabilities'],
  )
})

void t.test('integers beyond 2^53 pass unharmed, both ways and in events', async (t) => {
  const big = '18446744073709551615'
  let seen = ''
  const server = await monitor(t, (socket, { id }) => {
    socket.write(
      `{"event": "E", "data": {"n": ${big}}, "timestamp": {}}\r\n{"return": {"n": ${big}}, "id": ${String(id)}}\r\n`,
    )
  })
  const { path } = await sharedMonitor(t, { address: server.path })
  const client = await RawClient.negotiated(t, path)
  server.sockets[0]?.on('data', (data: Buffer | string) => (seen += data.toString()))
  client.send(`{"execute": "x", "arguments": {"n": ${big}}, "id": ${big}}`)
  await client.next()
  await client.next()
  t.match(seen, `"arguments": {"n": ${big}}`)
  t.match(client.text, `"data": {"n": ${big}}`)
  t.match(client.text, `{"return": {"n": ${big}}, "id": ${big}}`)
})

void t.test(
  'commands take turns, one at the server at a time, and a long queue does not hold up the others',
  async (t) => {
    const waiting: (() => void)[] = []
    const names: (string | undefined)[] = []
    const server = await monitor(t, (socket, command) => {
      names.push(command.execute)
      waiting.push(() => {
        answer(socket, command)
      })
    })
    const { path } = await sharedMonitor(t, { address: server.path })
    const [busy, modest] = await Promise.all([RawClient.negotiated(t, path), RawClient.negotiated(t, path)])
    busy.send(...Array.from({ length: 20 }, (_, index) => ({ execute: `b${index}` })))
    await until(() => names.length > 0)
    modest.send({ execute: 'm' })
    // Ends when `modest` has its reply; each turn of the server is one reply.
    const reply = modest.next()
    let isAnswered = false
    void reply.then(() => (isAnswered = true))
    let turns = 0
    while (!isAnswered) {
      waiting.shift()?.()
      turns++
      await until(() => isAnswered || waiting.length > 0)
    }
    t.ok(turns <= 4, `answered in turn ${turns}`)
    t.ok(names.length <= 5)
  },
)

void t.test('an out-of-band command overtakes one that hangs', async (t) => {
  const hanging: (() => void)[] = []
  const server = await monitor(t, (socket, command) => {
    const { execute, 'exec-oob': oob } = command as { execute?: string; 'exec-oob'?: string }
    if (execute === 'hang')
      hanging.push(() => { answer(socket, command) }) // prettier-ignore
    else answer(socket, { ...command, execute: oob ?? execute ?? '' })
  })
  const { path } = await sharedMonitor(t, { address: server.path })
  const client = await RawClient.negotiated(t, path, ['oob'])
  client.send({ execute: 'hang', id: 1 }, { 'exec-oob': 'yank', id: 2 })
  t.same(await client.next(), { return: 'yank', id: 2 })
  hanging[0]?.()
  t.same(await client.next(), { return: 'hang', id: 1 })
  const plain = await RawClient.negotiated(t, path)
  plain.send({ 'exec-oob': 'yank', id: 3 })
  t.match(await plain.next(), { error: { desc: "QMP input member 'exec-oob' is unexpected" }, id: 3 })
})

void t.test('what is no command is refused by name, and harms nobody', async (t) => {
  const server = await monitor(t)
  const { path } = await sharedMonitor(t, { address: server.path })
  const client = await RawClient.negotiated(t, path)
  const refusals: [string, RegExp][] = [
    ['garbage\n', /JSON parse error/],
    ['{"execute": "x", "id": 4, "more": 1}', /'more' is unexpected/],
    ['{"id": 5}', /lacks member 'execute'/],
    ['{"execute": 5}', /must be a string/],
    ['{"execute": "x", "arguments": []}', /'arguments' must be an object/],
    ['['.repeat(65) + '\n', /nesting is deeper than 64/],
    [`{"execute": "${'x'.repeat(4 * 1024 * 1024)}"}\n`, /longer than 4194304 bytes/],
  ]
  for (const [text, desc] of refusals) {
    client.send(text)
    t.match(await client.next(), { error: { class: 'GenericError', desc } })
  }
  client.send({ execute: 'good' })
  t.same(await client.next(), { return: 'good' })
  t.same(
    server.received.map(({ execute }) => execute),
    ['qmp_capabilities', 'good'],
  )
})

void t.test('JSON that the server does not take is answered to the client that sent it', async (t) => {
  const server = await monitor(t, (socket, command) => {
    // As QEMU does with half a surrogate pair: it has read no id.
    if (command.execute === 'odd') socket.write('{"error": {"class": "GenericError", "desc": "JSON parse error"}}\r\n')
    else answer(socket, command)
  })
  const { path } = await sharedMonitor(t, { address: server.path })
  const [odd, good] = await Promise.all([RawClient.negotiated(t, path), RawClient.negotiated(t, path)])
  odd.send({ execute: 'odd', id: 1 }, { execute: 'more', id: 2 })
  good.send({ execute: 'mine', id: 3 })
  t.match(await odd.next(), { error: { desc: 'JSON parse error' }, id: 1 })
  t.same(await odd.next(), { return: 'more', id: 2 })
  t.same(await good.next(), { return: 'mine', id: 3 })
})

void t.test('half a line and a hang-up, and a client that goes while its command runs', async (t) => {
  const waiting: (() => void)[] = []
  const server = await monitor(t, (socket, command) => {
    if (command.execute === 'slow')
      waiting.push(() => { answer(socket, command) }) // prettier-ignore
    else answer(socket, command)
  })
  const { path, share } = await sharedMonitor(t, { address: server.path })
  const half = await RawClient.negotiated(t, path)
  half.send('{"execute": "qui')
  half.socket.end()
  t.match(await half.next(), { error: { desc: /unexpected end of input/ } })
  await half.closed

  const leaving = await RawClient.negotiated(t, path)
  const staying = await RawClient.negotiated(t, path)
  leaving.send({ execute: 'slow' })
  await until(() => waiting.length > 0)
  leaving.socket.destroy()
  staying.send({ execute: 'mine', id: 9 })
  waiting[0]?.()
  t.same(await staying.next(), { return: 'mine', id: 9 })
  await until(() => share.clientCount === 1)
})

void t.test('a client that says its last word still gets all replies', async (t) => {
  const server = await monitor(t)
  const { path } = await sharedMonitor(t, { address: server.path })
  const client = new RawClient(t, path)
  client.send({ execute: 'qmp_capabilities' }, { execute: 'a' }, { execute: 'b' })
  client.socket.end()
  await client.closed
  t.match(client.messages.slice(1), [{ return: {} }, { return: 'a' }, { return: 'b' }])
})

void t.test('a client that does not read loses events, with a marker, and the others lose none', async (t) => {
  const server = await monitor(t)
  const { path } = await sharedMonitor(t, { address: server.path, limits: { queuedBytesMax: 64 * 1024 } })
  const slow = await RawClient.negotiated(t, path)
  const good = await RawClient.negotiated(t, path)
  slow.socket.pause()
  const count = 5000
  const filling = 'x'.repeat(1000)
  for (let index = 0; index < count; index++) {
    server.sockets[0]?.write(event('E', { index, filling }))
    // The good one keeps up, a few events behind.
    if (index % 10 !== 9) continue
    for (let read = index - 9; read <= index; read++) {
      const message = (await good.next()) as { data: { index: number } }
      if (message.data.index !== read) throw new Error(`event ${message.data.index} came as number ${read}`)
    }
  }
  slow.socket.resume()
  let [seen, dropped] = [0, 0]
  while (seen + dropped < count) {
    const message = (await slow.next()) as { event: string; data: { count: number } }
    if (message.event === EVENTS_DROPPED) dropped += message.data.count
    else seen++
  }
  t.ok(dropped > 0)
  t.equal(seen + dropped, count)
})

void t.test('more clients than the limit are told so', async (t) => {
  const server = await monitor(t)
  const { path } = await sharedMonitor(t, { address: server.path, limits: { clientsMax: 1 } })
  await RawClient.negotiated(t, path)
  const refused = new RawClient(t, path)
  t.match(await refused.next(), { error: { desc: 'too many clients: 1 is the limit' } })
  await refused.closed
})

void t.test('a web page that pretends to be a client is left', async (t) => {
  const server = await monitor(t)
  const { path } = await sharedMonitor(t, { address: server.path, mayBePage: true })
  const page = new RawClient(t, path)
  page.send('POST / HTTP/1.1\r\n\r\n{"execute": "qmp_capabilities"}{"execute": "quit"}')
  await page.closed
  t.same(
    server.received.map(({ execute }) => execute),
    ['qmp_capabilities'],
  )
})

void t.test('the monitor hangs up: who waits is told that nothing is known, and all is over', async (t) => {
  const server = await monitor(t, (socket) => {
    socket.destroy()
  })
  const { path, share } = await sharedMonitor(t, { address: server.path })
  const client = await RawClient.negotiated(t, path)
  client.send({ execute: 'fatal', id: 1 })
  t.match(await client.next(), {
    error: { desc: /(hung up|lost).*: whether "fatal" was carried out is not known/ },
    id: 1,
  })
  await client.closed
  t.match(await share.closed, { name: 'QmpConnectionError' })
})

void t.test('with reconnect, clients stay: commands fail meanwhile, and events mark the gap', async (t) => {
  const server = await monitor(t)
  const { path } = await sharedMonitor(t, { address: server.path, reconnect: true, backOff: { firstMs: 1, maxMs: 1 } })
  const client = await RawClient.negotiated(t, path)
  server.sockets[0]?.destroy()
  t.match(await client.next(), { event: CONNECTION_LOST, data: { reason: /hung up|lost/ } })
  t.match(await client.next(), { event: CONNECTION_RESTORED, data: { version: { qemu: { major: 7 } } } })
  client.send({ execute: 'again' })
  t.same(await client.next(), { return: 'again' })
})

void t.test('with reconnect, a client that comes before the monitor waits for its greeting', async (t) => {
  const { path, share } = await sharedMonitor(t, { address: '/nowhere/at/all', reconnect: true })
  const client = new RawClient(t, path)
  client.send({ execute: 'qmp_capabilities' })
  await once(client.socket, 'connect')
  await until(() => share.clientCount > 0)
  await share.close()
  await client.closed
  t.same(client.messages, [])
})

void t.test('monitors that speak no QMP end it, with what is wrong', async (t) => {
  const cases: [string, RegExp][] = [
    ['SSH-2.0-OpenSSH_9.2\r\n', /does not speak QMP: not JSON: SSH/],
    ['{"QMP": {}}\r\n', /greeting without member 'version'/],
    [`{"QMP": "${'x'.repeat(100 * 1024)}`, /longer than 65536 bytes/],
    ['{"error": {"class": "GenericError", "desc": "too many clients"}}\r\n', /refuses: too many clients/],
  ]
  for (const [text, reason] of cases) {
    const server = await scriptedServer(t, (socket) => {
      socket.write(text)
    })
    const { share } = await sharedMonitor(t, { address: server.path })
    t.match(await share.closed, { name: /QmpProtocolError|QmpConnectionError/, message: reason })
  }
})

void t.test('events that nobody knows, and replies that nobody waits for, pass or are ignored', async (t) => {
  const server = await monitor(t)
  const { path } = await sharedMonitor(t, { address: server.path })
  const client = await QmpClient.connect(path)
  t.teardown(() => client.close())
  using queue = client.events()
  server.sockets[0]?.write('{"return": 1, "id": 999}\r\n{"return": 2}\r\n{"event": "NEVER_HEARD_OF", "odd": []}\r\n')
  t.match(await queue.next(), { event: 'NEVER_HEARD_OF' })
  t.equal(await client.execute('x'), 'x')
})
