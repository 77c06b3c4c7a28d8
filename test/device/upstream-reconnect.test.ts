import { createServer } from 'node:net'
import { readFile, writeFile } from 'node:fs/promises'
import { setImmediate as turn } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { DeviceError } from '../../src/device/device.js'
import type { UpstreamSettings } from '../../src/device/upstream-link.js'
import { UpstreamDevice } from '../../src/device/upstream.js'
import * as nbd from '../../src/nbd/protocol.js'
import { type Log, silentLog } from '../../src/util/log.js'
import { ALL_FLAGS, type Peer, scriptedServer } from '../support/scripted-nbd-server.js'
import { imageFile, startNbdkit, startQemuNbd } from '../support/upstream-servers.js'

const KiB = 1024
const MiB = 1024 * KiB
const BLOCK = 4 * KiB

async function openDevice(t: Test, uri: string, settings: Partial<UpstreamSettings> = {}): Promise<UpstreamDevice> {
  const device = await UpstreamDevice.open(uri, { log: silentLog, ...settings })
  t.teardown(() => device.close())
  return device
}

async function readAt(device: UpstreamDevice, offset: number, length: number): Promise<Buffer> {
  const into = Buffer.alloc(length)
  await device.read(offset, into)
  return into
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise
    return 'none'
  } catch (error) {
    return error instanceof DeviceError ? error.code : String(error)
  }
}

/** Lines of a log, and a way to wait for one. */
function recordedLog(): Log & { lines: string[]; seen: (pattern: RegExp) => Promise<void> } {
  const lines: string[] = []
  let waiting: (() => void)[] = []
  const add = (line: string): void => {
    lines.push(line)
    for (const wake of waiting.splice(0)) wake()
  }
  const seen = async (pattern: RegExp): Promise<void> => {
    while (!lines.some((line) => pattern.test(line))) await new Promise<void>((wake) => (waiting = [...waiting, wake]))
  }
  return { lines, seen, debug: add, info: add, warn: add, error: add }
}

void t.test('open fails at once, in one sentence, when the upstream is unreachable', async (t) => {
  const server = createServer((socket) => socket.on('error', () => undefined).end('garbage, and a lot more of it'))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  const open = (uri: string, connectTimeoutMs = 5000): Promise<unknown> =>
    UpstreamDevice.open(uri, { log: silentLog, connectTimeoutMs })
  await t.rejects(open(`nbd://127.0.0.1:${port}/x`), { message: /broke the protocol in the handshake: bad .*magic/ })
  await new Promise((resolve) => server.close(resolve))
  const uri = `nbd://127.0.0.1:${port}/x`
  await t.rejects(open(uri), { message: `cannot reach NBD server at ${uri}: connection refused` })
  await t.rejects(open('nbd+unix:///x?socket=/nowhere/s'), { message: /the socket does not exist$/ })
  await t.rejects(open('nbd://'), { name: 'NbdUriError' })
  const silent = await scriptedServer(t, () => undefined)
  await t.rejects(open(silent, 30), {
    message: `cannot reach NBD server at ${silent}: no answer within 30 ms during the handshake`,
  })
})

for (const kind of ['nbdkit', 'qemu-nbd'] as const) {
  void t.test(`${kind} is killed again and again in the middle of writes: nothing is lost, all finish`, async (t) => {
    const path = await imageFile(t, 4 * MiB)
    const server = kind === 'nbdkit' ? await startNbdkit(t, 'file', path) : await startQemuNbd(t, path)
    const device = await openDevice(t, server.uri)
    const blocks = device.size / BLOCK
    let running = true
    let writes = 0
    const content = new Uint8Array(blocks)
    const writer = async (lane: number): Promise<void> => {
      for (let i = lane; running; i += 8) {
        const fill = 1 + (writes++ % 255)
        await device.write((i % blocks) * BLOCK, [Buffer.alloc(BLOCK, fill)], { fua: i % 7 === 0 })
        content[i % blocks] = fill
        if (i % 31 === 0) await device.flush()
      }
    }
    const writers = Array.from({ length: 8 }, (_, lane) => writer(lane))
    for (let round = 0; round < 5; round++) {
      const before = writes
      while (writes < before + 200) await turn()
      await server.kill()
      await server.start()
    }
    running = false
    await Promise.all(writers)
    const got = await readAt(device, 0, device.size)
    const wrong = Array.from({ length: blocks }, (_, i) => i).filter(
      (i) => !got.subarray(i * BLOCK, (i + 1) * BLOCK).equals(Buffer.alloc(BLOCK, content[i])),
    )
    t.same(wrong, [])
    t.ok(writes >= 1000, `${writes} writes`)
  })
}

