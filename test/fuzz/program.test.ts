/**
 * Clients that misbehave, on the program as users run it: unix and TCP sockets, TLS, remapped blocks, files as disks. It
 * must be the same process in the end, hold no more memory and no more open files than soon after the start, and have
 * served a healthy client all the time without a pause. Environment: SEED repeats a run, FUZZ_SECONDS makes it longer.
 */
import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import t, { type Test } from 'tap'
import * as nbd from '../../src/nbd/protocol.js'
import { parseNbdUri } from '../../src/nbd/uri.js'
import { MiB, formatBytes } from '../../src/util/units.js'
import { makeCredentials } from '../support/certificates.js'
import { MAIN_SIZE, newFolder, newPair, Serve } from '../support/cli.js'
import { RawClient } from '../../src/conformance/raw-client.js'
import { seededRandom } from '../support/random.js'
import { misbehave, misbehaveWithTls } from './client.js'
import { HealthyClient } from './healthy-client.js'
import { SessionMaker } from './session.js'
import { reportOptions, WatchedProcess } from './watched-process.js'

/** What the program opens some time or other and keeps. A leak would be one for each of many connections. */
const OPENED_ONCE = 2
const DURATION_MS = Number(process.env['FUZZ_SECONDS'] ?? 3) * 1000
const SAMPLES = 60
const CLIENTS_AT_ONCE = 6
const LINGERING_MAX = 3 * CLIENTS_AT_ONCE
/** Longer than any time-out of the server: until then everybody who is gone is let go. */
const LEAVING_MS = 30_000
/** What the garbage collector may leave behind for a while. */
const SLACK = 64 * MiB
/** In memory: a disk that is slow because others use it is nothing that clients did. */
const DISKS_PARENT = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()

interface Started {
  readonly server: Serve
  readonly address: string | number
  readonly pid: number
  readonly healthy: RawClient
  readonly watched: WatchedProcess
}

async function start(t: Test, transport: 'unix' | 'tcp'): Promise<Started> {
  const { server: certificates } = await makeCredentials(t)
  const files = newPair(t, newFolder(t, DISKS_PARENT))
  const inherited = process.env['NODE_OPTIONS']
  process.env['NODE_OPTIONS'] = [inherited, reportOptions(files.folder)].join(' ')
  const listen = transport === 'tcp' ? ['--listen', '127.0.0.1:0'] : []
  const server = await Serve.start(t, files, ['--create', '--tls', 'on', '--tls-certificates', certificates, ...listen])
  process.env['NODE_OPTIONS'] = inherited ?? ''
  await server.ask('remap-add', { 'main-sector': 800, sectors: 64 })
  const { pid } = await server.ask<{ pid: number }>('query-status')
  const bound = parseNbdUri(server.uri).address
  const address = 'path' in bound ? bound.path : bound.port
  const contexts = ['base:allocation']
  const healthy = await (await RawClient.connect(address)).go({ structured: true, name: '', contexts })
  // So that all that is opened once is open: what finds the holes of a file, too.
  await healthy.ask(nbd.NBD_CMD_TRIM, { length: 2 * MiB })
  await healthy.ask(nbd.NBD_CMD_BLOCK_STATUS, { length: MAIN_SIZE })
  t.teardown(() => healthy.socket.destroy())
  return { server, address, pid, healthy, watched: new WatchedProcess(pid, files.folder) }
}

/** Sessions, many at once, until the time is over or `isOver`. */
class Attack {
  readonly sessions: SessionMaker
  /** Clients that have sent what they wanted, and may still take answers. */
  readonly #lingering: RawClient[] = []
  readonly #random
  readonly #address: string | number
  count = 0
  withTls = 0

