/** `serve --http`, as scrapers, browsers and strangers meet it. */
import { chmodSync, writeFileSync } from 'node:fs'
import { on, once } from 'node:events'
import http from 'node:http'
import net from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { QmpClient } from '../../src/qmp/client.js'
import { fails, MANY_PROCESSES_TIMEOUT_MS, newPair, Program, PROGRAM, Serve } from '../support/cli.js'
import { parsePrometheus } from '../support/prometheus.js'
import { run } from '../support/tools.js'

const USAGE = 2
const TOKEN = 'a-token-for-this-test-alone'
t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

interface Http {
  readonly server: Serve
  readonly port: number
  /** Bearer of the token, unless told otherwise. */
  readonly get: (path: string, headers?: http.OutgoingHttpHeaders, method?: string) => Promise<Reply>
  readonly url: string
}

interface Reply {
  readonly status: number
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

const BEARER = { authorization: `Bearer ${TOKEN}` }
/** Of the worker that serves now. */
const lastPort = ({ stderr }: Program): number =>
  Number([...stderr.matchAll(/ HTTP on http:\/\/127\.0\.0\.1:(\d+)\n/g)].at(-1)?.[1])

function request(port: number, path: string, headers: http.OutgoingHttpHeaders, method = 'GET'): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const sent = http.request({ port, path, headers, method, agent: false }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (text: string) => (body += text))
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body })
      })
    })
    sent.on('error', reject)
    sent.end()
  })
}

async function start(t: Test, ...args: string[]): Promise<Http> {
  const pair = newPair(t)
  const tokenFile = join(pair.folder, 'token')
  writeFileSync(tokenFile, `${TOKEN}\n`, { mode: 0o600 })
  const server = await Serve.start(t, pair, [
    '--create',
    '--http',
    '127.0.0.1:0',
    '--http-token-file',
    tokenFile,
    ...args,
  ])
  const port = lastPort(server)
  const get: Http['get'] = (path, headers = BEARER, method) => request(port, path, headers, method)
  return { server, port, get, url: `ws://127.0.0.1:${port}/qmp` }
}

void t.test('/metrics is what Prometheus reads, and counts what was done', async (t) => {
  const { server, get } = await start(t)
  const client = await server.connect()
  for (let n = 0; n < 3; n++) await client.write(0, [Buffer.alloc(4096)])
  await client.read(0, Buffer.alloc(512))
  await client.flush()
  await server.ask('remap-add', { 'main-sector': 8, sectors: 16 })
  const { status, headers, body } = await get('/metrics')
  t.equal(status, 200)
  t.match(headers, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8', 'cache-control': 'no-store' })
  const families = parsePrometheus(body)
  const value = (name: string, labels: Record<string, string> = {}): number | undefined =>
    [...families.values()]
      .flatMap(({ samples }) => samples)
      .find((it) => it.name === name && Object.entries(labels).every(([label, text]) => it.labels[label] === text))
      ?.value
  t.equal(value('nbd_remap_requests_total', { operation: 'write' }), 3)
  t.equal(value('nbd_remap_requests_total', { operation: 'read' }), 1)
  t.equal(value('nbd_remap_request_bytes_total', { operation: 'write' }), 3 * 4096)
  t.equal(value('nbd_remap_request_duration_seconds_count', { operation: 'write' }), 3)
  t.equal(value('nbd_remap_request_duration_seconds_bucket', { operation: 'flush', le: '+Inf' }), 1)
  const sum = value('nbd_remap_request_duration_seconds_sum', { operation: 'write' }) ?? NaN
  t.ok(sum > 1e-7 && sum < 60, `${sum} s`)
  t.equal(value('nbd_remap_remapped_blocks'), 2)
  t.equal(value('nbd_remap_spare_blocks', { state: 'remapped' }), 2)
  t.equal(value('nbd_remap_events_total', { event: 'REMAP_ADDED' }), 1)
  t.equal(value('nbd_remap_clients'), 1)
  t.equal(value('nbd_remap_health_score'), 100)
  t.equal(value('nbd_remap_data_plane_stalled'), 0)
  const head = await get('/metrics', BEARER, 'HEAD')
  t.match(head, { status: 200, body: '' })
  await client.disconnect()
})

void t.test('without the token there is /healthz, and nothing else', async (t) => {
  const { get } = await start(t)
  const health = await get('/healthz', {})
  t.equal(health.status, 200)
  t.same(JSON.parse(health.body), { status: 'running', health: 'ok', score: 100 })
  for (const path of ['/metrics', '/qmp', '/', '/healthz/../metrics', '/Healthz']) {
    for (const authorization of [undefined, 'Bearer wrong', `Basic ${TOKEN}`, `Bearer ${TOKEN}x`, 'Bearer ']) {
      const reply = await get(path, authorization === undefined ? {} : { authorization })
      t.match(reply, { status: 401, headers: { 'www-authenticate': /^Bearer/ } }, `${path} ${authorization}`)
      t.notMatch(reply.body, TOKEN)
    }
  }
  t.match(await get('/nothing'), { status: 404 })
  t.match(await get('/metrics', BEARER, 'DELETE'), { status: 405, headers: { allow: 'GET, HEAD' } })
  t.match(await get('/qmp'), { status: 426 })
})

void t.test('web pages and names that were made to point here are refused', async (t) => {
  const { get, port, url } = await start(t, '--http-host', 'Nas.example')
  for (const host of ['evil.example', `evil.example:${port}`, '127.0.0.1.evil.example']) {
    t.match(await get('/metrics', { ...BEARER, host }), { status: 421 }, host)
    t.match(await get('/healthz', { host }), { status: 421 }, host)
  }
  for (const host of ['nas.example', `nas.example:${port}`, `localhost:${port}`, '127.0.0.1']) {
    t.match(await get('/metrics', { ...BEARER, host }), { status: 200 }, host)
  }
  for (const origin of ['http://evil.example', 'null', 'http://127.0.0.1', 'http://localhost:1']) {
    t.match(await get('/metrics', { ...BEARER, origin }), { status: 403 }, origin)
    t.equal(await refusalOf(new WebSocket(url, 'qmp', { headers: BEARER, origin })), 403, origin)
  }
  await using client = await openAsPage(port)
  t.equal(client.socket.protocol, 'qmp')
})

/** As a page of this very server does. */
async function openAsPage(port: number): Promise<AsyncDisposable & { socket: WebSocket; next(): Promise<unknown> }> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/qmp`, ['qmp', `bearer.${TOKEN}`], {
    origin: `http://127.0.0.1:${port}`,
  })
  const messages = on(socket, 'message')
  await once(socket, 'open')
  return {
    socket,
    next: async () => JSON.parse(String(((await messages.next()) as { value: unknown[] }).value[0])) as unknown,
    [Symbol.asyncDispose]: async () => {
      socket.close()
      if (socket.readyState !== WebSocket.CLOSED) await once(socket, 'close')
    },
  }
}

