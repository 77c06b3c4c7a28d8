/**
 * Sessions that are right in most of their parts, sent in pieces by clients that read or do not, and leave as they like.
 * Environment: SEED repeats a run, FUZZ_SECONDS makes it longer.
 */
import t from 'tap'
import * as nbd from '../../src/nbd/protocol.js'
import { KiB, MiB, formatBytes } from '../../src/util/units.js'
import { until, type RawClient } from '../support/nbd-server.js'
import type { Random } from '../../src/util/random.js'
import { seededRandom } from '../support/random.js'
import { servePair } from '../support/served-pair.js'

const DURATION_MS = Number(process.env['FUZZ_SECONDS'] ?? 2) * 1000
const ROUNDS_MIN = 60
const NAME = 'disk'

const anyName = (random: Random): string => random.pick([NAME, NAME, '', 'readonly', 'other', 'x'.repeat(5000)])
const anySize = (random: Random): number =>
  random.pick([0, 1, 511, 512, 4096, 70_000, MiB - 1, MiB, MiB + 1, 2 ** 31, 2 ** 32 - 1])

function anyQueries(random: Random): string[] {
  const known = ['base:allocation', 'nbd-remap:state', 'base:', 'nbd-remap:', 'x-y:z', '', 'q'.repeat(4097)] as const
  return Array.from({ length: random.below(4) }, () => random.pick([...known]))
}

function anyOption(random: Random): Buffer {
  const option = random.chance(90) ? random.below(13) : random.below(2 ** 32)
  const name = anyName(random)
  const contexts = nbd.encodeMetaContextRequest({ name, queries: anyQueries(random) })
  const data = random.pick([
    Buffer.alloc(0),
    Buffer.alloc(0),
    nbd.encodeInfoRequest({ name, infos: [random.below(6), random.below(65536)] }),
    contexts,
    contexts.subarray(0, random.below(contexts.length + 1)),
    random.bytes(random.below(100)),
    Buffer.alloc(random.below(200 * KiB)),
  ])
  return nbd.encodeOption(option, data)
}

type Style = 'compact' | 'extended'

/** What a decent client would send first. */
function negotiation(random: Random, style: Style): Buffer[] {
  const parts: Buffer[] = []
  if (random.chance(60)) parts.push(nbd.encodeOption(nbd.NBD_OPT_STRUCTURED_REPLY))
  if (style === 'extended') parts.push(nbd.encodeOption(nbd.NBD_OPT_EXTENDED_HEADERS))
  if (random.chance(60)) {
    const queries = ['base:allocation', 'nbd-remap:state']
    parts.push(nbd.encodeOption(nbd.NBD_OPT_SET_META_CONTEXT, nbd.encodeMetaContextRequest({ name: NAME, queries })))
  }
  return parts
}

function anyPayload(random: Random, type: number): Buffer {
  if (type !== nbd.NBD_CMD_BLOCK_STATUS) return Buffer.alloc(random.below(5000), 'w')
  const contextIds = Array.from({ length: random.below(4) }, () => random.below(4))
  return nbd.encodeBlockStatusPayload({ length: anySize(random), contextIds })
}

function anyRequest(random: Random, style: Style): Buffer {
  const type = random.chance(90) ? random.pick([0, 1, 3, 4, 5, 6, 7, 8]) : random.pick([2, 9, random.below(65536)])
  const bits = random.chance(60) ? 0 : random.pick([1, 2, 4, 8, 16, 32, 3, 19, random.below(65536)])
  const offset = random.chance(70) ? random.below(MiB) : random.pick([anySize(random), 2 ** 52, 2 ** 60])
  const cookie = BigInt(random.below(2 ** 32))
  const isWrite = type === nbd.NBD_CMD_WRITE
  if (style === 'compact') {
    const payload = isWrite ? anyPayload(random, type) : Buffer.alloc(0)
    const length = isWrite ? payload.length : anySize(random)
    return Buffer.concat([nbd.encodeRequest({ flags: bits, type, cookie, offset, length }), payload])
  }
  const hasPayload = random.chance(isWrite ? 95 : type === nbd.NBD_CMD_BLOCK_STATUS ? 50 : 5)
  const payload = hasPayload ? anyPayload(random, type) : Buffer.alloc(0)
  const flags = hasPayload ? bits | nbd.NBD_CMD_FLAG_PAYLOAD_LEN : bits & ~nbd.NBD_CMD_FLAG_PAYLOAD_LEN
  const length = hasPayload ? payload.length : random.pick([anySize(random), 2 ** 40, 2 ** 53])
  return Buffer.concat([nbd.encodeExtendedRequest({ flags, type, cookie, offset, length }), payload])
}

