import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { NbdConnectionError, NbdProtocolError, NbdServerError } from '../../src/nbd/client-errors.js'
import { NbdClient } from '../../src/nbd/client.js'
import * as nbd from '../../src/nbd/protocol.js'
import { ALL_FLAGS, type Peer, scriptedServer } from '../support/scripted-nbd-server.js'
import { imageFile, startNbdkit, startQemuNbd } from '../support/upstream-servers.js'

const MiB = 1024 * 1024

void t.test('reads and writes an nbdkit memory disk', async (t) => {
  const server = await startNbdkit(t, 'memory', '8M')
  const client = await NbdClient.connect(server.uri)
  t.equal(client.size, 8 * MiB)
  t.equal(client.flags.sendFlush, true)
  t.equal(client.flags.readOnly, false)
  await client.write(1000, [Buffer.from('hello '), Buffer.alloc(0), Buffer.from('world')])
  await client.write(4096, [Buffer.alloc(3 * MiB, 7)], { fua: true })
  await client.flush()
  const into = Buffer.alloc(11)
  await client.read(1000, into)
  t.equal(into.toString(), 'hello world')
  await client.writeZeroes(4096, 1024, { noHole: true })
  await client.trim(1 * MiB, 1 * MiB)
  const more = Buffer.alloc(3 * MiB)
  await client.read(4096, more)
  t.ok(more.subarray(0, 1024).equals(Buffer.alloc(1024)))
  t.ok(more.subarray(1024, 900_000).every((byte) => byte === 7))
  await client.disconnect()
})

void t.test('keeps hundreds of requests in flight apart', async (t) => {
  const image = await imageFile(t, 8 * MiB)
  const server = await startQemuNbd(t, image)
  const client = await NbdClient.connect(server.uri, { requestsInFlightMax: 16 })
  const offsets = Array.from({ length: 500 }, (_, i) => i * 8192)
  await Promise.all(offsets.map((offset) => client.write(offset, [Buffer.alloc(4096, offset / 8192)])))
  const blocks = await Promise.all(
    offsets.map(async (offset) => {
      const into = Buffer.alloc(4096, 0xee)
      await client.read(offset, into)
      return into
    }),
  )
  t.equal(
    blocks.findIndex((block, i) => !block.equals(Buffer.alloc(4096, i))),
    -1,
  )
  await client.disconnect()
})

void t.test('a read-only server says so', async (t) => {
  const server = await startNbdkit(t, '-r', 'memory', '1M')
  const client = await NbdClient.connect(server.uri)
  t.equal(client.flags.readOnly, true)
  await t.rejects(client.write(0, [Buffer.alloc(512)]), { name: 'NbdServerError', errorName: 'NBD_EPERM' })
  await client.disconnect()
})

void t.test('one failed command is an error of that command only', async (t) => {
  const server = await startNbdkit(t, '--filter=error', 'memory', '1M', 'error-pread=EIO', 'error-pread-rate=100%')
  const client = await NbdClient.connect(server.uri)
  const error = await client.read(4096, Buffer.alloc(512)).catch((error: unknown) => error)
  t.type(error, NbdServerError)
  t.match(error, { errorName: 'NBD_EIO', errorValue: 5 })
  t.match(error, { message: /NBD_CMD_READ of 512 bytes at offset 4096 failed: NBD_EIO \(5\)/ })
  t.match(error, { message: server.uri })
  await client.write(0, [Buffer.alloc(512)])
  await client.disconnect()
})

void t.test('never sends more requests than allowed, and sends the rest in order', async (t) => {
  const seen: number[] = []
  const uri = await scriptedServer(t, async (peer) => {
    await peer.handshake(MiB)
    const first = [await peer.readRequest(), await peer.readRequest()]
    seen.push(...first.map(({ offset }) => offset))
    await turn()
    t.equal(await Promise.race([peer.read(1), turn('nothing')]), 'nothing')
    for (const { cookie } of first) peer.reply(cookie, 0, Buffer.alloc(512))
  })
  const client = await NbdClient.connect(uri, { requestsInFlightMax: 2 })
  const reads = [0, 512, 1024].map((offset) => client.read(offset, Buffer.alloc(512)))
  reads[2]!.catch(() => undefined)
  await Promise.all(reads.slice(0, 2))
  t.same(seen, [0, 512])
  client.destroy()
})

