/** What goes the short way: that it is taken, within its limits, and that the bytes are the same as on the long one. */
import t from 'tap'
import { MemoryDevice as PromptDevice } from '../../src/device/memory.js'
import * as nbd from '../../src/nbd/protocol.js'
import { KiB, MiB } from '../../src/util/units.js'
import { MemoryDevice } from '../support/memory-device.js'
import { serve } from '../support/nbd-server.js'
import { seededRandom } from '../support/random.js'

/** Counts what is done at once; `isWilling` says whether anything is. */
class CountingDevice extends PromptDevice {
  isWilling = true
  now = 0

  override readNow(offset: number, into: Buffer, start: number, length: number): boolean {
    if (this.isWilling) this.now++
    return this.isWilling && super.readNow(offset, into, start, length)
  }

  override writeNow(offset: number, from: Buffer, start: number, length: number): boolean {
    if (this.isWilling) this.now++
    return this.isWilling && super.writeNow(offset, from, start, length)
  }
}

const exportOf = (device: PromptDevice | MemoryDevice, readOnly = false) => [
  { name: 'main', description: '', device, readOnly },
]
const filled = (length: number, seed: number) => Buffer.alloc(length, `${seed}.`)

for (const isWilling of [true, false]) {
  void t.test(`requests of all lengths at once, ${isWilling ? '' : 'not '}done at once by the device`, async (t) => {
    const device = new CountingDevice(4 * MiB)
    device.isWilling = isWilling
    const { connect, server } = await serve(t, { exports: exportOf(device) })
    const client = await (await connect()).go()
    const lengths = [1, 4 * KiB, 63 * KiB, 256 * KiB, 272 * KiB, 512 * KiB, 3, 4 * KiB]
    let at = 0
    for (const [seed, length] of lengths.entries()) {
      client.request(nbd.NBD_CMD_WRITE, { cookie: BigInt(seed), offset: at, length }, filled(length, seed))
      at += length
    }
    for (const seed of lengths.keys()) t.match(await client.receiveSimpleReply(), { error: 0, cookie: BigInt(seed) })
    at = 0
    for (const [seed, length] of lengths.entries()) {
      client.request(nbd.NBD_CMD_READ, { cookie: BigInt(seed), offset: at, length })
      at += length
    }
    for (const [seed, length] of lengths.entries()) {
      t.match(await client.receiveSimpleReply(), { error: 0, cookie: BigInt(seed) })
      t.ok((await client.receive(length)).equals(filled(length, seed)), `${length} bytes`)
    }
    if (isWilling) t.ok(device.now >= 4, `${device.now} done at once`)
    else t.equal(device.now, 0)
    t.equal(server.bytesInFlight, 0)
  })
}

void t.test('a client that takes no replies is not read from, and then gets them all', async (t) => {
  const device = new CountingDevice(MiB)
  device.bytes.fill('data')
  const { connect, server } = await serve(t, { exports: exportOf(device), limits: { bytesInFlightMax: MiB } })
  const client = await (await connect()).go()
  client.socket.pause()
  const requests = 500
  for (let n = 0; n < requests; n++) client.request(nbd.NBD_CMD_READ, { cookie: BigInt(n), length: 64 * KiB })
  const other = await (await connect()).go()
  for (let n = 0; n < 50; n++) t.match(await other.ask(nbd.NBD_CMD_READ, { length: 4 * KiB }), { error: 0 })
  t.ok(server.bytesInFlight <= MiB, `${server.bytesInFlight} bytes held`)
  t.ok(server.clients[0]?.requestsInFlight, 'and they count')
  client.socket.resume()
  const seen = new Set<bigint>()
  for (let n = 0; n < requests; n++) {
    seen.add((await client.receiveSimpleReply()).cookie)
    const data = await client.receive(64 * KiB)
    if (!data.equals(device.bytes.subarray(0, 64 * KiB))) t.fail('other data')
  }
  t.equal(seen.size, requests)
  t.equal(server.bytesInFlight, 0)
})

