import t from 'tap'
import * as nbd from '../../src/nbd/protocol.js'
import { KiB, MiB } from '../../src/util/units.js'
import { seededRandom, type Random } from '../support/random.js'
import { serve, until, type RawClient } from '../support/nbd-server.js'

const DURATION_MS = 2000

const anyName = (random: Random): string => random.pick(['main', '', 'other', 'x'.repeat(5000)])
const anySize = (random: Random): number =>
  random.pick([0, 1, 511, 512, 4096, 70_000, MiB - 1, MiB, MiB + 1, 2 ** 31, 2 ** 32 - 1])

function anyOption(random: Random): Buffer {
  const option = random.pick([random.below(13), nbd.NBD_OPT_INFO, nbd.NBD_OPT_STRUCTURED_REPLY, random.below(2 ** 32)])
  const name = anyName(random)
  const data = random.pick([
    Buffer.alloc(0),
    nbd.encodeInfoRequest({ name, infos: [random.below(6), random.below(65536)] }),
    nbd.encodeMetaContextRequest({ name, queries: [nbd.BASE_ALLOCATION] }),
    random.bytes(random.below(100)),
    Buffer.alloc(random.below(200 * KiB)),
  ])
  return nbd.encodeOption(option, data)
}

function anyRequest(random: Random): Buffer {
  const type = random.chance(90) ? random.pick([0, 1, 3, 4, 5, 6, 7, 8]) : random.pick([2, 9, random.below(65536)])
  const flags = random.chance(70) ? 0 : random.pick([1, 2, 4, 3, random.below(65536)])
  const length = type === nbd.NBD_CMD_WRITE ? random.below(5000) : anySize(random)
  const offset = random.chance(70) ? random.below(MiB) : random.pick([anySize(random), 2 ** 52, 2 ** 60])
  const header = nbd.encodeRequest({ flags, type, cookie: BigInt(random.below(2 ** 32)), offset, length })
  return type === nbd.NBD_CMD_WRITE ? Buffer.concat([header, Buffer.alloc(length, 'w')]) : header
}

/** A session that is right in most of its parts. */
function anySession(random: Random): Buffer {
  const parts = [nbd.encodeClientFlags(random.chance(95) ? random.below(4) : random.below(2 ** 32))]
  for (let i = random.below(6); i > 0; i--) parts.push(anyOption(random))
  if (random.chance(80)) {
    const name = random.chance(90) ? 'main' : anyName(random)
    const go = nbd.encodeOption(nbd.NBD_OPT_GO, nbd.encodeInfoRequest({ name, infos: [] }))
    parts.push(random.chance(80) ? go : nbd.encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from(name)))
    for (let i = random.below(20); i > 0; i--) parts.push(anyRequest(random))
  }
  const session = Buffer.concat(parts)
  for (let i = random.chance(40) ? random.below(4) : 0; i > 0; i--) {
    session[random.below(session.length)] = random.below(256)
  }
  return random.chance(10) ? random.bytes(random.below(500)) : session
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
  const random = seededRandom(t)
  const limits = { bytesInFlightMax: 2 * MiB, bytesOwnMax: 64 * KiB, bytesSharedMax: 2 * MiB, requestsInFlightMax: 8 }
  const { connect, device, server, lines } = await serve(t, { limits })
  device.before = ({ offset }) => (offset % 3 === 0 ? new Promise((resolve) => setImmediate(resolve)) : undefined)
  const healthy = await (await connect()).go({ structured: true })
  let sessions = 0
  for (const end = Date.now() + DURATION_MS; Date.now() < end; sessions++) {
    const clients = await Promise.all(Array.from({ length: 4 }, () => connect()))
    await Promise.all(clients.map((client) => misbehave(client, random)))
    healthy.request(nbd.NBD_CMD_FLUSH, { cookie: BigInt(sessions) })
    const { error, cookie } = await healthy.receiveSimpleReply()
    if (error !== 0 || cookie !== BigInt(sessions)) t.fail(`round ${sessions}`, { error, cookie })
  }
  await until(() => server.clients.length === 1 && server.bytesInFlight === 0)
  healthy.request(nbd.NBD_CMD_WRITE, { offset: 512, length: 4 }, Buffer.from('well'))
  t.equal((await healthy.receiveSimpleReply()).error, 0)
  healthy.request(nbd.NBD_CMD_READ, { offset: 512, length: 4 })
  t.match(await healthy.receiveChunk(), { type: nbd.NBD_REPLY_TYPE_OFFSET_DATA })
  t.same(
    lines.filter((line) => line.startsWith('error')),
    [],
    'no request left the device and nothing was a bug',
  )
  t.ok(device.calls.length > 100, `${device.calls.length} requests of ${sessions} rounds reached the device`)
})