void t.test('a server that dies with a volatile cache loses nothing that it acknowledged', async (t) => {
  const path = await imageFile(t, 4 * MiB)
  const server = await startNbdkit(t, '--filter=cache', 'file', path, 'cache=writeback')
  const log = recordedLog()
  const device = await openDevice(t, server.uri, { log })
  await device.write(0, [Buffer.alloc(MiB, 1)])
  await device.flush()
  await device.write(0, [Buffer.alloc(BLOCK, 2)])
  await device.write(2048, [Buffer.alloc(BLOCK, 3)])
  await device.writeZeroes(100 * KiB, 10_000)
  await device.write(MiB, [Buffer.alloc(BLOCK, 4), Buffer.alloc(BLOCK, 5)])
  await server.kill()
  await server.start()
  const expected = Buffer.alloc(4 * MiB)
  expected
    .fill(1, 0, MiB)
    .fill(2, 0, BLOCK)
    .fill(3, 2048, 2048 + BLOCK)
  expected.fill(0, 100 * KiB, 100 * KiB + 10_000)
  expected.fill(4, MiB, MiB + BLOCK).fill(5, MiB + BLOCK, MiB + 2 * BLOCK)
  t.ok((await readAt(device, 0, 4 * MiB)).equals(expected))
  t.match(log.lines.join('\n'), /writing 4 unflushed requests again/)
  await device.flush()
  await server.kill()
  await server.start()
  t.ok((await readAt(device, 0, 4 * MiB)).equals(expected), 'and the next flush made it durable')
  t.equal(log.lines.filter((line) => line.includes('unflushed')).length, 1, 'a flush empties the journal')
})

void t.test('writes beyond the journal flush by themselves, and are kept over a crash', async (t) => {
  const path = await imageFile(t, 4 * MiB)
  const server = await startNbdkit(t, '--filter=cache', 'file', path, 'cache=writeback')
  const device = await openDevice(t, server.uri, { replayBytesMax: 100 * KiB })
  const blocks = Array.from({ length: 500 }, (_, i) => i)
  await Promise.all(blocks.map((i) => device.write(i * BLOCK, [Buffer.alloc(BLOCK, 1 + (i % 255))])))
  await device.write(3 * MiB, [Buffer.alloc(MiB, 9)])
  await server.kill()
  await server.start()
  const got = await readAt(device, 0, 4 * MiB)
  t.same(
    blocks.filter((i) => !got.subarray(i * BLOCK, (i + 1) * BLOCK).equals(Buffer.alloc(BLOCK, 1 + (i % 255)))),
    [],
  )
  t.ok(got.subarray(3 * MiB).equals(Buffer.alloc(MiB, 9)))
})

void t.test(
  'requests fail with ENODEV once the upstream is away too long, and work again when it is back',
  async (t) => {
    const path = await imageFile(t, MiB)
    const server = await startNbdkit(t, 'file', path)
    const log = recordedLog()
    const device = await openDevice(t, server.uri, { log, reconnectTimeoutMs: 50, reconnectDelayMaxMs: 20 })
    await device.write(0, [Buffer.alloc(BLOCK, 1)])
    await server.kill()
    const waiting = [codeOf(device.read(0, Buffer.alloc(512))), codeOf(device.write(0, [Buffer.alloc(512)]))]
    t.same(await Promise.all([...waiting, codeOf(device.flush())]), ['ENODEV', 'ENODEV', 'ENODEV'])
    t.equal(await codeOf(device.read(0, Buffer.alloc(512))), 'ENODEV', 'new requests too, at once')
    t.equal(await codeOf(device.trim(0, 512)), 'ENODEV')
    const error = await device.flush().catch((error: unknown) => error)
    t.match(error, { cause: { message: /did not come back within 50 ms/ } })
    await server.start()
    await log.seen(/reconnected/)
    t.ok((await readAt(device, BLOCK / 2, 512)).equals(Buffer.alloc(512, 1)))
    await device.flush()
  },
)