  constructor(t: Test, address: string | number) {
    this.#random = seededRandom(t)
    this.#address = address
    this.sessions = new SessionMaker(this.#random, { exportName: 'disk', size: MAIN_SIZE })
  }

  /** One after the other has sent its session. */
  round(): Promise<unknown> {
    return Promise.all(Array.from({ length: CLIENTS_AT_ONCE }, () => this.#one()))
  }

  leave(): void {
    for (const { socket } of this.#lingering) socket.destroy()
  }

  async #one(): Promise<void> {
    const client = await RawClient.connect(this.#address)
    this.count++
    if (this.#random.chance(75)) await misbehave(client, this.#random, this.sessions)
    else if (await misbehaveWithTls(client, this.#random, this.sessions)) this.withTls++
    this.#lingering.push(client)
    if (this.#lingering.length > LINGERING_MAX) this.#lingering.shift()?.socket.destroy()
  }
}

async function attackFor(t: Test, durationMs: number, attack: Attack, watched: WatchedProcess): Promise<void> {
  const begin = performance.now()
  for (let elapsed = 0; elapsed < durationMs; elapsed = performance.now() - begin) {
    await attack.round()
    if (elapsed < (watched.samples.length * durationMs) / SAMPLES) continue
    const { residentBytes, openFiles } = watched.take()
    const at = `${Math.round(elapsed / 1000)} s, ${attack.count} connections, ${attack.sessions.requests} requests`
    t.comment(`${at}: resident memory ${formatBytes(residentBytes)}, ${openFiles} open files`)
  }
}

for (const transport of ['unix', 'tcp'] as const) {
  const what = `over ${transport}, the program lives on, grows no more and serves a healthy client`
  void t.test(`whatever clients send ${what}`, async (t) => {
    t.setTimeout(DURATION_MS + 120_000)
    const { server, address, pid, healthy, watched } = await start(t, transport)
    const openFilesAtFirst = watched.openFiles
    const attack = new Attack(t, address)
    const client = new HealthyClient(healthy)
    try {
      const ended = attackFor(t, DURATION_MS / 2, attack, watched).finally(() => {
        client.stop()
      })
      await Promise.all([ended, client.run()])
    } catch (error) {
      t.comment(server.running ? await watched.describe() : 'the program has ended')
      t.comment(server.stderr.slice(-5000))
      throw error
    }
    t.equal((await healthy.ask(nbd.NBD_CMD_WRITE, { offset: 512, length: 4 }, Buffer.from('well'))).error, 0)
    t.equal((await healthy.ask(nbd.NBD_CMD_READ, { offset: 512, length: 4 })).data.toString(), 'well')
    t.match(await server.ask('query-status'), { pid, status: 'running' })
    const counters = await server.ask<Record<string, number>>('query-stats')
    attack.leave()
    const deadline = performance.now() + LEAVING_MS
    const openFilesMax = openFilesAtFirst + OPENED_ONCE
    const askClients = async (): Promise<unknown[]> =>
      (await server.ask<{ clients: unknown[] }>('query-status')).clients
    let clients = await askClients()
    // A file opened once looks like a connection that is still being closed: both have to be as they should.
    while ((clients.length > 1 || watched.openFiles > openFilesMax) && performance.now() < deadline)
      clients = await askClients()
    t.equal(clients.length, 1, 'no connection stays open')
    if (clients.length > 1) t.comment(JSON.stringify(clients), server.stderr.slice(-5000))
    t.ok(watched.openFiles <= openFilesMax, `${watched.openFiles} open files, at first ${openFilesAtFirst}`)

    healthy.socket.destroy()
    const exit = await server.end()
    t.same(exit, { code: 0, signal: null }, 'it stopped in good order')
    t.notMatch(server.stderr, /Z error |\n {4}at /, 'nothing was a bug')
    const served = ['reads', 'writes', 'flushes', 'trims', 'write-zeroes'].reduce(
      (sum, name) => sum + (counters[name] ?? 0),
      -client.requests,
    )
    t.ok(served > attack.count / 4 && attack.withTls > 0, 'sessions got as far as the disk')
    t.comment(
      `${attack.count} connections (${attack.withTls} over TLS), ${attack.sessions.requests} requests, ${served} of them to the disk, 0 crashes`,
    )
    t.comment(`a healthy client with ${client.requests} requests ${client.waits}`)
    judge(t, watched)
  })
}

/** Compared is the second tenth of the run, when all is loaded and compiled, with the last. */
function judge(t: Test, watched: WatchedProcess): void {
  const [first, last] = [watched.samples[0], watched.samples.at(-1)]
  const [early, late] = [watched.residentMax(0.1, 0.2), watched.residentMax(0.9, 1)]
  const figures = [first?.residentBytes ?? 0, early, late, watched.residentMax(0, 1)].map(formatBytes)
  t.comment(`resident memory: ${figures.join(', ')} (start, second tenth, last tenth, at most)`)
  t.comment(`open files: ${first?.openFiles ?? 0}, ${last?.openFiles ?? 0} (start, end)`)
  t.ok(late <= early + SLACK, 'memory is flat')
}
