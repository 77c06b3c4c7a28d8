/** Clients that misbehave, on a server in this process: what it holds and what it logs can be looked at. */
import t from 'tap'
import * as nbd from '../../src/nbd/protocol.js'
import { KiB, MiB } from '../../src/util/units.js'
import { until } from '../support/nbd-server.js'
import { seededRandom } from '../support/random.js'
import { servePair } from '../support/served-pair.js'
import { misbehave } from './client.js'
import { SessionMaker } from './session.js'

const DURATION_MS = 2000
const ROUNDS_MIN = 60
const NAME = 'disk'

void t.test('whatever clients send, the server lives on, leaks nothing and serves a healthy client', async (t) => {
  const random = seededRandom(t)
  const sessions = new SessionMaker(random, { exportName: NAME, size: MiB })
  const limits = { bytesInFlightMax: 2 * MiB, bytesOwnMax: 64 * KiB, bytesSharedMax: 2 * MiB, requestsInFlightMax: 8 }
  const { connect, memory, server, lines } = await servePair(t, MiB, { limits })
  memory.before = ({ offset }) => (offset % 3 === 0 ? new Promise((resolve) => setImmediate(resolve)) : undefined)
  const healthy = await (await connect()).go({ structured: true, name: NAME })
  let rounds = 0
  let requests = 0
  for (const end = Date.now() + DURATION_MS; Date.now() < end || rounds < ROUNDS_MIN; rounds++) {
    const clients = await Promise.all(Array.from({ length: 4 }, () => connect()))
    await Promise.all(clients.map((client) => misbehave(client, random, sessions)))
    const { error, cookie } = await healthy.ask(nbd.NBD_CMD_FLUSH, { cookie: BigInt(rounds) })
    if (error !== 0 || cookie !== BigInt(rounds)) t.fail(`round ${rounds}`, { error, cookie })
    requests += memory.calls.length
    memory.calls.length = 0
  }
  await until(() => server.clients.length === 1 && server.bytesInFlight === 0)
  t.equal((await healthy.ask(nbd.NBD_CMD_WRITE, { offset: 512, length: 4 }, Buffer.from('well'))).error, 0)
  t.equal((await healthy.ask(nbd.NBD_CMD_READ, { offset: 512, length: 4 })).data.toString(), 'well')
  const bugs = lines.filter((line) => line.startsWith('error'))
  t.same(bugs, [], 'no request left the device and nothing was a bug')
  t.ok(requests > 2 * rounds, `${requests} requests of ${rounds} rounds reached the disk`)
})