void t.test('replies may come in any order and split at any byte', async (t) => {
  const uri = await scriptedServer(t, async (peer) => {
    await peer.handshake(MiB)
    const requests = [await peer.readRequest(), await peer.readRequest(), await peer.readRequest()]
    const replies = requests.reverse().map(({ cookie, offset, length }) => {
      const header = Buffer.alloc(16)
      nbd.encodeSimpleReply(header, { error: offset === 512 ? 5 : 0, cookie })
      return offset === 512 ? header : Buffer.concat([header, Buffer.alloc(length, offset / 512 + 1)])
    })
    peer.socket.setNoDelay(true)
    for (const byte of Buffer.concat(replies)) {
      peer.write(Buffer.of(byte))
      await turn()
    }
  })
  const client = await NbdClient.connect(uri)
  const buffers = [Buffer.alloc(8), Buffer.alloc(8), Buffer.alloc(8)]
  const order: number[] = []
  const results = await Promise.allSettled(
    buffers.map((into, i) => client.read(i * 512, into).finally(() => order.push(i))),
  )
  t.same(
    results.map(({ status }) => status),
    ['fulfilled', 'rejected', 'fulfilled'],
  )
  t.same(order, [2, 1, 0])
  t.same(buffers[0], Buffer.alloc(8, 1))
  t.same(buffers[2], Buffer.alloc(8, 3))
  client.destroy()
})

const BROKEN_REPLIES: readonly [string, (peer: Peer, request: nbd.Request) => void, RegExp][] = [
  [
    'a wrong magic',
    (peer) => {
      peer.write(Buffer.alloc(16, 0x41))
    },
    /bad simple reply magic 0x41414141/,
  ],
  [
    'a structured reply, which was not negotiated',
    (peer, { cookie }) => {
      const header = Buffer.alloc(20)
      nbd.encodeChunkHeader(header, { flags: 1, type: 0, cookie, length: 0 })
      peer.write(header)
    },
    /bad simple reply magic 0x668e33ef/,
  ],
  [
    'an unknown cookie',
    (peer, { cookie }) => {
      peer.reply(cookie + 5n)
    },
    /not in flight \(cookie 6\)/,
  ],
  [
    'a huge cookie',
    (peer, { cookie }) => {
      peer.reply(cookie + 2n ** 63n)
    },
    /not in flight/,
  ],
  [
    'a second reply to one request',
    (peer, { cookie }) => {
      peer.reply(cookie, 5)
      peer.reply(cookie, 5)
    },
    /not in flight \(cookie 1\)/,
  ],
]
for (const [what, misbehave, message] of BROKEN_REPLIES) {
  void t.test(`${what} breaks the protocol: the connection is cut and every request rejects`, async (t) => {
    let closed: Promise<unknown> | undefined
    const uri = await scriptedServer(t, async (peer) => {
      closed = new Promise((resolve) => peer.socket.once('close', resolve))
      await peer.handshake(MiB)
      const request = await peer.readRequest()
      await peer.readRequest()
      misbehave(peer, request)
    })
    const client = await NbdClient.connect(uri)
    const [first, second] = await Promise.allSettled([client.read(0, Buffer.alloc(512)), client.flush()])
    t.equal(first.status, 'rejected')
    t.equal(second.status, 'rejected')
    const error = await client.lost
    t.type(error, NbdProtocolError)
    t.match(error.message, message)
    t.ok(error.message.includes(client.uri))
    if (second.status === 'rejected') t.equal(second.reason, error)
    await closed
    await t.rejects(client.flush(), NbdProtocolError)
  })
}

void t.test('when the connection is lost in a reply, everything in flight or waiting rejects', async (t) => {
  const uri = await scriptedServer(t, async (peer) => {
    await peer.handshake(MiB)
    const { cookie } = await peer.readRequest()
    peer.reply(cookie, 0, Buffer.alloc(100))
    peer.socket.end()
  })
  const client = await NbdClient.connect(uri, { requestsInFlightMax: 2 })
  const results = await Promise.allSettled([
    client.read(0, Buffer.alloc(512)),
    client.flush(),
    client.write(0, [Buffer.alloc(512)]),
  ])
  for (const result of results) {
    t.equal(result.status, 'rejected')
    if (result.status === 'rejected') t.type(result.reason, NbdConnectionError)
  }
  t.type(await client.lost, NbdConnectionError)
  const late = await client.flush().catch((error: unknown) => error)
  t.match(late, { name: 'NbdConnectionError', message: /lost the connection to NBD server at .*the server closed/ })
})