/** A session that is right in most of its parts. */
function anySession(random: Random): Buffer {
  const style = random.chance(40) ? 'extended' : 'compact'
  const parts = [nbd.encodeClientFlags(random.chance(95) ? random.below(4) : random.below(2 ** 32))]
  for (let i = random.chance(40) ? random.below(6) : 0; i > 0; i--) parts.push(anyOption(random))
  parts.push(...negotiation(random, style))
  if (random.chance(90)) {
    const name = random.chance(90) ? NAME : anyName(random)
    const go = nbd.encodeOption(nbd.NBD_OPT_GO, nbd.encodeInfoRequest({ name, infos: [] }))
    parts.push(random.chance(90) ? go : nbd.encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from(name)))
    for (let i = random.below(20); i > 0; i--) parts.push(anyRequest(random, style))
  }
  const session = Buffer.concat(parts)
  for (let i = random.chance(30) ? random.below(4) : 0; i > 0; i--) {
    session[random.below(session.length)] = random.below(256)
  }
  return random.chance(5) ? random.bytes(random.below(500)) : session
}

/** Sends a session in pieces, reads or does not, and leaves in one way or another. */
async function misbehave(client: RawClient, random: Random): Promise<void> {
  if (random.chance(30)) client.socket.pause()
  const session = anySession(random)
  const end = random.chance(50) ? session.length : random.below(session.length + 1)
  for (let at = 0; at < end && !client.socket.destroyed;) {
    const next = Math.min(end, at + 1 + random.below(random.pick([10, 1000, 100_000])))
    client.send(session.subarray(at, next))
    at = next
    if (random.chance(20)) await new Promise((resolve) => setImmediate(resolve))
  }
  if (random.chance(70)) await new Promise((resolve) => client.socket.write('', resolve))
  if (random.chance(50)) client.socket.end()
  else client.socket.destroy()
  client.socket.resume()
}

void t.test('whatever clients send, the server lives on, leaks nothing and serves a healthy client', async (t) => {
  t.setTimeout(DURATION_MS + 120_000)
  const random = seededRandom(t)
  const limits = { bytesInFlightMax: 2 * MiB, bytesOwnMax: 64 * KiB, bytesSharedMax: 2 * MiB, requestsInFlightMax: 8 }
  const { connect, memory, server, lines } = await servePair(t, MiB, { limits })
  memory.before = ({ offset }) => (offset % 3 === 0 ? new Promise((resolve) => setImmediate(resolve)) : undefined)
  const healthy = await (await connect()).go({ structured: true, name: NAME })
  let rounds = 0
  let requests = 0
  for (const end = Date.now() + DURATION_MS; Date.now() < end || rounds < ROUNDS_MIN; rounds++) {
    const clients = await Promise.all(Array.from({ length: 4 }, () => connect()))
    await Promise.all(clients.map((client) => misbehave(client, random)))
    const { error, cookie } = await healthy.ask(nbd.NBD_CMD_FLUSH, { cookie: BigInt(rounds) })
    if (error !== 0 || cookie !== BigInt(rounds)) t.fail(`round ${rounds}`, { error, cookie })
    requests += memory.calls.length
    memory.calls.length = 0
    if (rounds % 5000 === 0) t.comment(`round ${rounds}: resident memory ${formatBytes(process.memoryUsage.rss())}`)
  }
  await until(() => server.clients.length === 1 && server.bytesInFlight === 0)
  t.equal((await healthy.ask(nbd.NBD_CMD_WRITE, { offset: 512, length: 4 }, Buffer.from('well'))).error, 0)
  t.equal((await healthy.ask(nbd.NBD_CMD_READ, { offset: 512, length: 4 })).data.toString(), 'well')
  const bugs = lines.filter((line) => line.startsWith('error'))
  t.same(bugs, [], 'no request left the device and nothing was a bug')
  t.ok(requests > 2 * rounds, `${requests} requests of ${rounds} rounds reached the disk`)
})
