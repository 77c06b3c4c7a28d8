import { once } from 'node:events'
import { stat } from 'node:fs/promises'
import net from 'node:net'
import path from 'node:path'
import t, { type Test } from 'tap'
import {
  command,
  EVENTS_DROPPED,
  QmpClient,
  QmpMonitor,
  QmpReplyError,
  qmpVersion,
  type MonitorLimits,
} from '../../src/qmp/index.js'
import { socketDirectory } from '../support/qmp-server.js'

interface Monitor {
  readonly monitor: QmpMonitor
  readonly path: string
  /** Lets the oldest command `wait` return. */
  readonly release: () => void
}

async function start(t: Test, limits: Partial<MonitorLimits> = {}): Promise<Monitor> {
  const waiting: (() => void)[] = []
  const monitor = new QmpMonitor({
    version: qmpVersion('nbd-remap', '1.2.3'),
    limits,
    events: { TICK: { description: 'For tests.', data: { n: { kind: 'int' } } } },
    commands: {
      echo: command({
        description: 'Gives back its text.',
        arguments: { text: { kind: 'str' } },
        returns: { kind: 'str' },
        handler: ({ text }) => text,
      }),
      add: command({
        description: 'Adds.',
        arguments: { a: { kind: 'int', min: 0, max: 100 }, b: { kind: 'size', optional: true } },
        returns: { kind: 'object', members: { sum: { kind: 'int' } } },
        handler: ({ a, b = 0 }) => Promise.resolve({ sum: a + b }),
      }),
      refuse: command({
        description: 'Fails.',
        arguments: { how: { kind: 'enum', values: ['reply', 'error'] } },
        handler: ({ how }) => {
          if (how === 'reply') throw new QmpReplyError('no such disk', 'DeviceNotFound')
          throw new Error('it broke')
        },
      }),
      wait: command({
        description: 'Waits.',
        handler: () =>
          new Promise<void>((resolve) => {
            waiting.push(resolve)
            monitor.emit('TICK', { n: -1 })
          }),
      }),
      large: command({
        description: 'A long reply.',
        arguments: { bytes: { kind: 'size' } },
        returns: { kind: 'str' },
        handler: ({ bytes }) => 'x'.repeat(bytes),
      }),
    },
  })
  t.teardown(() => monitor.close(50))
  const socketPath = path.join(await socketDirectory(t), 'm')
  await monitor.listen({ path: socketPath })
  return { monitor, path: socketPath, release: () => waiting.shift()?.() }
}

/** A client that knows nothing: it sends text and collects lines. */
class RawClient {
  readonly socket: net.Socket
  readonly #lines: string[] = []
  #wake: () => void = () => undefined

