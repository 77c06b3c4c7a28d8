/** Nonsense on the sockets of a real server: it costs the connection it came on, and nobody else anything (promise P9). */
import net from 'node:net'
import t, { type Test } from 'tap'
import * as nbd from '../../src/nbd/protocol.js'
import { QmpClient } from '../../src/qmp/client.js'
import { MANY_PROCESSES_TIMEOUT_MS, newPair, pattern, Serve } from '../support/cli.js'
import { RawClient } from '../../src/conformance/raw-client.js'
import type { Random } from '../../src/util/random.js'
import { seededRandom } from '../support/random.js'

t.setTimeout(MANY_PROCESSES_TIMEOUT_MS)

const CONNECTIONS = 60

/** Works until it is told to stop. @throws when an answer is wrong */
async function work(server: Serve): Promise<{ stop: () => Promise<number> }> {
  const [client, control] = [await server.connect(), await QmpClient.connect(server.controlPath)]
  let stopping = false
  let rounds = 0
  const working = (async () => {
    while (!stopping) {
      const content = pattern(16_384, ++rounds)
      await client.write(65_536, [content], { fua: rounds % 16 === 0 })
      const found = Buffer.alloc(content.length)
      await client.read(65_536, found)
      if (!found.equals(content)) throw new Error(`round ${rounds} read something else`)
      const { status } = (await control.execute('query-status')) as { status: string }
      if (status !== 'running') throw new Error(status)
    }
  })()
  return {
    stop: async () => {
      stopping = true
      await working
      await client.disconnect()
      await control.close()
      return rounds
    },
  }
}

/** Sends `chunks` and waits until the server hangs up, or hangs up itself. */
async function pour(path: string, chunks: readonly Buffer[], hangUp: 'end' | 'destroy'): Promise<void> {
  const socket = net.connect({ path, allowHalfOpen: true })
  const closed = new Promise<void>((resolve) =>
    socket.once('close', () => {
      resolve()
    }),
  )
  socket.on('error', () => undefined)
  socket.resume()
  socket.once('end', () => socket.destroy())
  for (const chunk of chunks) socket.write(chunk)
  if (hangUp === 'end') socket.end()
  else socket.write('', () => socket.destroy())
  await closed
}

function garbage(random: Random): Buffer[] {
  return Array.from({ length: 1 + random.below(4) }, () => random.bytes(1 + random.below(3000)))
}

/** What looks right for a while. */
function plausible(random: Random): Buffer[] {
  const flags = Buffer.alloc(4)
  flags.writeUInt32BE(random.pick([3, 1, 0, 0xffffffff]))
  const option = nbd.encodeOption(random.below(12), random.bytes(random.below(200)))
  const huge = Buffer.from(option)
  huge.writeUInt32BE(random.pick([0xffffffff, 0x7fffffff, 1_000_000]), 12)
  const go = nbd.encodeOption(nbd.NBD_OPT_GO, nbd.encodeInfoRequest({ name: '', infos: [] }))
  const request = nbd.encodeRequest({
    flags: random.below(65_536),
    type: random.pick([0, 1, 2, 3, 4, 5, 6, 7, 99]),
    cookie: 1n,
    offset: random.pick([0, 4096, 2 ** 40, Number.MAX_SAFE_INTEGER]),
    length: random.pick([0, 1, 4096, 2 ** 25, 2 ** 32 - 1]),
  })
  // Nothing that is written here may reach the healthy client's range, nor be a WRITE at all: those are well-formed.
  const harmless = random.chance(50) ? request.subarray(0, 27) : Buffer.concat([Buffer.alloc(28, 0xff), request])
  return random.pick([
    [flags, option],
    [flags, huge, random.bytes(500)],
    [flags, go, harmless, random.bytes(300)],
  ])
}

void t.test('garbage on the NBD socket', async (t) => {
  const random = seededRandom(t)
  await survives(t, [], async (server) => {
    for (let n = 0; n < CONNECTIONS; n++) {
      const chunks = random.chance(50) ? garbage(random) : plausible(random)
      await pour(server.socketPath, chunks, random.pick(['end', 'destroy']))
    }
  })
})

void t.test('garbage on the control socket', async (t) => {
  const random = seededRandom(t)
  const nonsense = (): Buffer[] =>
    random.pick([
      garbage(random),
      [Buffer.from('{"execute":"qmp_capabilities"}\n{"execute":"quit"'), Buffer.from('"}')],
      [Buffer.from('{"execute":"quit"}\n')],
      [Buffer.from('['.repeat(100_000))],
      [Buffer.from(`{"execute":"${'x'.repeat(2_000_000)}"}`)],
      [
        Buffer.from(
          '{"execute":"qmp_capabilities"}{"execute":"remap-add","arguments":{"main-sector":-1,"sectors":1e99}}',
        ),
      ],
      [
        Buffer.from(
          '{"execute":"qmp_capabilities"}{"execute":"remap-add","arguments":{"main-sector":9007199254740991,"sectors":8}}',
        ),
      ],
      [Buffer.from('{"execute":"qmp_capabilities"}{"execute":"__proto__"}{"execute":"toString","arguments":[]}')],
      [Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')],
      [Buffer.from('null'), Buffer.from([0xff, 0xfe, 0x00]), Buffer.from('"\ud800"')],
    ])
  await survives(t, [], async (server) => {
    for (let n = 0; n < CONNECTIONS; n++) await pour(server.controlPath, nonsense(), random.pick(['end', 'destroy']))
  })
})

void t.test('a supervised server, and clients that say nothing at all', async (t) => {
  await survives(t, ['--supervise'], async (server) => {
    const silent = await Promise.all(Array.from({ length: 40 }, () => RawClient.connect(server.socketPath)))
    const mute = await Promise.all(Array.from({ length: 20 }, () => RawClient.connect(server.controlPath)))
    await pour(server.socketPath, [Buffer.alloc(100_000, 0xff)], 'end')
    t.match(await server.ask('query-status'), { status: 'running' })
    for (const { socket } of [...silent, ...mute]) socket.destroy()
  })
})

/** The healthy clients work on, the server is the same process, stops cleanly, and has made no remaps. */
async function survives(t: Test, args: readonly string[], attack: (server: Serve) => Promise<void>): Promise<void> {
  const server = await Serve.start(t, newPair(t), ['--create', ...args])
  const { pid } = await server.ask<{ pid: number }>('query-status')
  const healthy = await work(server)
  await attack(server)
  t.ok((await healthy.stop()) > 1, 'the healthy clients were served')
  t.match(await server.ask('query-status'), { pid, remaps: 0, status: 'running' })
  t.same(await server.end(), { code: 0, signal: null })
  t.notMatch(server.stderr, /\n {4}at /, 'no stack trace')
}
