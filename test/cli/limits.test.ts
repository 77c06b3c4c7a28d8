/** `serve --limit`, on the program: each limit that can be seen from outside, and what is no limit. */
import { readFileSync, readdirSync, readlinkSync } from 'node:fs'
import t, { type Test } from 'tap'
import * as nbd from '../../src/nbd/protocol.js'
import { parseNbdUri } from '../../src/nbd/uri.js'
import { DEFAULT_LIMITS, type Limits } from '../../src/server/limits.js'
import { KiB } from '../../src/util/units.js'
import { MAIN_SIZE, Serve, cli, fails, newPair } from '../support/cli.js'
import { RawClient } from '../../src/conformance/raw-client.js'
import { until } from '../support/nbd-server.js'

const given = (limits: Partial<Record<keyof Limits, string | number>>): string[] =>
  Object.entries(limits).flatMap(([name, value]) => ['--limit', `${name}=${value}`])

async function connect(t: Test, { uri }: Serve): Promise<RawClient> {
  const { address } = parseNbdUri(uri)
  const client = await RawClient.connect('path' in address ? address.path : address.port)
  t.teardown(() => client.socket.destroy())
  return client
}

const begin = async (t: Test, server: Serve): Promise<RawClient> => (await connect(t, server)).go({ name: '' })

interface ClientState {
  readonly id: number
  readonly 'requests-in-flight': number
}

const clientsOf = async (server: Serve): Promise<ClientState[]> =>
  (await server.ask<{ clients: ClientState[] }>('query-status')).clients

void t.test('limits of the handshake', async (t) => {
  const limits = { clientsMax: 3, optionsMax: 4, optionLengthMax: '1K', handshakeTimeoutMs: 2000 }
  const server = await Serve.start(t, newPair(t), ['--create', ...given(limits)])

  const curious = await connect(t, server)
  await curious.greet()
  for (let n = 0; n < 4; n++) t.equal((await curious.option(99))[0]?.type, nbd.NBD_REP_ERR_UNSUP, `option ${n + 1}`)
  curious.send(nbd.encodeOption(99))
  t.equal((await curious.receiveAll()).length, 0, 'optionsMax: the fifth closes the connection')

  const verbose = await connect(t, server)
  await verbose.greet()
  const tooLong = await verbose.option(nbd.NBD_OPT_INFO, Buffer.alloc(KiB + 1))
  t.equal(tooLong[0]?.type, nbd.NBD_REP_ERR_TOO_BIG, 'optionLengthMax: a longer one is refused')
  const longest = await verbose.option(nbd.NBD_OPT_INFO, Buffer.alloc(KiB))
  t.equal(longest[0]?.type, nbd.NBD_REP_ERR_INVALID, 'and one of that length is looked at')
  verbose.socket.destroy()

  const working = [await begin(t, server), await begin(t, server)]
  // A byte now and then does not keep the connection.
  const loris = await connect(t, server)
  const drip = setInterval(() => {
    loris.send(Buffer.alloc(1))
  }, 100)
  t.equal((await loris.receiveAll()).length, nbd.GREETING_LENGTH, 'handshakeTimeoutMs: the connection is closed')
  clearInterval(drip)
  await server.says(/dropped: no end of the handshake within 2000 ms/)

  working.push(await begin(t, server))
  const refused = await connect(t, server)
  t.equal((await refused.receiveAll()).length, 0, 'clientsMax: the fourth is closed without a word')
  for (const client of working) t.equal((await client.ask(nbd.NBD_CMD_FLUSH)).error, 0, 'and those that work go on')
})

/**
 * Asks for more than a socket holds, reads none of it, until at least so many requests are in flight.
 * @returns how many are in the end
 */
async function beDeaf(t: Test, server: Serve, least = 1): Promise<{ client: RawClient; inFlight: number }> {
  const client = await begin(t, server)
  client.socket.pause()
  const { length: before } = await clientsOf(server)
  // With a flag, since plain requests are read only when their replies can leave: there is less in flight of them. And in
  // one piece: once a reply cannot leave, nothing more is read.
  const flags = nbd.NBD_CMD_FLAG_FUA
  client.socket.cork()
  for (let n = 0; n < 64; n++) client.request(nbd.NBD_CMD_READ, { cookie: BigInt(n), length: 256 * KiB, flags })
  client.socket.uncork()
  let seen = -1
  for (let calm = 0; calm < 5;) {
    const now = (await clientsOf(server))[before - 1]?.['requests-in-flight'] ?? 0
    calm = now === seen && now >= least ? calm + 1 : 0
    seen = now
  }
  return { client, inFlight: seen }
}

for (const [what, limits, most] of [
  ['requestsInFlightMax', { requestsInFlightMax: 5 }, 5],
  ['bytesInFlightMax', { bytesInFlightMax: '1M' }, 4],
  ['bytesOwnMax and bytesSharedMax', { bytesOwnMax: '256K', bytesSharedMax: '512K' }, 3],
] as const) {
  void t.test(`${what}: a client that reads nothing has so much in flight, and costs no other client`, async (t) => {
    const server = await Serve.start(t, newPair(t), ['--create', ...given(limits)])
    const { client, inFlight } = await beDeaf(t, server, most)
    t.equal(inFlight, most)
    const other = await begin(t, server)
    for (let n = 0; n < 10; n++) t.equal((await other.ask(nbd.NBD_CMD_READ, { length: 64 * KiB })).error, 0)
    client.socket.resume()
    const cookies = new Set<bigint>()
    for (let n = 0; n < 64; n++) cookies.add((await client.receiveReply(256 * KiB)).cookie)
    t.equal(cookies.size, 64, 'it gets all its replies when it reads again')
  })
}

