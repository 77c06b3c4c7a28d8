/**
 * Long requests, whose data goes between the socket and a file through a pipe: the same bytes and the same answers as without
 * one, wherever the stream is cut and whatever the device does not take.
 */
import { openSync, readFileSync, readdirSync, writeFileSync, constants } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { LocalDevice } from '../../src/device/local.js'
import * as nbd from '../../src/nbd/protocol.js'
import type { RawClient } from '../../src/conformance/raw-client.js'
import type { Limits } from '../../src/server/limits.js'
import type { Pipe } from '../../src/util/pipe.js'
import type { Random } from '../../src/util/random.js'
import { KiB, MiB } from '../../src/util/units.js'
import { serve, until } from '../support/nbd-server.js'
import { seededRandom } from '../support/random.js'

const SIZE = 8 * MiB

/** A file that may take only a part from a pipe, or nothing, as a slow or a full one. */
class FileDevice extends LocalDevice {
  /** Of a request, to and from pipes. */
  share = (): number => 1
  piped = { read: 0, written: 0 }

  override readToPipe(offset: number, length: number, pipe: Pipe): boolean {
    const part = Math.floor(length * this.share())
    const isDone = super.readToPipe(offset, part, pipe) && part === length
    if (isDone) this.piped.read += length
    return isDone
  }

  override writeFromPipe(offset: number, length: number, pipe: Pipe): number {
    const part = Math.floor(length * this.share())
    const written = part === 0 ? 0 : super.writeFromPipe(offset, part, pipe)
    this.piped.written += written
    return written
  }
}

async function serveFile(t: Test, options: { limits?: Partial<Limits>; readOnly?: boolean } = {}) {
  const path = join(t.testdir({}), 'disk')
  writeFileSync(path, Buffer.alloc(SIZE, 'old'))
  const { readOnly = false, limits } = options
  const device = new FileDevice({
    ...{ name: path, fd: openSync(path, constants.O_RDWR), size: SIZE, readOnly, writesThrough: false },
    ...{ blockSizes: { minimum: 1, preferred: 4 * KiB, maximum: 64 * MiB }, trimCommand: [], zeroCommand: [] },
  })
  t.teardown(() => device.close())
  const exports = [{ name: 'main', description: '', device, readOnly }]
  const served = await serve(t, { exports, ...(limits && { limits }) })
  return { ...served, device, content: () => readFileSync(path) }
}

const cookieOf = (n: number): bigint => BigInt(n)

function write(offset: number, data: Buffer, n: number): Buffer {
  const request = { flags: 0, type: nbd.NBD_CMD_WRITE, cookie: cookieOf(n), offset, length: data.length }
  return Buffer.concat([nbd.encodeRequest(request), data])
}

const read = (offset: number, length: number, n: number): Buffer =>
  nbd.encodeRequest({ flags: 0, type: nbd.NBD_CMD_READ, cookie: cookieOf(n), offset, length })

const flush = (n: number): Buffer =>
  nbd.encodeRequest({ flags: 0, type: nbd.NBD_CMD_FLUSH, cookie: cookieOf(n), offset: 0, length: 0 })

/** Sends in pieces cut anywhere, some of them in a turn of their own. */
async function sendCut(client: RawClient, bytes: Buffer, random: Random): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const next = at + random.between(1, random.pick([30, 5000, 300_000, bytes.length]))
    client.send(bytes.subarray(at, next))
    at = next
    if (random.below(2) === 0) await new Promise((resolve) => setImmediate(resolve))
  }
}

