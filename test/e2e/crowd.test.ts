/**
 * The program among clients that are too many, too slow, or deaf: none of them may cost another client more than a moment,
 * or the server more than a bounded amount of memory and open files.
 */
import { readdirSync, readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import * as nbd from '../../src/nbd/protocol.js'
import { DEFAULT_LIMITS } from '../../src/server/limits.js'
import { KiB, MiB, formatBytes } from '../../src/util/units.js'
import { makeCredentials } from '../support/certificates.js'
import { newFolder, newSpare, Serve } from '../support/cli.js'
import { RawClient } from '../../src/conformance/raw-client.js'
import { until } from '../support/nbd-server.js'
import { Random } from '../../src/util/random.js'

const CROWD = 1000
const SIZE = 64 * MiB

async function start(t: Test, args: readonly string[] = []): Promise<Serve> {
  const folder = newFolder(t)
  const files = { folder, main: newSpare(folder, 'main.img', SIZE), spare: newSpare(folder) }
  return Serve.start(t, files, ['--create', ...args])
}

async function connect(t: Test, server: Serve): Promise<RawClient> {
  const client = await RawClient.connect(server.socketPath)
  t.teardown(() => client.socket.destroy())
  return client
}

/** What it has started and not seen ended. */
const childrenOf = ({ pid }: Serve): number =>
  readdirSync(`/proc/${pid}/task`).flatMap(
    (task) => readFileSync(`/proc/${pid}/task/${task}/children`, 'latin1').match(/\d+/g) ?? [],
  ).length

const openFilesOf = ({ pid }: { pid: number }): number => readdirSync(`/proc/${pid}/fd`).length
const residentOf = ({ pid }: { pid: number }): number =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) * KiB

for (const supervise of [[], ['--supervise']]) {
  const what = [`${CROWD} connections at once, silent, slow and full of garbage`, ...supervise].join(' ')
  void t.test(what, async (t) => {
    const server = await start(t, supervise)
    const worker = await server.ask<{ pid: number }>('query-status')
    const working = await (await connect(t, server)).go({ name: '' })
    const files = [server, worker].map(openFilesOf)
    const resident = residentOf(worker)
    const random = new Random(1)
    const crowd = await Promise.all(Array.from({ length: CROWD }, () => connect(t, server)))
    for (const [n, client] of crowd.entries()) {
      if (n % 3 === 1) client.send(random.bytes(1 + random.below(5000)))
      if (n % 3 === 2) client.send(nbd.encodeClientFlags(3), nbd.encodeOption(nbd.NBD_OPT_INFO).subarray(0, 9))
      if (n % 50 === 0) t.equal((await working.ask(nbd.NBD_CMD_WRITE, { length: 4096 }, Buffer.alloc(4096))).error, 0)
    }
    const newcomer = await (await connect(t, server)).go({ name: '' })
    t.equal((await newcomer.ask(nbd.NBD_CMD_READ, { length: 4096 })).error, 0, 'a newcomer is served among them')
    const most = (files[1] ?? 0) + DEFAULT_LIMITS.clientsMax
    t.ok(openFilesOf(worker) <= most, `${openFilesOf(worker)} open files, at most ${most}`)
    for (const { socket } of crowd) socket.destroy()
    await until(() => [server, worker].every((it, i) => openFilesOf(it) <= (files[i] ?? 0) + 1))
    const grown = residentOf(worker) - resident
    t.ok(grown < 64 * MiB, `${formatBytes(Math.max(0, grown))} more than before`)
    t.equal((await working.ask(nbd.NBD_CMD_FLUSH)).error, 0)
    t.same(await server.end(), { code: 0, signal: null })
    t.notMatch(server.stderr, /Z error /)
  })
}

for (const way of ['unix', 'TLS'] as const) {
  void t.test(`over ${way}, a client that takes no replies costs its own connection only`, async (t) => {
    const credentials = way === 'TLS' ? await makeCredentials(t) : undefined
    const tlsArgs = credentials ? ['--tls', 'require', '--tls-certificates', credentials.server] : []
    const server = await start(t, tlsArgs)
    const begin = async (): Promise<RawClient> => {
      const client = await connect(t, server)
      return way === 'TLS' ? client.goSecurely({}, { name: '' }) : client.go({ name: '' })
    }
    const other = await begin()
    const length = 4 * MiB
    t.equal((await other.ask(nbd.NBD_CMD_READ, { length })).error, 0)
    const resident = residentOf(server)
    const deaf = await begin()
    deaf.socket.pause()
    for (let n = 0; n < 200; n++) deaf.request(nbd.NBD_CMD_READ, { offset: (n % 60) * MiB, length: MiB })
    const begun = performance.now()
    for (let n = 0; n < 20; n++) {
      const type = n % 2 === 0 ? nbd.NBD_CMD_READ : nbd.NBD_CMD_WRITE
      const { error } = await other.ask(type, { length }, type === nbd.NBD_CMD_WRITE ? Buffer.alloc(length) : '')
      if (error !== 0) t.fail(`error ${error}`)
    }
    const took = performance.now() - begun
    const { clients } = await server.ask<{ clients: unknown[] }>('query-status')
    t.equal(clients.length, 2, 'the deaf client is still there: nobody had to wait for it')
    t.notMatch(server.stderr, /others waited too long/)
    const grown = residentOf(server) - resident
    t.ok(grown < 100 * MiB, `${formatBytes(Math.max(0, grown))} more than before`)
    t.comment(`20 requests of ${formatBytes(length)} in ${Math.round(took)} ms`)
    t.same(await server.end(), { code: 0, signal: null })
  })
}

void t.test('clients that trim and zero here and there start no crowd of helper programs', async (t) => {
  const server = await start(t)
  const other = await (await connect(t, server)).go({ name: '' })
  const resting = childrenOf(server)
  const busy = await Promise.all(Array.from({ length: 4 }, async () => (await connect(t, server)).go({ name: '' })))
  const EACH = 32
  let isDone = false
  const replies = Promise.all(
    busy.map(async (client, n) => {
      for (let i = 0; i < EACH; i++) {
        const type = i % 2 === 0 ? nbd.NBD_CMD_TRIM : nbd.NBD_CMD_WRITE_ZEROES
        client.request(type, { offset: ((i * 7 + n * 16) % 63) * MiB, length: MiB })
      }
      for (let i = 0; i < EACH; i++) if ((await client.receiveReply()).error !== 0) t.fail('it failed')
    }),
  ).finally(() => (isDone = true))
  let most = 0
  let answers = 0
  for (; !isDone; answers++) {
    t.equal((await other.ask(nbd.NBD_CMD_READ, { offset: SIZE - 512, length: 512 })).error, 0)
    most = Math.max(most, childrenOf(server) - resting)
  }
  await replies
  t.ok(most <= 2, `${most} at once`)
  t.ok(answers > EACH, `another client got ${answers} answers meanwhile`)
})