void t.test('a client that leaves in the middle of a payload leaves nothing behind', async (t) => {
  const device = new CountingDevice(MiB)
  const { connect, server } = await serve(t, { exports: exportOf(device) })
  const client = await (await connect()).go()
  client.request(nbd.NBD_CMD_WRITE, { length: 1 }, Buffer.from('x'))
  client.request(nbd.NBD_CMD_WRITE, { offset: 1, length: 256 * KiB }, Buffer.alloc(100 * KiB, 'x'))
  await client.receiveSimpleReply()
  client.socket.destroy()
  const other = await (await connect()).go()
  while (server.clients.length > 1) await other.ask(nbd.NBD_CMD_READ, { length: 1 })
  t.equal(server.bytesInFlight, 0)
  t.equal(device.bytes.indexOf('x', 1), -1, 'and of a payload that did not come nothing is written')
})

void t.test('what is refused is refused here too', async (t) => {
  const device = new CountingDevice(MiB)
  const { connect } = await serve(t, { exports: exportOf(device, true) })
  const client = await (await connect()).go()
  t.match(await client.ask(nbd.NBD_CMD_READ, { offset: MiB - 1, length: 2 }), { error: nbd.NBD_EINVAL })
  t.match(await client.ask(nbd.NBD_CMD_READ, { offset: 2 ** 60, length: 2 }), { error: nbd.NBD_EINVAL })
  client.request(nbd.NBD_CMD_WRITE, { length: 4 }, Buffer.from('data'))
  t.match(await client.receiveSimpleReply(), { error: nbd.NBD_EPERM })
  t.equal(device.now, 0)
})

void t.test(
  'requests cut anywhere, more at a time than are carried out in one turn, some of them not at once',
  async (t) => {
    const random = seededRandom(t)
    const device = new CountingDevice(MiB)
    const { connect, server } = await serve(t, { exports: exportOf(device), limits: { requestsInFlightMax: 3 } })
    const client = await (await connect()).go()
    const model = Buffer.alloc(MiB)
    for (let round = 0; round < 60; round++) {
      device.isWilling = random.below(4) > 0
      const requests: Buffer[] = []
      const expected = new Map<bigint, Buffer>()
      for (let n = 0; n < 12; n++) {
        const cookie = BigInt(round * 100 + n)
        // Each has a part of its own, since they may be carried out in any order.
        const offset = n * 64 * KiB + random.below(1000)
        const length = random.between(1, random.pick([100, 40_000]))
        const isRead = random.below(2) === 0
        const type = isRead ? nbd.NBD_CMD_READ : nbd.NBD_CMD_WRITE
        requests.push(nbd.encodeRequest({ flags: 0, type, cookie, offset, length }))
        if (!isRead) requests.push(random.bytes(length))
        if (!isRead) requests.at(-1)?.copy(model, offset)
        expected.set(cookie, isRead ? Buffer.from(model.subarray(offset, offset + length)) : Buffer.alloc(0))
      }
      const bytes = Buffer.concat(requests)
      for (let at = 0; at < bytes.length;) {
        const next = at + random.between(1, random.pick([50, 5000, bytes.length]))
        client.send(bytes.subarray(at, next))
        at = next
        if (random.below(2) === 0) await new Promise((resolve) => setImmediate(resolve))
      }
      while (expected.size > 0) {
        const { cookie, error } = await client.receiveSimpleReply()
        const content = expected.get(cookie)
        if (content === undefined || error !== 0) throw new Error(`reply to ${cookie}: ${error}`)
        if (!(await client.receive(content.length)).equals(content)) throw new Error(`content of ${cookie}`)
        expected.delete(cookie)
      }
    }
    t.ok(device.now > 100)
    t.equal(server.bytesInFlight, 0)
  },
)