for (const [pipes, pipesMax] of [
  ['with pipes', 32],
  ['with one pipe', 1],
  ['without', 0],
] as const) {
  void t.test(`long reads and writes one after the other, ${pipes}`, async (t) => {
    const random = seededRandom(t)
    const { connect, device, content, server } = await serveFile(t, { limits: { pipesMax } })
    const clients = [await (await connect()).go(), await (await connect()).go()]
    const model = Buffer.alloc(SIZE, 'old')
    for (const [index, client] of clients.entries()) {
      const writes = Array.from({ length: 16 }, (_, n) => {
        const [offset, data] = [(index * 16 + n) * 256 * KiB - n, random.bytes(256 * KiB)]
        data.copy(model, Math.max(0, offset))
        return write(Math.max(0, offset), data, n)
      })
      client.send(Buffer.concat(writes))
    }
    for (const client of clients) {
      for (let n = 0; n < 16; n++) t.match(await client.receiveSimpleReply(), { error: 0, cookie: cookieOf(n) })
    }
    t.ok(content().equals(model), 'all is written')
    for (const client of clients) for (let n = 0; n < 30; n++) client.send(read(n * 256 * KiB + n, 256 * KiB, n))
    for (const client of clients) {
      for (let n = 0; n < 30; n++) {
        t.match(await client.receiveSimpleReply(), { error: 0, cookie: cookieOf(n) })
        const from = n * 256 * KiB + n
        t.ok((await client.receive(256 * KiB)).equals(model.subarray(from, from + 256 * KiB)), `read ${n}`)
      }
    }
    if (pipesMax === 0) t.same(device.piped, { read: 0, written: 0 })
    else t.ok(device.piped.read > 4 * MiB && device.piped.written > 2 * MiB, JSON.stringify(device.piped))
    t.equal(server.bytesInFlight, 0)
  })
}

void t.test('all kinds of requests cut anywhere, on a device that takes only a part now and then', async (t) => {
  const random = seededRandom(t)
  const { connect, device, content, server } = await serveFile(t)
  const client = await (await connect()).go()
  const model = Buffer.alloc(SIZE, 'old')
  device.share = () => random.pick([0, 0.5, 1, 1, 1, 1])
  for (let round = 0; round < 40; round++) {
    const requests: Buffer[] = []
    const expected = new Map<bigint, Buffer>()
    for (let n = 0; n < 12; n++) {
      // Each has a part of its own, since they may be carried out in any order.
      const offset = n * 640 * KiB + random.below(1000)
      const length = random.pick([random.between(1, 5000), random.between(64 * KiB, 300 * KiB), 256 * KiB, 256 * KiB])
      const kind = random.pick(['read', 'write', 'write', 'write', 'flush'])
      const id = round * 100 + n
      if (kind === 'read') requests.push(read(offset, length, id))
      else if (kind === 'flush') requests.push(flush(id))
      else {
        const data = random.bytes(length)
        data.copy(model, offset)
        requests.push(write(offset, data, id))
      }
      expected.set(
        cookieOf(id),
        kind === 'read' ? Buffer.from(model.subarray(offset, offset + length)) : Buffer.alloc(0),
      )
    }
    await sendCut(client, Buffer.concat(requests), random)
    while (expected.size > 0) {
      const { cookie, error } = await client.receiveSimpleReply()
      const data = expected.get(cookie)
      if (data === undefined || error !== 0) throw new Error(`reply to ${cookie}: ${error}`)
      if (!(await client.receive(data.length)).equals(data)) throw new Error(`content of ${cookie}`)
      expected.delete(cookie)
    }
    if (!content().equals(model)) throw new Error(`round ${round}: other content`)
  }
  t.ok(device.piped.read > 0 && device.piped.written > 0, JSON.stringify(device.piped))
  t.equal(server.bytesInFlight, 0)
})

void t.test('structured replies', async (t) => {
  const { connect, device, content } = await serveFile(t)
  const client = await (await connect()).go({ structured: true })
  const data = seededRandom(t).bytes(256 * KiB)
  client.send(write(KiB, data, 1))
  t.match(await client.receiveSimpleReply(), { error: 0, cookie: 1n })
  client.send(read(KiB, data.length, 2))
  const chunk = await client.receiveChunk()
  t.match(chunk, { flags: nbd.NBD_REPLY_FLAG_DONE, type: nbd.NBD_REPLY_TYPE_OFFSET_DATA, cookie: 2n })
  t.equal(chunk.payload.readBigUInt64BE(0), BigInt(KiB))
  t.ok(chunk.payload.subarray(8).equals(data))
  t.ok(
    content()
      .subarray(KiB, KiB + data.length)
      .equals(data),
  )
  t.ok(device.piped.read === data.length, 'it was a pipe')
})

void t.test('a client that takes no replies waits alone, and then gets them all', async (t) => {
  const { connect, server } = await serveFile(t)
  const client = await (await connect()).go()
  client.socket.pause()
  for (let n = 0; n < 64; n++) client.send(read(0, 256 * KiB, n))
  const other = await (await connect()).go()
  for (let n = 0; n < 20; n++) {
    other.send(write(MiB, Buffer.alloc(256 * KiB, String(n)), n))
    t.match(await other.receiveSimpleReply(), { error: 0 })
  }
  t.ok(server.clients[0]?.requestsInFlight, 'and they count')
  client.socket.resume()
  for (let n = 0; n < 64; n++) {
    t.match(await client.receiveSimpleReply(), { error: 0, cookie: cookieOf(n) })
    await client.receive(256 * KiB)
  }
  t.equal(server.bytesInFlight, 0)
})

