/**
 * Clients that misbehave, on the program as users run it: unix socket and TLS, remapped blocks, files as disks. It must be
 * the same process in the end, hold no more memory and no more open files than soon after the start, and have served a
 * healthy client all the time. Environment: SEED repeats a run, FUZZ_SECONDS makes it longer.
 */
import { readFileSync, readdirSync } from 'node:fs'
import t, { type Test } from 'tap'
import * as nbd from '../../src/nbd/protocol.js'
import { KiB, MiB, formatBytes } from '../../src/util/units.js'
import { makeCredentials } from '../support/certificates.js'
import { MAIN_SIZE, newPair, Serve } from '../support/cli.js'
import { RawClient, until } from '../support/nbd-server.js'
import { seededRandom } from '../support/random.js'
import { misbehave, misbehaveWithTls } from './client.js'
import { SessionMaker } from './session.js'

const DURATION_MS = Number(process.env['FUZZ_SECONDS'] ?? 3) * 1000
const SAMPLES = 60
const CLIENTS_AT_ONCE = 6
const LINGERING_MAX = 3 * CLIENTS_AT_ONCE
/** What the garbage collector may leave behind for a while. */
const SLACK = 64 * MiB

interface Sample {
  readonly residentBytes: number
  readonly openFiles: number
}

class Watched {
  readonly samples: Sample[] = []
  readonly #pid: number

  constructor(pid: number) {
    this.#pid = pid
  }

  get openFiles(): number {
    return readdirSync(`/proc/${this.#pid}/fd`).length
  }

  take(): Sample {
    const [, kibibytes] = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${this.#pid}/status`, 'latin1')) ?? []
    const sample = { residentBytes: Number(kibibytes) * KiB, openFiles: this.openFiles }
    this.samples.push(sample)
    return sample
  }

  /** Of the run, from 0 to 1. */
  part(from: number, to: number): Sample[] {
    return this.samples.slice(Math.floor(from * this.samples.length), Math.ceil(to * this.samples.length))
  }
}

async function start(t: Test): Promise<{ server: Serve; pid: number; healthy: RawClient }> {
  const { server: certificates } = await makeCredentials(t)
  const server = await Serve.start(t, newPair(t), ['--create', '--tls', 'on', '--tls-certificates', certificates])
  await server.ask('remap-add', { 'main-sector': 800, sectors: 64 })
  const { pid } = await server.ask<{ pid: number }>('query-status')
  const contexts = ['base:allocation']
  const healthy = await (await RawClient.connect(server.socketPath)).go({ structured: true, name: '', contexts })
  // So that all that is opened once is open: what finds the holes of a file, too.
  await healthy.ask(nbd.NBD_CMD_TRIM, { length: 2 * MiB })
  await healthy.ask(nbd.NBD_CMD_BLOCK_STATUS, { length: MAIN_SIZE })
  t.teardown(() => healthy.socket.destroy())
  return { server, pid, healthy }
}

void t.test('whatever clients send, the program lives on, grows no more and serves a healthy client', async (t) => {
  t.setTimeout(DURATION_MS + 120_000)
  const random = seededRandom(t)
  const sessions = new SessionMaker(random, { exportName: 'disk', size: MAIN_SIZE })
  const { server, pid, healthy } = await start(t)
  const watched = new Watched(pid)
  const openFilesAtFirst = watched.openFiles
  /** Clients that have sent what they wanted, and may still take answers. */
  const lingering: RawClient[] = []
  const total = { sessions: 0, withTls: 0, failures: 0 }
  const attack = async (): Promise<void> => {
    const client = await RawClient.connect(server.socketPath)
    total.sessions++
    if (random.chance(75)) await misbehave(client, random, sessions)
    else if (await misbehaveWithTls(client, random, sessions)) total.withTls++
    lingering.push(client)
    if (lingering.length > LINGERING_MAX) lingering.shift()?.socket.destroy()
  }
  const begin = performance.now()
  for (let round = 0, elapsed = 0; elapsed < DURATION_MS; round++, elapsed = performance.now() - begin) {
    await Promise.all(Array.from({ length: CLIENTS_AT_ONCE }, attack))
    const { error, cookie } = await healthy.ask(nbd.NBD_CMD_READ, { cookie: BigInt(round), length: 512 })
    if (error !== 0 || cookie !== BigInt(round)) total.failures++
    if (elapsed < (watched.samples.length * DURATION_MS) / SAMPLES) continue
    const { residentBytes, openFiles } = watched.take()
    const at = `${Math.round(elapsed / 1000)} s, ${total.sessions} sessions`
    t.comment(`${at}: resident memory ${formatBytes(residentBytes)}, ${openFiles} open files`)
  }
  t.equal(total.failures, 0, 'the healthy client was served in every round')
  t.equal((await healthy.ask(nbd.NBD_CMD_WRITE, { offset: 512, length: 4 }, Buffer.from('well'))).error, 0)
  t.equal((await healthy.ask(nbd.NBD_CMD_READ, { offset: 512, length: 4 })).data.toString(), 'well')
  t.match(await server.ask('query-status'), { pid, status: 'running' })
  const counters = await server.ask<Record<string, number>>('query-stats')
  judge(t, watched)
  for (const { socket } of lingering) socket.destroy()
  await until(() => watched.openFiles <= openFilesAtFirst)
  t.pass('no connection stays open')

  healthy.socket.destroy()
  const exit = await server.end()
  t.same(exit, { code: 0, signal: null }, 'it stopped in good order')
  t.notMatch(server.stderr, /Z error |\n {4}at /, 'nothing was a bug')
  const requests = ['reads', 'writes', 'flushes', 'trims', 'write-zeroes'].map((name) => counters[name] ?? 0)
  const served = requests.reduce((sum, count) => sum + count)
  t.ok(served > total.sessions / 4 && total.withTls > 0, 'sessions got as far as the disk')
  t.comment(`${total.sessions} sessions (${total.withTls} over TLS), ${served} requests to the disk, 0 crashes`)
})

/** Compared is the second tenth of the run, when all is loaded and compiled, with the last. */
function judge(t: Test, watched: Watched): void {
  const most = (of: (sample: Sample) => number, from: number, to: number): number =>
    Math.max(...watched.part(from, to).map(of))
  const resident = ({ residentBytes }: Sample): number => residentBytes
  const [early, late] = [most(resident, 0.1, 0.2), most(resident, 0.9, 1)]
  const figures = [early, late, most(resident, 0, 1)].map(formatBytes)
  t.comment(`resident memory: ${figures.join(', ')} (early, late, at most)`)
  t.ok(late <= early + SLACK, 'memory is flat')
}