void t.test('writes that wait for room in the journal fail with ENODEV, too', async (t) => {
  const path = await imageFile(t, MiB)
  const server = await startNbdkit(t, 'file', path)
  const device = await openDevice(t, server.uri, { reconnectTimeoutMs: 50, replayBytesMax: 3 * BLOCK })
  await server.kill()
  const writes = Array.from({ length: 10 }, (_, i) => codeOf(device.write(i * BLOCK, [Buffer.alloc(BLOCK)])))
  t.same(new Set(await Promise.all(writes)), new Set(['ENODEV']))
})

void t.test('closing while the upstream is away ends the attempts', async (t) => {
  const server = await startNbdkit(t, 'memory', '1M')
  const log = recordedLog()
  const device = await UpstreamDevice.open(server.uri, { log })
  await server.kill()
  await log.seen(/reconnecting/)
  await device.close()
  t.equal(await codeOf(device.flush()), 'ENODEV')
})

void t.test('another size is another disk: ENODEV, until the right one is back', async (t) => {
  const path = await imageFile(t, 2 * MiB, 6)
  const server = await startNbdkit(t, 'file', path)
  const log = recordedLog()
  const device = await openDevice(t, server.uri, { log, reconnectDelayMaxMs: 20 })
  await device.write(0, [Buffer.alloc(BLOCK, 1)])
  await server.kill()
  await writeFile(path, Buffer.alloc(MiB, 8))
  await server.start()
  await log.seen(/came back as a different disk: it has 1048576 bytes instead of 2097152/)
  t.equal(await codeOf(device.read(0, Buffer.alloc(512))), 'ENODEV')
  await server.kill()
  await writeFile(path, Buffer.alloc(2 * MiB, 6))
  await server.start()
  await log.seen(/reconnected/)
  t.ok((await readAt(device, 0, BLOCK)).equals(Buffer.alloc(BLOCK, 1)), 'replayed')
  t.equal(log.lines.filter((line) => line.includes('different disk')).length, 1, 'said once')
})

void t.test('a disk that became read-only is another disk', async (t) => {
  const uri = await scriptedServer(t, async (peer, connection) => {
    await peer.handshake(MiB, connection === 0 ? ALL_FLAGS : ALL_FLAGS | nbd.NBD_FLAG_READ_ONLY)
    if (connection === 0) peer.socket.end()
  })
  const log = recordedLog()
  const device = await openDevice(t, uri, { log })
  t.equal(await codeOf(device.read(0, Buffer.alloc(512))), 'ENODEV')
  t.match(log.lines.join('\n'), /different disk: it is read-only now/)
})

/** Answers every request with 0 until `script` takes one over by returning true. */
async function answering(peer: Peer, script: (request: nbd.Request) => boolean): Promise<void> {
  for (;;) {
    const request = await peer.readRequest()
    const { type, length, cookie } = request
    if (type === nbd.NBD_CMD_WRITE) await peer.read(length)
    if (type === nbd.NBD_CMD_DISC) peer.socket.end()
    if (!script(request)) peer.reply(cookie, 0, Buffer.alloc(type === nbd.NBD_CMD_READ ? length : 0))
  }
}

void t.test('NBD_ESHUTDOWN is a connection that goes away, not an error', async (t) => {
  const uri = await scriptedServer(t, async (peer, connection) => {
    await peer.handshake(MiB)
    await answering(peer, ({ type, cookie }) => {
      if (connection > 0 || type !== nbd.NBD_CMD_WRITE) return false
      peer.reply(cookie, nbd.NBD_ESHUTDOWN)
      return true
    })
  })
  const log = recordedLog()
  const device = await openDevice(t, uri, { log })
  t.equal(await codeOf(device.write(0, [Buffer.alloc(512)])), 'none')
  t.match(log.lines.join('\n'), /NBD_ESHUTDOWN .*reconnecting/)
})

