/** Servers and clients that send anything: the client library and the shared monitor answer with typed errors, or not at all. */

import { once } from 'node:events'
import net from 'node:net'
import path from 'node:path'
import t, { type Test } from 'tap'
import { EVENTS_DROPPED, QmpClient, QmpError, QmpProtocolError, QUEUED_EVENTS_MAX } from '../../src/qmp/index.js'
import type { Random } from '../../src/util/random.js'
import { GREETING, negotiating, scriptedServer, socketDirectory } from '../support/qmp-server.js'
import { seededRandom } from '../support/random.js'
import { RawClient, sharedMonitor } from '../support/shared-monitor.js'

const EVENT =
  '{"event": "NEVER_HEARD_OF", "data": {"a": [1, {"b": null}]}, "timestamp": {"seconds": 1, "microseconds": 2}}\r\n'
const greet = (socket: net.Socket): void => void socket.write(GREETING)

/** A server that says `text`, whatever it is told, and hangs up. */
async function parrot(t: Test, text: () => Buffer | string): Promise<string> {
  const socketPath = path.join(await socketDirectory(t), 's')
  const server = net.createServer((socket) => {
    socket.on('error', () => undefined).resume()
    socket.end(text())
  })
  server.listen(socketPath)
  await once(server, 'listening')
  t.teardown(() => server.close())
  return socketPath
}

void t.test('a greeting of 100 MB is cut off after its first 64 KiB', async (t) => {
  const chunk = Buffer.alloc(64 * 1024, 'x')
  const length = 100 * 1024 * 1024
  let sent = 0
  const server = await scriptedServer(t, (socket) => {
    socket.write('{"QMP": {"version": "')
    const more = (): void => {
      while (sent < length && !socket.destroyed && socket.write(chunk)) sent += chunk.length
    }
    socket.on('drain', more)
    more()
  })
  const error = await QmpClient.connect(server.path).catch((error: unknown) => error)
  t.ok(error instanceof QmpProtocolError)
  t.match(error, { message: /does not speak QMP: message is longer than 65536 bytes/ })
  t.ok(sent < 4 * 1024 * 1024, `${sent} bytes were taken`)
})

void t.test('half a line, and the server is gone', async (t) => {
  for (const length of [0, 1, 20, GREETING.length - 3]) {
    const address = await parrot(t, () => GREETING.slice(0, length))
    await t.rejects(QmpClient.connect(address), { name: 'QmpConnectionError', message: /hung up|lost/ })
  }
})

void t.test('garbage in the midst of a session ends it for all that wait, with what was said', async (t) => {
  const server = await scriptedServer(
    t,
    greet,
    negotiating((socket) => {
      socket.write(`${EVENT}Segmentation fault\r\n`)
    }),
  )
  const client = await QmpClient.connect(server.path)
  using queue = client.events()
  await t.rejects(client.execute('x'), { name: 'QmpProtocolError', message: /not JSON: Segmentation/ })
  t.match(await queue.next(), { event: 'NEVER_HEARD_OF', data: { a: [1, { b: null }] } })
  await t.rejects(queue.next(), QmpProtocolError)
  t.match(await client.closed, { name: 'QmpProtocolError' })
})

void t.test('a flood of events that nobody reads is kept to a limit, and counted', async (t) => {
  const server = await scriptedServer(
    t,
    greet,
    negotiating((socket, { id }) => {
      socket.write(`${EVENT.repeat(5 * QUEUED_EVENTS_MAX)}{"return": {}, "id": ${String(id)}}\r\n`)
    }),
  )
  await using client = await QmpClient.connect(server.path)
  using queue = client.events()
  await client.execute('x')
  const [marker, ...events] = queue.drain()
  t.match(marker, { event: EVENTS_DROPPED, data: { count: 4 * QUEUED_EVENTS_MAX } })
  t.equal(events.length, QUEUED_EVENTS_MAX)
})

void t.test('replies that belong to nobody change nothing', async (t) => {
  const strange = ['{}', 'null', '"2"', '-1', '1e400', '2.5', '[2]'].map((id) => `{"return": 1, "id": ${id}}\r\n`)
  const server = await scriptedServer(
    t,
    greet,
    negotiating((socket, { id }) => {
      const own = `{"return": "mine", "id": ${String(id)}}\r\n`
      socket.write(`${strange.join('')}{"return": 1}\r\n{"id": 99, "error": {}}\r\n${own}${own}`)
    }),
  )
  await using client = await QmpClient.connect(server.path)
  t.equal(await client.execute('x'), 'mine')
  t.equal(await client.execute('y'), 'mine')
})

/** Bytes changed, cut out, doubled, or put in. */
function damaged(random: Random, text: string): Buffer {
  let bytes = Buffer.from(text)
  for (let rounds = random.between(1, 4); rounds > 0; rounds--) {
    const at = random.below(bytes.length)
    const length = random.between(1, 30)
    const rest = bytes.subarray(at + length)
    const piece = bytes.subarray(at, at + length)
    const noise = Buffer.from(Array.from({ length }, () => random.below(256)))
    const put = random.pick([
      noise,
      Buffer.concat([piece, piece]),
      Buffer.alloc(0),
      Buffer.from('}'),
      Buffer.from('{"'),
    ])
    bytes = Buffer.concat([bytes.subarray(0, at), put, rest])
  }
  return bytes
}

void t.test('a session that is damaged anywhere ends with a typed error, or is one all the same', async (t) => {
  const random = seededRandom(t)
  const session = `${GREETING}${EVENT}{"return": {}, "id": 1}\r\n${EVENT}{"return": {"a": "b"}, "id": 2}\r\n`
  const address = await parrot(t, () => damaged(random, session))
  for (let round = 0; round < 300; round++) {
    try {
      const client = await QmpClient.connect(address)
      using queue = client.events()
      await client.execute('query-status')
      queue.drain()
      await client.close()
    } catch (error) {
      if (!(error instanceof QmpError)) throw error
    }
  }
  t.pass('nothing else was thrown')
})

void t.test('clients of a shared monitor that send anything do no harm to the others', async (t) => {
  const random = seededRandom(t)
  const server = await scriptedServer(
    t,
    greet,
    negotiating((socket, { id }) => {
      socket.write(`${EVENT}{"return": "done", "id": ${String(id)}}\r\n`)
    }),
  )
  const { share, path: address } = await sharedMonitor(t, { address: server.path })
  const good = await RawClient.negotiated(t, address)
  const said = '{"execute": "qmp_capabilities", "id": 1}\r\n{"execute": "x", "arguments": {"a": ["b"]}, "id": {}}\r\n'
  for (let round = 0; round < 150; round++) {
    const socket = net.connect(address)
    socket.on('error', () => undefined).resume()
    socket.end(damaged(random, said))
    await once(socket, 'close')
    good.send({ execute: 'mine', id: round })
    let message = await good.next()
    while ('event' in message) message = await good.next()
    if (message['id'] !== round || message['return'] !== 'done') throw new Error(JSON.stringify(message))
  }
  t.equal(share.clientCount, 1)
})
