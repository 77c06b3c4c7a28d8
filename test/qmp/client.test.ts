import type { Socket } from 'node:net'
import path from 'node:path'
import t from 'tap'
import {
  QmpClient,
  QmpCommandError,
  QmpConnectionError,
  QmpProtocolError,
  QmpTimeoutError,
} from '../../src/qmp/index.js'
import { GREETING, negotiating, scriptedServer, socketDirectory } from '../support/qmp-server.js'

const greet = (socket: Socket): void => {
  socket.write(GREETING)
}
const reply = (socket: Socket, id: number | undefined, value: unknown): void => {
  socket.write(`${JSON.stringify({ return: value, id })}\r\n`)
}

void t.test('connect waits for the greeting and negotiates', async (t) => {
  const server = await scriptedServer(
    t,
    greet,
    negotiating(() => undefined),
  )
  await using client = await QmpClient.connect(server.path)
  t.same(client.greeting.version.qemu, { major: 7, minor: 2, micro: 22 })
  t.match(server.received, [{ execute: 'qmp_capabilities', arguments: undefined }])
})

void t.test('oob is enabled when asked for and offered, and then sent as exec-oob', async (t) => {
  const server = await scriptedServer(
    t,
    greet,
    negotiating((socket, { id }) => {
      reply(socket, id, 'now')
    }),
  )
  await using client = await QmpClient.connect(server.path, { oob: true })
  t.equal(await client.execute('yank', { instances: [] }, { oob: true }), 'now')
  t.match(server.received, [{ arguments: { enable: ['oob'] } }, { 'exec-oob': 'yank' }])
})

void t.test('pipelined commands get their own replies, in whatever order they come', async (t) => {
  const ids: (number | undefined)[] = []
  const server = await scriptedServer(
    t,
    greet,
    negotiating((socket, { id }) => {
      if (ids.push(id) < 3) return
      for (const each of ids.reverse()) reply(socket, each, `reply to ${String(each)}`)
    }),
  )
  await using client = await QmpClient.connect(server.path)
  const replies = await Promise.all(['a', 'b', 'c'].map((name) => client.execute(name)))
  t.same(replies, ['reply to 2', 'reply to 3', 'reply to 4'])
})

void t.test('messages cut at every byte, with events in between, do no harm', async (t) => {
  const event = '{"event": "E", "data": {}, "timestamp": {"seconds": 1, "microseconds": 2}}\r\n'
  const bytewise = (socket: Socket, text: string): void => {
    for (const byte of Buffer.from(text)) socket.write(Buffer.from([byte]))
  }
  const server = await scriptedServer(
    t,
    (socket) => {
      socket.setNoDelay(true)
      bytewise(socket, event + GREETING + event)
    },
    (socket, { id }) => {
      bytewise(socket, `${event}{"return": {}, "id": ${String(id)}}\n${event}`)
    },
  )
  await using client = await QmpClient.connect(server.path)
  using queue = client.events('E')
  await client.execute('x')
  await client.execute('y')
  t.ok(queue.drain().length >= 3)
})

void t.test('an error is thrown with its class and description, and the connection goes on', async (t) => {
  const server = await scriptedServer(
    t,
    greet,
    negotiating((socket, { id, execute }) => {
      if (execute === 'good') reply(socket, id, 1)
      else socket.write(`{"id": ${String(id)}, "error": {"class": "CommandNotFound", "desc": "no such"}}\r\n`)
    }),
  )
  await using client = await QmpClient.connect(server.path)
  const error = await client.execute('bad').catch((error: unknown) => error)
  t.match(error, { command: 'bad', errorClass: 'CommandNotFound', desc: 'no such', message: 'bad: no such' })
  t.ok(error instanceof QmpCommandError)
  t.equal(await client.execute('good'), 1)
})

void t.test('a command times out, and its late reply is not taken for another', async (t) => {
  let late: (() => void) | undefined
  const server = await scriptedServer(
    t,
    greet,
    negotiating((socket, { id, execute }) => {
      if (execute === 'slow') {
        late = () => {
          reply(socket, id, 'slow')
        }
        return
      }
      late?.()
      reply(socket, id, 'fast')
    }),
  )
  await using client = await QmpClient.connect(server.path)
  await t.rejects(client.execute('slow', {}, { timeoutMs: 5 }), QmpTimeoutError)
  t.equal(await client.execute('fast', {}, { timeoutMs: Infinity }), 'fast')
})

void t.test('when the server hangs up, commands, queues and closed hear of it', async (t) => {
  const server = await scriptedServer(
    t,
    greet,
    negotiating((socket) => socket.destroy()),
  )
  const client = await QmpClient.connect(server.path)
  const queue = client.events('STOP')
  await t.rejects(client.execute('quit'), QmpConnectionError)
  await t.rejects(queue.next(), QmpConnectionError)
  t.match(await client.closed, /hung up/)
  await t.rejects(client.execute('again'), QmpConnectionError)
  await t.rejects(client.events().next(), QmpConnectionError)
  await client.close()
})

void t.test('close ends what waits, and closed says that it was wanted', async (t) => {
  const server = await scriptedServer(
    t,
    greet,
    negotiating(() => undefined),
  )
  const client = await QmpClient.connect(server.path)
  const waiting = t.rejects(client.execute('slow'), /was closed/)
  await client.close()
  await waiting
  t.equal(await client.closed, undefined)
})

void t.test('connect says why it failed', async (t) => {
  const nothing = path.join(await socketDirectory(t), 'nothing')
  await t.rejects(QmpClient.connect(nothing), {
    name: 'QmpConnectionError',
    message: /cannot connect to .*: the socket does not exist$/,
  })
  await t.rejects(QmpClient.connect({ host: '127.0.0.1', port: 1 }), { message: /127\.0\.0\.1:1: connection refused$/ })

  const silent = await scriptedServer(t, () => undefined)
  await t.rejects(QmpClient.connect(silent.path, { connectTimeoutMs: 200 }), {
    name: 'QmpTimeoutError',
    message: /no greeting/,
  })
  const abort = new AbortController()
  const aborted = QmpClient.connect(silent.path, { signal: abort.signal })
  abort.abort()
  await t.rejects(aborted, { name: 'QmpConnectionError', message: /aborted/ })
  await t.rejects(QmpClient.connect(silent.path, { signal: AbortSignal.abort() }), { message: /aborted/ })

  const gone = await scriptedServer(t, (socket) => socket.end())
  await t.rejects(QmpClient.connect(gone.path), { name: 'QmpConnectionError', message: /hung up/ })
  const full = await scriptedServer(t, (socket) =>
    socket.end('{"error": {"class": "GenericError", "desc": "too many clients"}}\r\n'),
  )
  await t.rejects(QmpClient.connect(full.path), { name: 'QmpConnectionError', message: /refuses: too many clients/ })
})

void t.test('a peer that does not speak QMP is left at once', async (t) => {
  for (const said of ['220 mail ESMTP\r\n', 'NBDMAGIC\0\0\0\0\r\n', '{"a": 1}\r\n', '[]\r\n', '"\x01']) {
    const server = await scriptedServer(t, (socket) => socket.write(said))
    await t.rejects(QmpClient.connect(server.path), QmpProtocolError, JSON.stringify(said))
  }
})
