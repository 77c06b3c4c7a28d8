import net from 'node:net'
import path from 'node:path'
import t from 'tap'
import {
  CONNECTION_LOST,
  CONNECTION_RESTORED,
  QmpDisconnectedError,
  QmpJob,
  QmpJobError,
  ReconnectingQmpClient,
} from '../../src/qmp/index.js'
import { GREETING, negotiating, scriptedServer, socketDirectory } from '../support/qmp-server.js'

const backOff = { firstMs: 1, maxMs: 1 }
const event = (name: string): string => `{"event": "${name}", "timestamp": {"seconds": 1, "microseconds": 2}}\r\n`

void t.test(
  'queues live on, with marks; commands fail while there is no connection, and are not sent again',
  async (t) => {
    const sockets: net.Socket[] = []
    const server = await scriptedServer(
      t,
      (socket) => {
        sockets.push(socket)
        // Between the loss and the next greeting the test asks its questions.
        if (sockets.length === 1) socket.write(GREETING)
      },
      negotiating((socket, { execute, id }) => {
        if (execute === 'fatal') socket.destroy()
        else socket.write(`{"return": "${String(execute)}", "id": ${String(id)}}\r\n`)
      }),
    )
    await using client = await ReconnectingQmpClient.connect(server.path, { backOff })
    using all = client.events()
    using some = client.events('B')
    using states = client.events(CONNECTION_LOST, CONNECTION_RESTORED)
    t.equal(await client.execute('one'), 'one')
    sockets[0]?.write(event('A'))
    t.match(await all.next(), { event: 'A' })

    await t.rejects(client.execute('fatal'), { name: 'QmpConnectionError', message: /hung up|lost/ })
    for (const queue of [all, some, states])
      t.match(await queue.next(), { event: CONNECTION_LOST, data: { reason: String } })
    t.notOk(client.isConnected)
    const error = await client.execute('two').catch((error: unknown) => error)
    t.ok(error instanceof QmpDisconnectedError)
    t.match(error, { message: /two: .* is not connected: the connection is being made again/ })

    while (sockets.length < 2) await new Promise(setImmediate)
    sockets[1]?.write(GREETING)
    await client.connected
    for (const queue of [all, some, states]) {
      t.match(await queue.next(), { event: CONNECTION_RESTORED, data: { version: { package: 'Debian' } } })
    }
    t.equal(await client.execute('three'), 'three')
    sockets[1]?.write(event('A') + event('B'))
    t.match([await all.next(), await all.next()], [{ event: 'A' }, { event: 'B' }])
    t.match(await some.next(), { event: 'B' })
    t.same(
      server.received.map(({ execute }) => execute),
      ['qmp_capabilities', 'one', 'fatal', 'qmp_capabilities', 'three'],
    )
  },
)

void t.test('it waits for a server that is not there yet', async (t) => {
  const socketPath = path.join(await socketDirectory(t), 's')
  const waiting = ReconnectingQmpClient.connect(socketPath, { backOff })
  const server = net.createServer((socket) => {
    socket.on('error', () => undefined).on('data', () => socket.write('{"return": {}, "id": 1}\r\n'))
    socket.write(GREETING)
  })
  server.listen(socketPath)
  t.teardown(() => server.close())
  const client = await waiting
  t.ok(client.isConnected)
  await client.close()
})

void t.test('close and abort end the waiting, and everything that waits', async (t) => {
  const abort = new AbortController()
  const waiting = ReconnectingQmpClient.connect('/nowhere/at/all', { backOff, signal: abort.signal })
  abort.abort(new Error('enough'))
  await t.rejects(waiting, { name: 'QmpConnectionError', message: /aborted/, cause: { message: 'enough' } })

  const greet = (socket: net.Socket): void => void socket.write(GREETING)
  const server = await scriptedServer(t, greet, negotiating(() => undefined)) // prettier-ignore
  const client = await ReconnectingQmpClient.connect(server.path)
  const queue = client.events()
  const next = queue.next()
  const hanging = client.execute('hang')
  await Promise.all([
    client.close(),
    t.rejects(next, { name: 'QmpConnectionError' }),
    t.rejects(hanging, { name: 'QmpConnectionError' }),
  ])
  await t.rejects(client.execute('late'), { name: 'QmpDisconnectedError', message: /the client was closed/ })
  await t.rejects(client.events().next(), { name: 'QmpConnectionError' })
})

void t.test('a job outlives the connection, and is asked for afterwards', async (t) => {
  const jobs = [[{ id: 'j', status: 'running' }], [{ id: 'j', status: 'concluded', error: 'No space left' }]]
  let connections = 0
  const server = await scriptedServer(
    t,
    (socket) => {
      connections++
      socket.write(GREETING)
    },
    negotiating((socket, { execute, id }) => {
      const answer = execute === 'query-jobs' ? jobs[Math.min(connections, 2) - 1] : {}
      socket.write(`{"return": ${JSON.stringify(answer)}, "id": ${String(id)}}\r\n`)
      if (execute === 'blockdev-backup') socket.destroySoon()
    }),
  )
  await using client = await ReconnectingQmpClient.connect(server.path, { backOff })
  const job = await QmpJob.start(client, 'blockdev-backup', { 'job-id': 'j' })
  await t.rejects(job.finished(), new QmpJobError('blockdev-backup', 'j', 'No space left'))
  t.match(
    server.received.map(({ execute }) => execute),
    ['qmp_capabilities', 'blockdev-backup', 'qmp_capabilities', 'query-jobs', 'query-jobs', 'job-dismiss'],
  )
})