void t.test('of a payload that does not come nothing is written, and its pipe is free again', async (t) => {
  const { connect, server, content, device } = await serveFile(t, { limits: { pipesMax: 1 } })
  const descriptors = (): number => readdirSync('/proc/self/fd').length
  const first = await (await connect()).go()
  first.send(
    Buffer.concat([
      write(0, Buffer.alloc(256 * KiB, 'new'), 1),
      write(MiB, Buffer.alloc(256 * KiB, 'x'), 2).subarray(0, 200 * KiB),
    ]),
  )
  t.match(await first.receiveSimpleReply(), { error: 0, cookie: 1n })
  const before = descriptors()
  for (let n = 0; n < 5; n++) {
    const client = await (await connect()).go()
    client.send(write(2 * MiB, Buffer.alloc(256 * KiB, 'x'), 1).subarray(0, 100 * KiB + n))
    client.socket.destroy()
  }
  first.socket.destroy()
  const other = await (await connect()).go()
  while (server.clients.length > 1) await other.ask(nbd.NBD_CMD_FLUSH)
  t.equal(content().indexOf('x'), -1)
  t.ok(
    content()
      .subarray(0, 256 * KiB)
      .equals(Buffer.alloc(256 * KiB, 'new')),
  )
  t.ok(descriptors() <= before, 'no descriptor is left open')
  device.piped.written = 0
  other.send(Buffer.concat([write(0, Buffer.alloc(256 * KiB, 'y'), 1), write(MiB, Buffer.alloc(256 * KiB, 'y'), 2)]))
  for (let n = 0; n < 2; n++) t.match(await other.receiveSimpleReply(), { error: 0 })
  t.ok(device.piped.written > 0, 'the pipe serves another client')
})

void t.test('payloads in so small pieces that no pipe holds them', async (t) => {
  const { connect, content } = await serveFile(t)
  const client = await (await connect()).go()
  const data = seededRandom(t).bytes(128 * KiB)
  const bytes = Buffer.concat([write(0, data, 1), write(MiB, data, 2)])
  // Each piece is a packet of its own, and takes a place of its own in the pipe.
  for (let at = 0; at < bytes.length; at += 97) {
    client.send(bytes.subarray(at, at + 97))
    if (at % 9700 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  for (const cookie of [1n, 2n]) t.match(await client.receiveSimpleReply(), { error: 0, cookie })
  t.ok(content().subarray(0, data.length).equals(data))
  t.ok(
    content()
      .subarray(MiB, MiB + data.length)
      .equals(data),
  )
})

void t.test('what is refused is refused here too', async (t) => {
  const { connect, content } = await serveFile(t, { readOnly: true })
  const client = await (await connect()).go()
  client.send(read(SIZE - KiB, 256 * KiB, 1))
  t.match(await client.receiveSimpleReply(), { error: nbd.NBD_EINVAL, cookie: 1n })
  for (const n of [2, 3]) {
    client.send(write(0, Buffer.alloc(256 * KiB), n))
    t.match(await client.receiveSimpleReply(), { error: nbd.NBD_EPERM, cookie: cookieOf(n) })
  }
  t.ok(content().equals(Buffer.alloc(SIZE, 'old')))
})

void t.test('a server that stops finishes what was received as a whole', async (t) => {
  const { connect, server, content } = await serveFile(t)
  const client = await (await connect()).go()
  client.send(Buffer.concat([0, 1, 2].map((n) => write(n * MiB, Buffer.alloc(256 * KiB, 'new'), n))))
  for (const cookie of [0n, 1n, 2n]) t.match(await client.receiveSimpleReply(), { error: 0, cookie })
  client.send(write(4 * MiB, Buffer.alloc(256 * KiB, 'x'), 4).subarray(0, 100 * KiB))
  await until(() => server.clients.length === 1)
  await server.close()
  t.equal(content().indexOf('x'), -1)
  t.equal((await client.receiveAll()).length, 0)
})