/** The status of the answer to a WebSocket handshake. */
async function refusalOf(socket: WebSocket): Promise<number> {
  socket.on('error', () => undefined)
  const [, response] = (await once(socket, 'unexpected-response')) as [unknown, http.IncomingMessage]
  response.resume()
  socket.terminate()
  return response.statusCode ?? 0
}

void t.test('QMP over a WebSocket: commands, events, several at once', async (t) => {
  const { server, url } = await start(t)
  await using one = await QmpClient.connect({ url, token: TOKEN })
  await using two = await QmpClient.connect({ url, token: TOKEN })
  await using unix = await QmpClient.connect(server.controlPath)
  using events = one.events('REMAP_ADDED')
  t.match(one.greeting, { version: { package: /^nbd-remap / } })
  const many = Array.from({ length: 20 }, () => two.execute('query-status'))
  await unix.execute('remap-add', { 'main-sector': 8, sectors: 8 })
  t.match(await events.next({ timeoutMs: 10_000 }), { data: { 'main-sector': 8 } })
  for (const status of await Promise.all(many)) t.match(status, { pid: server.pid })
  await t.rejects(one.execute('remap-add', { sectors: 8 }), { message: /Parameter 'main-sector' is missing/ })
  const schema = (await one.execute('query-qmp-schema')) as unknown[]
  t.ok(schema.length > 50, 'a long reply')
  for (const token of [undefined, 'wrong']) {
    await t.rejects(QmpClient.connect({ url, token }), { message: /cannot connect to ws:\S+: .*401/ })
  }
  const other = url.replace('/qmp', '/other')
  await t.rejects(QmpClient.connect({ url: other, token: TOKEN }), { message: /404/ })
  const environment = `NBD_REMAP_TOKEN=${TOKEN}`
  const status = await run('env', environment, process.execPath, PROGRAM, 'status', '--json', '--control', url)
  t.match(JSON.parse(status.stdout), { pid: server.pid })
  const wrong = await run('env', 'NBD_REMAP_TOKEN=x', process.execPath, PROGRAM, 'status', '--control', url)
  t.match(wrong, { status: 1, stderr: /the token is missing or wrong: the environment variable NBD_REMAP_TOKEN/ })
})