void t.test('a server that is killed rejects what is in flight', async (t) => {
  const server = await startNbdkit(t, '--filter=delay', 'memory', '1M', 'rdelay=60')
  const client = await NbdClient.connect(server.uri)
  const read = client.read(0, Buffer.alloc(512))
  read.catch(() => undefined)
  await client.flush()
  await server.kill()
  await t.rejects(read, NbdConnectionError)
})

void t.test('disconnect waits for what is in flight, says DISC, and takes no new requests', async (t) => {
  const said: number[] = []
  const uri = await scriptedServer(t, async (peer) => {
    await peer.handshake(MiB)
    const write = await peer.readRequest()
    await peer.read(write.length)
    await turn()
    peer.reply(write.cookie)
    said.push((await peer.readRequest()).type)
    peer.socket.end()
  })
  const client = await NbdClient.connect(uri)
  const write = client.write(0, [Buffer.alloc(512)])
  const disconnected = client.disconnect()
  await t.rejects(client.flush(), NbdConnectionError)
  await write
  await disconnected
  t.same(said, [nbd.NBD_CMD_DISC])
})

void t.test('destroy rejects what is in flight', async (t) => {
  const uri = await scriptedServer(t, (peer) => peer.handshake(MiB))
  const client = await NbdClient.connect(uri)
  const flush = client.flush()
  client.destroy()
  await t.rejects(flush, { name: 'NbdConnectionError', message: /disconnected by this side/ })
  await client.lost
})

void t.test('requests outside the export, or without their flag, are bugs of the caller', async (t) => {
  const uri = await scriptedServer(t, (peer) => peer.handshake(MiB, ALL_FLAGS & ~nbd.NBD_FLAG_SEND_FLUSH))
  const client = await NbdClient.connect(uri)
  await t.rejects(client.read(MiB - 511, Buffer.alloc(512)), { name: 'InvariantError' })
  await t.rejects(client.trim(-1, 10), { name: 'InvariantError' })
  await t.rejects(client.flush(), { name: 'InvariantError' })
  client.destroy()
})

void t.test('commands and flags are sent as the protocol says', async (t) => {
  const requests: nbd.Request[] = []
  const uri = await scriptedServer(t, async (peer) => {
    await peer.handshake(2 ** 40)
    for (;;) {
      const request = await peer.readRequest()
      requests.push(request)
      if (request.type === nbd.NBD_CMD_WRITE) t.equal((await peer.read(request.length)).toString(), 'abcd')
      peer.reply(request.cookie)
    }
  })
  const client = await NbdClient.connect(uri)
  await client.write(2 ** 39 + 3, [Buffer.from('ab'), Buffer.from('cd')], { fua: true })
  await client.flush()
  await client.trim(512, 2 ** 32 - 512, { fua: true })
  await client.writeZeroes(0, 4096, { noHole: true })
  await client.writeZeroes(0, 4096, { fua: true })
  await client.cache(0, 1)
  client.destroy()
  t.same(
    requests.map(({ type, flags, offset, length }) => [type, flags, offset, length]),
    [
      [nbd.NBD_CMD_WRITE, nbd.NBD_CMD_FLAG_FUA, 2 ** 39 + 3, 4],
      [nbd.NBD_CMD_FLUSH, 0, 0, 0],
      [nbd.NBD_CMD_TRIM, nbd.NBD_CMD_FLAG_FUA, 512, 2 ** 32 - 512],
      [nbd.NBD_CMD_WRITE_ZEROES, nbd.NBD_CMD_FLAG_NO_HOLE, 0, 4096],
      [nbd.NBD_CMD_WRITE_ZEROES, nbd.NBD_CMD_FLAG_FUA, 0, 4096],
      [nbd.NBD_CMD_CACHE, 0, 0, 1],
    ],
  )
  t.equal(new Set(requests.map(({ cookie }) => cookie)).size, requests.length)
})