void t.test('stallTimeoutMs and bytesPerMsMin: who makes others wait is dropped', async (t) => {
  const limits = { bytesOwnMax: 4096, bytesSharedMax: '64K', stallTimeoutMs: 300, bytesPerMsMin: '1M' }
  const server = await Serve.start(t, newPair(t), ['--create', ...given(limits)])
  const { client } = await beDeaf(t, server)
  const other = await begin(t, server)
  t.equal((await other.ask(nbd.NBD_CMD_READ, { length: 256 * KiB })).error, 0, 'the other one is served then')
  client.socket.resume()
  await client.receiveAll()
  await server.says(/dropped: others waited too long for it to send or take data/)
})

void t.test('refusedPayloadMax and closeTimeoutMs', async (t) => {
  const limits = { refusedPayloadMax: '64K', closeTimeoutMs: 1 }
  const server = await Serve.start(t, newPair(t), ['--create', ...given(limits)])
  const client = await begin(t, server)
  const write = (length: number): void => {
    client.request(nbd.NBD_CMD_WRITE, { offset: MAIN_SIZE, length }, Buffer.alloc(length))
  }
  write(64 * KiB)
  t.equal((await client.receiveReply()).error, nbd.NBD_ENOSPC, 'a refused payload is read up to this')
  write(64 * KiB + 1)
  t.equal((await client.receiveAll()).length, 0, 'and a longer one closes the connection')

  // A stop waits so long for a client that takes no replies.
  await beDeaf(t, server)
  const begun = performance.now()
  t.same(await server.end(), { code: 0, signal: null })
  const took = performance.now() - begun
  t.ok(took < DEFAULT_LIMITS.closeTimeoutMs, `${Math.round(took)} ms, and not ${DEFAULT_LIMITS.closeTimeoutMs}`)
})

/** Of the server's end of a connection: after how many milliseconds the kernel will ask, if nothing is heard before. */
function keepAliveTimer(port: number): number | undefined {
  const hex = port.toString(16).toUpperCase().padStart(4, '0')
  // Local address, remote address, connected, queues, and a keep-alive timer in hundredths of a second.
  const row = new RegExp(`: 0100007F:${hex} [0-9A-F]+:[0-9A-F]+ 01 [0-9A-F:]+ 02:([0-9A-F]+)`)
  const [, due] = row.exec(readFileSync('/proc/net/tcp', 'latin1')) ?? []
  return due === undefined ? undefined : Number.parseInt(due, 16) * 10
}

for (const supervise of [[], ['--supervise']]) {
  const what = ['keepAliveDelayMs: the kernel asks a silent TCP client whether it is there', ...supervise].join(' ')
  void t.test(what, async (t) => {
    const args = ['--create', '--listen', '127.0.0.1:0', ...supervise, ...given({ keepAliveDelayMs: 7000 })]
    const server = await Serve.start(t, newPair(t), args)
    const { address } = parseNbdUri(server.uri)
    const port = 'port' in address ? address.port : 0
    const client = await begin(t, server)
    t.equal((await client.ask(nbd.NBD_CMD_FLUSH)).error, 0)
    await until(() => keepAliveTimer(port) !== undefined)
    const due = keepAliveTimer(port) ?? 0
    t.ok(due > 0 && due <= 7000, `in ${due} ms`)
  })
}

const pipesOf = (pid: number): number =>
  readdirSync(`/proc/${pid}/fd`).filter((fd) => isPipe(`/proc/${pid}/fd/${fd}`)).length

function isPipe(descriptor: string): boolean {
  try {
    return readlinkSync(descriptor).startsWith('pipe:')
  } catch {
    // It was closed meanwhile.
    return false
  }
}

for (const [pipesMax, ends] of [
  [0, 0],
  [2, 4],
] as const) {
  void t.test(`pipesMax=${pipesMax}: so many clients send long payloads through pipes`, async (t) => {
    const server = await Serve.start(t, newPair(t), ['--create', ...given({ pipesMax })])
    const before = pipesOf(server.pid)
    const clients = await Promise.all([1, 2, 3].map(() => begin(t, server)))
    const data = Buffer.alloc(128 * KiB, 'data')
    const sendHalf = (client: RawClient): void => {
      client.request(nbd.NBD_CMD_WRITE, { length: data.length }, data.subarray(0, 64 * KiB))
    }
    for (const client of clients) sendHalf(client)
    // Two have a pipe by now, or none has; what the others sent waits in memory.
    await until(() => pipesOf(server.pid) - before >= ends)
    for (const client of clients) client.send(data.subarray(64 * KiB))
    for (const client of clients) t.equal((await client.receiveSimpleReply()).error, 0)
    t.equal(pipesOf(server.pid) - before, ends)
  })
}

void t.test('what is no limit, or no value of one, is wrong usage', async (t) => {
  const { main, spare } = newPair(t)
  const CASES: readonly [string, RegExp][] = [
    ['clientsMax', /It must be NAME=VALUE, such as clientsMax=256 \(/],
    ['clients=5', /There is no limit clients\. The limits are clientsMax, .*keepAliveDelayMs \(/],
    ['bytesInFlightMax=4096M', /bytesInFlightMax must be a whole number from 1 to 2147483647 \(/],
    ['bytesInFlightMax=0', /bytesInFlightMax must be a whole number from 1 to 2147483647 \(/],
  ]
  for (const [limit, sentence] of CASES) {
    await fails(t, 2, sentence, ['serve', '--main', main, '--spare', spare, '--limit', limit], [main, spare])
  }
  const help = (await cli(t, 'serve', '--help')).stdout
  for (const [name, value] of Object.entries(DEFAULT_LIMITS))
    t.match(help, `${name}=${value}\n`, `${name} is in --help`)
})