void t.test('a WebSocket may send what it likes: it is answered or disconnected', async (t) => {
  const { port } = await start(t)
  await using page = await openAsPage(port)
  const { socket } = page
  const next = (): Promise<unknown> => page.next()
  t.match(await next(), { QMP: {} })
  socket.send('nonsense')
  t.match(await next(), { error: { desc: /^JSON parse error/ } })
  socket.send('{"execute": "qmp_capabilities"')
  socket.send('}{"execute":"query-version"}')
  t.match(await next(), { return: {} })
  t.match(await next(), { return: { package: /^nbd-remap/ } })
  socket.send(Buffer.from('{"execute":"query-version"}'))
  t.match(await once(socket, 'close'), [1003])
  await using large = await openAsPage(port)
  large.socket.on('error', () => undefined)
  large.socket.send('x'.repeat(2 * 1024 * 1024))
  t.match(await once(large.socket, 'close'), [1009])
  await using next2 = await openAsPage(port)
  t.equal(next2.socket.readyState, WebSocket.OPEN, 'others are served')
})

void t.test('limits: size, connections, rate', async (t) => {
  const { get, port, url } = await start(t)
  t.match(await get('/metrics', { ...BEARER, 'content-length': 5 }).catch(() => ({ status: 413 })), { status: 413 })
  t.match(await get('/metrics', { ...BEARER, 'x-long': 'x'.repeat(20_000) }), { status: 431 })
  t.match(await get(`/${'x'.repeat(20_000)}`), { status: 431 })
  const answers: number[] = []
  for (let n = 0; n < 100; n++) answers.push((await get('/metrics', { authorization: 'Bearer wrong' })).status)
  t.ok(answers.includes(429), 'strangers are told to wait')
  t.match(await get('/metrics'), { status: 200 }, 'and take nothing from those who have the token')
  const silent = Array.from({ length: 100 }, () => net.connect(port, '127.0.0.1'))
  t.teardown(() => {
    for (const socket of silent) socket.destroy()
  })
  const ends = silent.map(async (socket) => {
    socket.on('error', () => undefined).resume()
    await once(socket, 'close')
  })
  // So many as are too many are hung up on at once, the others after a while: then there is room again.
  await Promise.all(ends)
  t.match(await get('/healthz', {}), { status: 200 })
  await using client = await QmpClient.connect({ url, token: TOKEN })
  t.match(await client.execute('query-status'), { status: 'running' })
})

void t.test('a token that was made up is shown once, and outlives the worker', async (t) => {
  const server = await Serve.start(t, newPair(t), ['--create', '--supervise', '--http', '127.0.0.1:0'])
  const [, token = '', ...more] = /^nbd-remap: the HTTP token, until it is stopped: (\S+)$/m.exec(server.stderr) ?? []
  t.match(token, /^[\w-]{32}$/)
  const get = (): Promise<Reply> => request(lastPort(server), '/metrics', { authorization: `Bearer ${token}` })
  t.match(await get(), { status: 200 })
  const worker = (await server.ask<{ pid: number }>('query-status')).pid
  process.kill(worker, 'SIGKILL')
  await server.until(() => server.stderr.split(' HTTP on ').length === 3, 'the next worker listened')
  // Answered once the disks are open.
  await server.ask('query-status')
  t.match(await get(), { status: 200 })
  t.equal(server.stderr.split('HTTP token').length, 2, 'shown once')
  t.same(more, [])
})

void t.test('addresses, tokens and names that cannot be are refused', async (t) => {
  const pair = newPair(t)
  const serve = ['serve', '--main', pair.main, '--spare', pair.spare, '--create', '--socket', join(pair.folder, 's')]
  const file = (name: string, content: string, mode = 0o600): string => {
    const path = join(pair.folder, name)
    writeFileSync(path, content)
    chmodSync(path, mode)
    return path
  }
  const good = file('good', TOKEN)
  for (const [sentence, args] of [
    [/can be reached from other machines: choose a token with --http-token-file/, ['--http', '0.0.0.0:0']],
    [/go with --http$/, ['--http-token-file', good]],
    [/go with --http$/, ['--http-host', 'nas']],
    [
      /the token in \S+none cannot be read: there is no such file$/,
      ['--http', ':0', '--http-token-file', join(pair.folder, 'none')],
    ],
    [/short holds no token: it must be one word/, ['--http', ':0', '--http-token-file', file('short', 'abc')]],
    [/two holds no token/, ['--http', ':0', '--http-token-file', file('two', `${TOKEN} ${TOKEN}`)]],
    [
      /every user of this machine can read the token: chmod o=/,
      ['--http', ':0', '--http-token-file', file('open', TOKEN, 0o644)],
    ],
    [/'--http-host <name>' argument 'a:1' is invalid/, ['--http', ':0', '--http-host', 'a:1']],
  ] as const) {
    await fails(t, USAGE, sentence, [...serve, ...args], [pair.spare])
  }
  const { port } = await start(t)
  const taken = [...serve, '--http', `127.0.0.1:${port}`]
  t.match((await new Program(t, taken).exited).code, 1)
})
