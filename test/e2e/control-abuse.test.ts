/**
 * What clients of the control socket can do wrong, on a server that serves a disk meanwhile: each is answered or refused,
 * memory stays as it is, and the requests of the NBD client go on.
 */
import { readFileSync } from 'node:fs'
import { once } from 'node:events'
import net from 'node:net'
import t, { type Test } from 'tap'
import { QmpClient } from '../../src/qmp/client.js'
import { MiB } from '../../src/util/units.js'
import { newPair, pattern, Serve } from '../support/cli.js'

/** On a busy machine a request may have to wait for its turn. One that waits for the control plane waits for seconds. */
const LATENCY_MAX_MS = 2000
const MEMORY_MAX = 256 * MiB

const memoryOf = (pid: number): number =>
  1024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])

interface Line {
  readonly QMP?: unknown
  readonly return?: unknown
  readonly error?: { readonly class: string; readonly desc: string }
  readonly event?: string
}

/** A connection that sends bytes and reads lines. */
async function raw(t: Test, path: string): Promise<{ socket: net.Socket; lines: AsyncGenerator<Line> }> {
  const socket = net.connect(path)
  t.teardown(() => socket.destroy())
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  return { socket, lines: linesOf(socket) }
}

async function* linesOf(socket: net.Socket): AsyncGenerator<Line> {
  let rest = ''
  for await (const chunk of socket) {
    const lines = (rest + String(chunk)).split('\r\n')
    rest = lines.pop() ?? ''
    for (const line of lines) yield JSON.parse(line) as Line
  }
}

/** The next line that is no event. */
async function reply(lines: AsyncGenerator<Line>): Promise<Line> {
  for (;;) {
    const { value } = (await lines.next()) as { value: Line | undefined }
    if (value === undefined) throw new Error('the server hung up')
    if (value.event === undefined) return value
  }
}

/** Runs `abuse` while an NBD client reads and writes, and says how long the slowest request took. */
async function whileServing(t: Test, server: Serve, abuse: () => Promise<void>): Promise<void> {
  const client = await server.connect()
  const block = pattern(4096, 7)
  let ended = false
  const abused = abuse().finally(() => (ended = true))
  let [slowestMs, requests] = [0, 0]
  while (!ended) {
    const startMs = performance.now()
    await client.write((requests % 256) * 4096, [block])
    await client.read((requests % 256) * 4096, Buffer.alloc(4096))
    slowestMs = Math.max(slowestMs, performance.now() - startMs)
    requests += 2
    // As a guest does, which has other things to do, too; and this process has the abuse to do.
    await new Promise(setImmediate)
  }
  await abused
  t.ok(slowestMs < LATENCY_MAX_MS, `the slowest of ${requests} requests took ${slowestMs.toFixed(1)} ms`)
  await client.disconnect()
}

void t.test('whatever clients of the control socket do, the disk is served', async (t) => {
  const server = await Serve.start(t, newPair(t))
  const path = server.controlPath
  const before = memoryOf(server.pid)

  await t.test('malformed JSON, and arguments of the wrong type', async (t) => {
    await whileServing(t, server, async () => {
      const { socket, lines } = await raw(t, path)
      socket.write('{"execute":"qmp_capabilities"}\n')
      await reply(lines)
      await reply(lines)
      const cases: [string, RegExp][] = [
        ['{"execute": "query-status",}', /^JSON parse error, /],
        ['}\n', /^JSON parse error, /],
        ['{"execute": 5}', /member 'execute' must be a string/],
        ['{"execute": "no-such-thing"}', /The command no-such-thing has not been found/],
        ['{"execute": "query-status", "arguments": {"verbose": true}}', /Parameter 'verbose' is unexpected/],
        [
          '{"execute": "query-remaps", "arguments": {"limit": "many"}}',
          /parameter type for 'limit', expected: integer/,
        ],
        [
          '{"execute": "query-remaps", "arguments": {"from-sector": -1}}',
          /'from-sector' expects a value of at least 0/,
        ],
        [
          '{"execute": "remap-add", "arguments": {"main-sector": 1e18, "sectors": 1}}',
          /for 'main-sector', expected: int/,
        ],
        ['{"execute": "remap-add", "arguments": {"main-sector": 99999999, "sectors": 8}}', /99999999/],
        [
          '{"execute": "remap-add", "arguments": {"main-sector": [], "sectors": 8}}',
          /for 'main-sector', expected: int/,
        ],
      ]
      for (const [text, desc] of cases) {
        socket.write(text)
        t.match((await reply(lines)).error?.desc, desc, text)
      }
    })
  })

  await t.test('a line of 1 GiB is refused when its first MiB has come, and costs no memory', async (t) => {
    await whileServing(t, server, async () => {
      const { socket, lines } = await raw(t, path)
      await reply(lines)
      const chunk = Buffer.alloc(MiB, 'x')
      socket.write('{"execute":"')
      let isRefused = false
      const refusal = reply(lines).then(({ error }) => {
        isRefused = true
        return error?.desc
      })
      let sent = 0
      for (; sent < 1024; sent++) {
        if (!socket.write(chunk)) await once(socket, 'drain')
        if (sent === 64) t.ok(isRefused, 'refused long before its end')
      }
      t.match(await refusal, /^JSON parse error, message is longer than 1048576 bytes$/)
      t.ok(memoryOf(server.pid) - before < MEMORY_MAX, `${memoryOf(server.pid) - before} bytes more memory`)
      socket.write('\n{"execute":"qmp_capabilities"}')
      t.same(await reply(lines), { return: {} }, 'the connection goes on')
    })
  })

  await t.test('200 clients: so many as may are served, the others are told', async (t) => {
    await whileServing(t, server, async () => {
      const clients = await Promise.allSettled(Array.from({ length: 200 }, () => QmpClient.connect(path)))
      const served = clients.flatMap((it) => (it.status === 'fulfilled' ? [it.value] : []))
      t.equal(served.length, 32)
      for (const it of clients)
        if (it.status === 'rejected') t.match(String(it.reason), /too many clients: 32 is the limit/)
      for (const client of served) t.match(await client.execute('query-status'), { status: 'running' })
      await Promise.all(served.map((client) => client.close()))
    })
    await using next = await QmpClient.connect(path)
    t.match(await next.execute('query-status'), { status: 'running' }, 'and there is room again')
  })

  await t.test('a client that never reads is not read any more, and holds nothing but its limit', async (t) => {
    await whileServing(t, server, async () => {
      const { socket } = await raw(t, path)
      socket.pause()
      socket.write('{"execute":"qmp_capabilities"}')
      const question = Buffer.from('{"execute":"query-qmp-schema"}\n'.repeat(1000))
      while (socket.write(question));
      await using other = await QmpClient.connect(path)
      for (let n = 0; n < 20; n++) await other.execute('query-stats')
      t.ok(socket.writableLength > 0, 'what it asks stays with it')
      t.ok(memoryOf(server.pid) - before < MEMORY_MAX, `${memoryOf(server.pid) - before} bytes more memory`)
    })
  })
  t.equal((await server.end()).code, 0)
})