  constructor(address: string) {
    this.socket = net.connect({ path: address, allowHalfOpen: true })
    let rest = ''
    this.socket.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\r\n')
      rest = lines.pop() ?? ''
      this.#lines.push(...lines)
      this.#wake()
    })
    this.socket
      .on('error', () => undefined)
      .on('end', () => this.socket.end())
      .on('close', () => {
        this.#wake()
      })
  }

  async line(): Promise<unknown> {
    while (this.#lines.length === 0) {
      if (this.socket.closed) throw new Error('the monitor hung up')
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
    return JSON.parse(this.#lines.shift()!) as unknown
  }

  async lines(count: number): Promise<unknown[]> {
    const lines: unknown[] = []
    while (lines.length < count) lines.push(await this.line())
    return lines
  }

  send(text: string | Buffer): void {
    this.socket.write(text)
  }
}

/** Past the greeting and the negotiation. */
async function negotiated(t: Test, address: string): Promise<RawClient> {
  const client = new RawClient(address)
  t.teardown(() => client.socket.destroy())
  client.send('{"execute":"qmp_capabilities"}')
  await client.lines(2)
  return client
}

const error = (desc: string | RegExp, errorClass = 'GenericError') => ({ error: { class: errorClass, desc } })

void t.test('greets with its version and wants to be negotiated with first', async (t) => {
  const { path } = await start(t)
  const client = new RawClient(path)
  t.teardown(() => client.socket.destroy())
  t.same(await client.line(), {
    QMP: { version: { qemu: { major: 1, minor: 2, micro: 3 }, package: 'nbd-remap 1.2.3' }, capabilities: [] },
  })
  client.send('{"execute":"echo","arguments":{"text":"a"}}{"execute":"nope"}')
  const expecting = error("Expecting capabilities negotiation with 'qmp_capabilities'", 'CommandNotFound')
  t.same(await client.lines(2), [expecting, expecting])
  client.send('{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}')
  t.same(await client.line(), error("Capability 'oob' is not available"))
  client.send('{"execute":"qmp_capabilities","id":1}')
  t.same(await client.line(), { return: {}, id: 1 })
  client.send('{"execute":"qmp_capabilities"}')
  t.same(await client.line(), error('Capabilities negotiation is already complete, command ignored', 'CommandNotFound'))
})

void t.test('answers in order, with any id, however the bytes are cut', async (t) => {
  const { path } = await start(t)
  const client = await negotiated(t, path)
  client.socket.setNoDelay(true)
  const ids = [1, 'é', null, [1, { a: null }], { b: '}' }]
  const text = ids
    .map((id) => JSON.stringify({ execute: 'echo', arguments: { text: JSON.stringify(id) }, id }))
    .join('')
  const replies = ids.map((id) => ({ return: JSON.stringify(id), id }))
  client.send(text)
  t.same(await client.lines(ids.length), replies, 'in one piece')
  for (const byte of Buffer.from(text)) client.send(Buffer.from([byte]))
  t.same(await client.lines(ids.length), replies, 'one byte at a time')
  const bytes = Buffer.from(text)
  for (let cut = 1; cut < bytes.length; cut += 7) {
    client.send(bytes.subarray(0, cut))
    await new Promise(setImmediate)
    client.send(bytes.subarray(cut))
    t.same(await client.lines(ids.length), replies, `cut at ${cut}`)
  }
})

void t.test('checks arguments and names the wrong one, as QEMU does', async (t) => {
  const { path } = await start(t)
  const client = await negotiated(t, path)
  for (const [args, desc] of [
    ['{}', "Parameter 'a' is missing"],
    ['{"a": 1, "c": 2}', "Parameter 'c' is unexpected"],
    ['{"a": 1, "__proto__": 2}', "Parameter '__proto__' is unexpected"],
    ['{"a": "1"}', "Invalid parameter type for 'a', expected: integer"],
    ['{"a": 1.5}', "Invalid parameter type for 'a', expected: integer"],
    ['{"a": 9007199254740993}', "Invalid parameter type for 'a', expected: integer"],
    ['{"a": null}', "Invalid parameter type for 'a', expected: integer"],
    ['{"a": 101}', "Parameter 'a' expects a value from 0 to 100"],
    ['{"a": 1, "b": -1}', "Parameter 'b' expects a value of at least 0"],
  ] as const) {
    client.send(`{"execute":"add","arguments":${args}}`)
    t.same(await client.line(), error(desc), args)
  }
  client.send('{"execute":"add","arguments":{"a":1}}{"execute":"add","arguments":{"a":1,"b":2}}')
  t.same(await client.lines(2), [{ return: { sum: 1 } }, { return: { sum: 3 } }])
  for (const name of ['nope', 'constructor', '']) {
    client.send(JSON.stringify({ execute: name }))
    t.same(await client.line(), error(`The command ${name} has not been found`, 'CommandNotFound'))
  }
})

void t.test('what a handler throws is the reply', async (t) => {
  const { path } = await start(t)
  await using client = await QmpClient.connect(path)
  await t.rejects(client.execute('refuse', { how: 'reply' }), { message: 'refuse: no such disk' })
  const refused = await client.execute('refuse', { how: 'reply' }).catch((error: unknown) => error)
  t.match(refused, { errorClass: 'DeviceNotFound' })
  await t.rejects(client.execute('refuse', { how: 'error' }), { message: 'refuse: it broke' })
  t.equal(await client.execute('echo', { text: 'alive' }), 'alive')
})

void t.test('garbage is answered with an error, and the connection goes on', async (t) => {
  const { path } = await start(t)
  const client = await negotiated(t, path)
  const garbage: [string | Buffer, RegExp][] = [
    ['nonsense\n', /^JSON parse error, /],
    ['{"a": tru}', /^JSON parse error, /],
    ['[1]', /must be a JSON object/],
    ['5\n', /must be a JSON object/],
    [']\n', /^JSON parse error, /],
    ['{"execute": "echo\n', /^JSON parse error, control character in a string$/],
    [Buffer.from('{"a": \xff\n', 'latin1'), /^JSON parse error, stray byte 0xff$/],
    [`${'['.repeat(65)}\n`, /^JSON parse error, nesting is deeper than 64$/],
  ]
  for (const [bytes, desc] of garbage) {
    client.send(bytes)
    t.match(await client.line(), error(desc), JSON.stringify(String(bytes)))
    client.send('{"execute":"echo","arguments":{"text":"alive"}}')
    t.same(await client.line(), { return: 'alive' })
  }
})

void t.test('a line of 10 MB is refused, and the connection goes on', async (t) => {
  const { path } = await start(t)
  const client = await negotiated(t, path)
  client.send(`{"execute":"echo","arguments":{"text":"${'x'.repeat(10 * 1024 * 1024)}"}}\n`)
  t.same(await client.line(), error('JSON parse error, message is longer than 1048576 bytes'))
  client.send('{"execute":"echo","arguments":{"text":"alive"}}')
  t.same(await client.line(), { return: 'alive' })
})

void t.test('a client that shuts down its side still gets its replies', async (t) => {
  const { path, release } = await start(t)
  const client = await negotiated(t, path)
  client.socket.end('{"execute":"wait"}{"execute":"echo","arguments":{"text":"last"}}')
  t.match(await client.line(), { event: 'TICK' })
  release()
  t.same(await client.lines(2), [{ return: {} }, { return: 'last' }])
  await t.rejects(client.line(), /hung up/)
})

void t.test('events reach every negotiated client, also while a command of theirs runs', async (t) => {
  const { monitor, path, release } = await start(t)
  monitor.emit('TICK', { n: 0 })
  const [a, b] = [await negotiated(t, path), await negotiated(t, path)]
  const silent = new RawClient(path)
  t.teardown(() => silent.socket.destroy())
  await silent.line()
  a.send('{"execute":"wait"}{"execute":"echo","arguments":{"text":"after"}}')
  t.match(
    [await a.line(), await b.line()],
    [
      { event: 'TICK', data: { n: -1 }, timestamp: { seconds: Number, microseconds: Number } },
      { event: 'TICK', data: { n: -1 } },
    ],
  )
  b.send('{"execute":"echo","arguments":{"text":"not blocked"}}')
  t.same(await b.line(), { return: 'not blocked' })
  monitor.emit('TICK', { n: 2 })
  t.match(await a.line(), { data: { n: 2 } })
  release()
  t.same(await a.lines(2), [{ return: {} }, { return: 'after' }])
  silent.send('{"execute":"qmp_capabilities"}')
  t.same(await silent.line(), { return: {} }, 'no event came before the negotiation')
  t.throws(
    () => {
      monitor.emit('UNKNOWN')
    },
    { name: 'InvariantError' },
  )
})

void t.test('a client that does not read loses events, learns how many, and blocks nobody', async (t) => {
  const { monitor, path } = await start(t, { queuedBytesMax: 100_000 })
  const slow = await negotiated(t, path)
  await using quick = await QmpClient.connect(path)
  using ticks = quick.events('TICK')
  slow.socket.pause()
  const sent = 20_000
  for (let n = 0; n < sent; n++) {
    monitor.emit('TICK', { n })
    if (n % 100 === 0) await quick.execute('echo', { text: 'x' })
  }
  await quick.execute('echo', { text: 'x' })
  ticks.close()
  slow.socket.resume()
  let received = 0
  let dropped = 0
  while (received + dropped < sent) {
    const event = (await slow.line()) as { event: string; data: { count: number; n: number } }
    if (event.event === EVENTS_DROPPED) dropped += event.data.count
    else if (event.data.n === received + dropped) received++
    else t.fail(`event ${event.data.n} came after ${received} received and ${dropped} dropped`)
  }
  t.ok(received > 0, `${received} of ${sent} events received`)
  t.ok(dropped > 0, `${dropped} of ${sent} events dropped`)
  monitor.emit('TICK', { n: -2 })
  t.match(await slow.line(), { event: 'TICK', data: { n: -2 } })
})

void t.test('replies are never dropped: a client that does not read them is not read either', async (t) => {
  const { path, monitor } = await start(t, { queuedBytesMax: 100_000 })
  const client = await negotiated(t, path)
  client.socket.pause()
  const count = 200
  for (let n = 0; n < count; n++) client.send(`{"execute":"large","arguments":{"bytes":100000},"id":${n}}\n`)
  await using other = await QmpClient.connect(path)
  t.equal(await other.execute('echo', { text: 'not blocked' }), 'not blocked')
  client.socket.resume()
  const ids = (await client.lines(count)).map((reply) => (reply as { id: number }).id)
  t.same(
    ids,
    Array.from({ length: count }, (_, n) => n),
  )
  t.equal(monitor.clientCount, 2)
})

void t.test('clients that pour garbage do not keep the others waiting', async (t) => {
  const { path } = await start(t)
  await using good = await QmpClient.connect(path)
  const bad = await Promise.all(Array.from({ length: 2 }, () => negotiated(t, path)))
  const order: string[] = []
  const drained = bad.map(async (client, n) => {
    // Thousands of words in one chunk, each of which is answered.
    client.send(`${'x '.repeat(10_000)}{"execute":"echo","arguments":{"text":"end"}}`)
    await client.lines(10_001)
    order.push(`bad ${n}`)
  })
  for (let n = 0; n < 20; n++) await good.execute('echo', { text: 'x' })
  order.push('good')
  await Promise.all(drained)
  t.equal(order[0], 'good')
})

void t.test('many clients are served, one too many is told so', async (t) => {
  const { path, monitor } = await start(t, { clientsMax: 20 })
  const clients = await Promise.all(Array.from({ length: 20 }, () => QmpClient.connect(path)))
  const replies = await Promise.all(clients.map((client, n) => client.execute('add', { a: n, b: 1000 })))
  t.same(
    replies,
    clients.map((_, n) => ({ sum: n + 1000 })),
  )
  await t.rejects(QmpClient.connect(path), { message: /refuses: too many clients: 20 is the limit/ })
  t.equal(monitor.clientCount, 20)
  await Promise.all(clients.map((client) => client.close()))
  await using next = await QmpClient.connect(path)
  t.equal(await next.execute('echo', { text: 'x' }), 'x')
})

void t.test('the table tells itself: query-commands, query-version, query-qmp-schema', async (t) => {
  const { path } = await start(t)
  await using client = await QmpClient.connect(path)
  t.match(await client.execute('query-version'), { package: 'nbd-remap 1.2.3' })
  const commands = (await client.execute('query-commands')) as { name: string }[]
  t.strictSame(commands.map(({ name }) => name).slice(0, 5), [
    'qmp_capabilities',
    'query-version',
    'query-commands',
    'query-qmp-schema',
    'echo',
  ])
  const schema = (await client.execute('query-qmp-schema')) as Record<string, unknown>[]
  const byName = new Map(schema.map((entry) => [entry['name'], entry]))
  t.equal(byName.size, schema.length, 'names are unique')
  const add = byName.get('add')
  t.match(add, { 'meta-type': 'command', 'allow-oob': false })
  t.same(byName.get(add?.['arg-type']), {
    name: add?.['arg-type'],
    'meta-type': 'object',
    members: [
      { name: 'a', type: 'int' },
      { name: 'b', type: 'size', default: null },
    ],
  })
  t.same(byName.get('int'), { name: 'int', 'meta-type': 'builtin', 'json-type': 'int' })
  t.match(byName.get('TICK'), { 'meta-type': 'event' })
})

void t.test('listens on TCP too; its unix socket is for its owner alone', async (t) => {
  const { monitor, path } = await start(t)
  t.equal((await stat(path)).mode & 0o777, 0o600)
  const address = await monitor.listen({ host: '127.0.0.1', port: 0 })
  if (!('port' in address)) throw new Error('no port')
  await using client = await QmpClient.connect(address)
  t.equal(await client.execute('echo', { text: 'tcp' }), 'tcp')
  await t.rejects(monitor.listen({ path }), { code: 'EADDRINUSE' })
})

void t.test('close lets a running command answer, hangs up, and frees the path', async (t) => {
  const { monitor, path, release } = await start(t)
  const [busy, idle] = [await negotiated(t, path), await negotiated(t, path)]
  busy.send('{"execute":"wait","id":1}')
  t.match(await busy.line(), { event: 'TICK' })
  t.match(await idle.line(), { event: 'TICK' })
  const closed = monitor.close(10_000)
  await t.rejects(idle.line(), /hung up/)
  release()
  t.same(await busy.line(), { return: {}, id: 1 })
  await closed
  t.equal(monitor.clientCount, 0)
  await t.rejects(stat(path), { code: 'ENOENT' })
})

void t.test('close does not wait for ever for a command that hangs', async (t) => {
  const { monitor, path } = await start(t)
  const client = await negotiated(t, path)
  client.send('{"execute":"wait"}')
  await client.line()
  await monitor.close(20)
  await t.rejects(client.line(), /hung up/)
})

void t.test('clients that vanish in the middle of anything disturb nobody', async (t) => {
  const { monitor, path, release } = await start(t)
  for (const said of ['', '{"exec', '{"execute":"qmp_capabilities"}{"execute":"wait"}', 'x'.repeat(100_000)]) {
    const socket = net.connect(path)
    socket.on('error', () => undefined)
    await once(socket, 'connect')
    socket.write(said)
    await new Promise(setImmediate)
    socket.destroy()
  }
  await using client = await QmpClient.connect(path)
  monitor.emit('TICK', { n: 1 })
  release()
  t.equal(await client.execute('echo', { text: 'alive' }), 'alive')
})