void t.test('a server that breaks the protocol is connected to anew', async (t) => {
  const uri = await scriptedServer(t, async (peer, connection) => {
    await peer.handshake(MiB)
    await answering(peer, ({ cookie }) => {
      if (connection === 0) peer.reply(cookie + 100n)
      return connection === 0
    })
  })
  const device = await openDevice(t, uri)
  t.equal(await codeOf(device.read(0, Buffer.alloc(512))), 'none')
})

void t.test('a request that kills the server each time fails in the end, others do not', async (t) => {
  const uri = await scriptedServer(t, async (peer) => {
    await peer.handshake(MiB)
    await answering(peer, ({ offset }) => {
      if (offset === 4096) peer.socket.destroy()
      return offset === 4096
    })
  })
  const device = await openDevice(t, uri, { reconnectTimeoutMs: 1000, reconnectDelayMaxMs: 20 })
  t.equal(await codeOf(device.read(4096, Buffer.alloc(512))), 'ENODEV')
  t.equal(await codeOf(device.read(0, Buffer.alloc(512))), 'none')
})

void t.test('back-off grows while the server only accepts and closes', async (t) => {
  let connections = 0
  const uri = await scriptedServer(t, async (peer) => {
    connections++
    await peer.handshake(MiB)
    peer.socket.end()
  })
  const device = await openDevice(t, uri, { reconnectTimeoutMs: 1000, reconnectDelayMs: 10, reconnectDelayMaxMs: 1000 })
  t.equal(await codeOf(device.read(0, Buffer.alloc(512))), 'ENODEV')
  t.ok(connections >= 3 && connections < 12, `${connections} connections`)
})

void t.test('the journal is replayed before anything else is sent, and in order', async (t) => {
  const seen: string[] = []
  const uri = await scriptedServer(t, async (peer, connection) => {
    await peer.handshake(MiB)
    await answering(peer, ({ type, offset }) => {
      if (connection > 0) seen.push(`${type}@${offset}`)
      if (connection === 0 && type === nbd.NBD_CMD_READ) peer.socket.destroy()
      return connection === 0 && type === nbd.NBD_CMD_READ
    })
  })
  const device = await openDevice(t, uri)
  await device.write(0, [Buffer.alloc(512, 1)])
  await device.trim(0, 512)
  await device.write(0, [Buffer.alloc(512, 2)])
  await device.read(8192, Buffer.alloc(512))
  t.same(seen, ['1@0', '4@0', '1@0', '0@8192'])
})

void t.test('acknowledged data that cannot be written again fails the next flush, once', async (t) => {
  const uri = await scriptedServer(t, async (peer, connection) => {
    await peer.handshake(MiB)
    await answering(peer, ({ type, cookie }) => {
      if (connection === 0 && type === nbd.NBD_CMD_READ) peer.socket.destroy()
      if (connection > 0 && type === nbd.NBD_CMD_WRITE) peer.reply(cookie, nbd.NBD_EIO)
      return connection === 0 ? type === nbd.NBD_CMD_READ : type === nbd.NBD_CMD_WRITE
    })
  })
  const log = recordedLog()
  const device = await openDevice(t, uri, { log })
  await device.write(0, [Buffer.alloc(512, 1)])
  await device.read(0, Buffer.alloc(512))
  t.match(log.lines.join('\n'), /writing acknowledged data again failed, so the next flush is going to fail/)
  t.equal(await codeOf(device.flush()), 'EIO')
  t.equal(await codeOf(device.flush()), 'none')
})

void t.test('a flush of its own that fails is told to the next caller of flush, once', async (t) => {
  let flushes = 0
  const uri = await scriptedServer(t, async (peer) => {
    await peer.handshake(MiB)
    await answering(peer, ({ type, cookie }) => {
      if (type !== nbd.NBD_CMD_FLUSH || flushes++ > 0) return false
      peer.reply(cookie, nbd.NBD_EIO)
      return true
    })
  })
  const log = recordedLog()
  const device = await openDevice(t, uri, { log, replayBytesMax: 16 * KiB })
  await device.write(0, [Buffer.alloc(12 * KiB)])
  await log.seen(/a flush failed, so the next flush is going to fail/)
  t.equal(await codeOf(device.write(0, [Buffer.alloc(BLOCK)])), 'none')
  t.equal(await codeOf(device.flush()), 'EIO')
  t.equal(await codeOf(device.flush()), 'none')
})

void t.test('a durable write that overlaps unflushed ones survives the replay', async (t) => {
  const path = await imageFile(t, MiB)
  const server = await startNbdkit(t, '--filter=cache', 'file', path, 'cache=writeback')
  const device = await openDevice(t, server.uri)
  await device.write(0, [Buffer.alloc(2 * BLOCK, 1)])
  await device.write(0, [Buffer.alloc(BLOCK, 2)], { fua: true })
  await server.kill()
  await server.start()
  t.ok((await readAt(device, 0, BLOCK)).equals(Buffer.alloc(BLOCK, 2)))
  t.ok((await readAt(device, BLOCK, BLOCK)).equals(Buffer.alloc(BLOCK, 1)))
})

void t.test('closing is not held up by a server that never answers', async (t) => {
  const uri = await scriptedServer(t, async (peer) => {
    await peer.handshake(MiB)
    await answering(peer, ({ type }) => type === nbd.NBD_CMD_FLUSH)
  })
  const device = await UpstreamDevice.open(uri, { log: silentLog, connectTimeoutMs: 500, replayBytesMax: 16 * KiB })
  await device.write(0, [Buffer.alloc(12 * KiB)])
  await device.close()
  t.equal(await codeOf(device.read(0, Buffer.alloc(512))), 'ENODEV')
})

void t.test('closing is not held up by a replay that never ends', async (t) => {
  let replaying: () => void = () => undefined
  const replayed = new Promise<void>((resolve) => (replaying = resolve))
  const uri = await scriptedServer(t, async (peer, connection) => {
    await peer.handshake(MiB)
    await answering(peer, ({ type }) => {
      if (connection === 0 && type === nbd.NBD_CMD_READ) peer.socket.destroy()
      if (connection > 0) replaying()
      return connection > 0 || type === nbd.NBD_CMD_READ
    })
  })
  const device = await UpstreamDevice.open(uri, { log: silentLog })
  await device.write(0, [Buffer.alloc(512)])
  const read = codeOf(device.read(0, Buffer.alloc(512)))
  await replayed
  await device.close()
  t.equal(await read, 'ENODEV')
})

void t.test('nothing is written again on a disk that belongs to another server by now', async (t) => {
  const path = await imageFile(t, 1 * MiB)
  const server = await startNbdkit(t, 'file', path)
  const device = await openDevice(t, server.uri, {
    beforeReplay: async (source) => {
      const mark = Buffer.alloc(BLOCK)
      await source.read(0, mark)
      if (mark.some((byte) => byte !== 0)) throw new DeviceError('ESHUTDOWN', server.uri, 'write', 0, 0)
    },
  })
  await device.write(BLOCK, [Buffer.alloc(BLOCK, 1)])
  await server.kill()
  await server.start()
  t.same(await readAt(device, BLOCK, BLOCK), Buffer.alloc(BLOCK, 1), 'its own disk is used again')
  await device.write(2 * BLOCK, [Buffer.alloc(BLOCK, 2)])
  await server.kill()
  const others = Buffer.alloc(1 * MiB, 9)
  await writeFile(path, others)
  await server.start()
  t.equal(await codeOf(device.write(3 * BLOCK, [Buffer.alloc(BLOCK, 3)])), 'ENODEV')
  t.equal(await codeOf(readAt(device, 0, BLOCK)), 'ENODEV')
  t.ok((await readFile(path)).equals(others), 'neither what was not flushed nor what is new was written')
})
