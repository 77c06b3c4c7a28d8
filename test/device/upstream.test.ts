import { readFile } from 'node:fs/promises'
import t, { type Test } from 'tap'
import { DeviceError } from '../../src/device/device.js'
import { UpstreamDevice } from '../../src/device/upstream.js'
import * as nbd from '../../src/nbd/protocol.js'
import { silentLog } from '../../src/util/log.js'
import { ALL_FLAGS, type Peer, scriptedServer } from '../support/scripted-nbd-server.js'
import { imageFile, startNbdkit, startQemuNbd, startStorageDaemon } from '../support/upstream-servers.js'

const KiB = 1024
const MiB = 1024 * KiB

async function openDevice(t: Test, uri: string): Promise<UpstreamDevice> {
  const device = await UpstreamDevice.open(uri, { log: silentLog })
  t.teardown(() => device.close())
  return device
}

async function readAt(device: UpstreamDevice, offset: number, length: number): Promise<Buffer> {
  const into = Buffer.alloc(length, 0xee)
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

void t.test('a file behind qemu-nbd: everything written is in the file', async (t) => {
  const path = await imageFile(t, 8 * MiB, 0xff)
  const server = await startQemuNbd(t, path)
  const device = await openDevice(t, server.uri)
  t.match(device, { name: server.uri, size: 8 * MiB, readOnly: false })
  await device.write(3, [Buffer.from('abc'), Buffer.from('def')], { fua: true })
  await device.write(1 * MiB - 1, [Buffer.alloc(2 * MiB, 5)])
  await device.writeZeroes(4 * MiB + 1, 1 * MiB, { noHole: true, fua: true })
  await device.trim(6 * MiB, 1 * MiB)
  await device.flush()
  const expected = Buffer.alloc(8 * MiB, 0xff)
  expected.write('abcdef', 3)
  expected.fill(5, 1 * MiB - 1, 3 * MiB - 1)
  expected.fill(0, 4 * MiB + 1, 5 * MiB + 1)
  const file = await readFile(path)
  t.ok(file.subarray(0, 6 * MiB).equals(expected.subarray(0, 6 * MiB)))
  t.ok((await readAt(device, 0, 6 * MiB)).equals(expected.subarray(0, 6 * MiB)))
  t.ok((await readAt(device, 7 * MiB + 5, 1000)).equals(Buffer.alloc(1000, 0xff)))
})

void t.test('requests without length have no effect', async (t) => {
  const device = await openDevice(t, (await startNbdkit(t, 'memory', '1M')).uri)
  await device.read(1 * MiB, Buffer.alloc(0))
  await device.write(5, [])
  await device.trim(0, 0)
  await device.writeZeroes(1 * MiB, 0)
  t.ok((await readAt(device, 0, 16)).equals(Buffer.alloc(16)))
})

void t.test('requests outside the device are bugs of the caller', async (t) => {
  const device = await openDevice(t, (await startNbdkit(t, 'memory', '1M')).uri)
  await t.rejects(device.read(1 * MiB - 1, Buffer.alloc(2)), { name: 'InvariantError' })
  await t.rejects(device.write(-1, [Buffer.alloc(2)]), { name: 'InvariantError' })
})

void t.test('a read-only server makes a read-only device', async (t) => {
  const device = await openDevice(t, (await startNbdkit(t, '-r', 'memory', '1M')).uri)
  t.equal(device.readOnly, true)
  t.equal(await codeOf(device.write(0, [Buffer.alloc(1)])), 'EPERM')
})

void t.test('one bad sector in a storage daemon: EIO for it, and the connection lives', async (t) => {
  const path = await imageFile(t, 4 * MiB, 0x41)
  const server = await startStorageDaemon(
    t,
    `driver=file,node-name=f0,filename=${path},discard=unmap`,
    'driver=blkdebug,node-name=bd,image=f0,discard=unmap,' +
      'inject-error.0.event=none,inject-error.0.sector=2048,inject-error.0.errno=5,inject-error.0.iotype=read,' +
      'inject-error.1.event=none,inject-error.1.sector=4096,inject-error.1.errno=110,inject-error.1.iotype=write',
    'driver=raw,node-name=top,file=bd,discard=unmap',
  )
  const device = await openDevice(t, server.uri)
  const error = await device.read(2047 * 512, Buffer.alloc(2048)).catch((error: unknown) => error)
  t.type(error, DeviceError)
  t.match(error, { code: 'EIO', operation: 'read', offset: 2047 * 512, length: 2048, device: server.uri })
  t.ok((await readAt(device, 2047 * 512, 512)).equals(Buffer.alloc(512, 0x41)))
  t.ok((await readAt(device, 2049 * 512, 512)).equals(Buffer.alloc(512, 0x41)))
  t.equal(
    await codeOf(device.write(4096 * 512, [Buffer.alloc(512)])),
    'EIO',
    'ETIMEDOUT, which the server calls EINVAL',
  )
  await device.write(4097 * 512, [Buffer.alloc(512, 1)])
  await device.write(2048 * 512, [Buffer.alloc(512, 1)])
  await device.flush()
})

const ERRORS = [
  [nbd.NBD_EPERM, 'EPERM'],
  [nbd.NBD_EIO, 'EIO'],
  [nbd.NBD_ENOMEM, 'ENOMEM'],
  [nbd.NBD_EINVAL, 'EIO'],
  [nbd.NBD_ENOSPC, 'ENOSPC'],
  [nbd.NBD_EOVERFLOW, 'EOVERFLOW'],
  [nbd.NBD_ENOTSUP, 'ENOTSUP'],
  [4711, 'EIO'],
] as const

void t.test('errors keep their names, except those that cannot mean what they say', async (t) => {
  let next = 0
  const uri = await scriptedServer(t, async (peer) => {
    await peer.handshake(MiB)
    for (;;) {
      const request = await peer.readRequest()
      if (request.type === nbd.NBD_CMD_DISC) return void peer.socket.end()
      if (request.type === nbd.NBD_CMD_WRITE) await peer.read(request.length)
      peer.reply(request.cookie, ERRORS[next]?.[0])
    }
  })
  const device = await openDevice(t, uri)
  for (next = 0; next < ERRORS.length; next++) {
    const [value, code] = ERRORS[next]!
    t.equal(await codeOf(device.write(0, [Buffer.alloc(512)])), code, `error ${value}`)
    t.equal(await codeOf(device.read(0, Buffer.alloc(512))), code)
    t.equal(await codeOf(device.flush()), code)
  }
})

/** Serves `disk` honestly with the given abilities, and refuses what a server with these block sizes may refuse. */
function honestServer(disk: Buffer, requests: nbd.Request[], flags = ALL_FLAGS, sizes?: [number, number, number]) {
  return async (peer: Peer): Promise<void> => {
    await peer.handshake(disk.length, flags, sizes)
    const [minimum, , maximum] = sizes ?? [1, 4096, 32 * MiB]
    for (;;) {
      const request = await peer.readRequest()
      const { type, offset, length, cookie } = request
      requests.push(request)
      const data = type === nbd.NBD_CMD_WRITE ? await peer.read(length) : undefined
      const transfer = type === nbd.NBD_CMD_WRITE || type === nbd.NBD_CMD_READ
      if (offset % minimum !== 0 || length % minimum !== 0 || (transfer && length > maximum)) {
        peer.reply(cookie, nbd.NBD_EINVAL)
        continue
      }
      if (type === nbd.NBD_CMD_DISC) peer.socket.end()
      if (type === nbd.NBD_CMD_WRITE_ZEROES || type === nbd.NBD_CMD_TRIM) disk.fill(0, offset, offset + length)
      data?.copy(disk, offset)
      const answer = type === nbd.NBD_CMD_READ ? Buffer.from(disk.subarray(offset, offset + length)) : Buffer.alloc(0)
      peer.reply(cookie, 0, answer)
    }
  }
}

const types = (requests: nbd.Request[]): number[] => requests.map(({ type }) => type)
const HAS_FLAGS = nbd.NBD_FLAG_HAS_FLAGS

void t.test('a server without any ability gets only reads and writes', async (t) => {
  const disk = Buffer.alloc(4 * MiB, 9)
  const requests: nbd.Request[] = []
  const device = await openDevice(t, await scriptedServer(t, honestServer(disk, requests, HAS_FLAGS)))
  await device.trim(0, MiB)
  await device.flush()
  t.same(requests, [])
  await device.write(0, [Buffer.alloc(512, 1)], { fua: true })
  await device.writeZeroes(512, 3 * MiB)
  t.same(new Set(types(requests)), new Set([nbd.NBD_CMD_WRITE]))
  t.ok(requests.every(({ flags }) => flags === 0))
  t.ok(disk.subarray(0, 512).every((byte) => byte === 1))
  t.ok(disk.subarray(512, 512 + 3 * MiB).every((byte) => byte === 0))
  t.ok(disk.subarray(512 + 3 * MiB).every((byte) => byte === 9))
})

void t.test('without FUA a durable write is a write and a flush', async (t) => {
  const requests: nbd.Request[] = []
  const flags = HAS_FLAGS | nbd.NBD_FLAG_SEND_FLUSH
  const device = await openDevice(t, await scriptedServer(t, honestServer(Buffer.alloc(MiB), requests, flags)))
  await device.write(0, [Buffer.alloc(512, 1)], { fua: true })
  t.same(types(requests), [nbd.NBD_CMD_WRITE, nbd.NBD_CMD_FLUSH])
  t.equal(requests[0]?.flags, 0)
})

void t.test('with FUA a durable write is one request, unless a replay could undo it', async (t) => {
  const requests: nbd.Request[] = []
  const device = await openDevice(t, await scriptedServer(t, honestServer(Buffer.alloc(MiB), requests)))
  await device.write(0, [Buffer.alloc(512, 1)], { fua: true })
  t.same(types(requests), [nbd.NBD_CMD_WRITE])
  t.equal(requests[0]?.flags, nbd.NBD_CMD_FLAG_FUA)
  await device.write(4096, [Buffer.alloc(512, 1)])
  await device.write(4096, [Buffer.alloc(512, 2)], { fua: true })
  t.same(types(requests.slice(2)), [nbd.NBD_CMD_WRITE, nbd.NBD_CMD_FLUSH])
  t.equal(requests[2]?.flags, 0)
})

void t.test('long requests are cut to what the server takes', async (t) => {
  const disk = Buffer.alloc(MiB)
  const requests: nbd.Request[] = []
  const uri = await scriptedServer(t, honestServer(disk, requests, ALL_FLAGS, [512, 4096, 64 * KiB]))
  const device = await openDevice(t, uri)
  t.same(device.blockSizes, { minimum: 512, preferred: 4096, maximum: 64 * KiB })
  const data = Buffer.from(Array.from({ length: 200 * KiB }, (_, i) => i % 251))
  await device.write(512, [data.subarray(0, 100_000), data.subarray(100_000)])
  t.ok((await readAt(device, 512, 200 * KiB)).equals(data))
  t.equal(requests.length, 8)
})

void t.test('TRIM and WRITE_ZEROES of a whole large disk are cut below 32 bits', async (t) => {
  const requests: nbd.Request[] = []
  const uri = await scriptedServer(t, async (peer) => {
    await peer.handshake(5 * 1024 * MiB)
    for (;;) {
      const request = await peer.readRequest()
      if (request.type === nbd.NBD_CMD_DISC) peer.socket.end()
      else requests.push(request)
      peer.reply(request.cookie)
    }
  })
  const device = await openDevice(t, uri)
  await device.trim(0, device.size)
  t.equal(
    requests.reduce((sum, { length }) => sum + length, 0),
    device.size,
  )
  requests.length = 0
  await device.writeZeroes(0, device.size, { noHole: true })
  t.equal(
    requests.reduce((sum, { length }) => sum + length, 0),
    device.size,
  )
  t.ok(requests.every(({ flags }) => flags === nbd.NBD_CMD_FLAG_NO_HOLE))
})

void t.test('a failed piece fails the request, once no piece uses the buffers any more', async (t) => {
  let answered = 0
  const uri = await scriptedServer(t, async (peer) => {
    await peer.handshake(MiB, ALL_FLAGS, [512, 4096, 4096])
    const requests = [await peer.readRequest(), await peer.readRequest(), await peer.readRequest()]
    for (const [i, { cookie, length }] of requests.entries()) {
      await new Promise(setImmediate)
      if (i === 0) peer.reply(cookie, nbd.NBD_EIO)
      else peer.reply(cookie, 0, Buffer.alloc(length))
      answered++
    }
  })
  const device = await openDevice(t, uri)
  t.equal(await codeOf(device.read(0, Buffer.alloc(12 * KiB))), 'EIO')
  t.equal(answered, 3)
})

/** A small seeded generator, so that a failed run can be repeated. */
function random(seed: number): (below: number) => number {
  let state = seed >>> 0
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

async function compareWithModel(t: Test, device: UpstreamDevice, rounds: number): Promise<void> {
  const seed = Number(process.env['SEED'] ?? Date.now() % 1e9)
  t.comment(`SEED=${seed}`)
  const pick = random(seed)
  const model = Buffer.alloc(device.size)
  await device.writeZeroes(0, device.size)
  for (let round = 0; round < rounds; round++) {
    const lanes = Array.from({ length: 8 }, async (_, lane) => {
      // Lanes never share bytes, but they share blocks.
      const width = 1500
      const offset = lane * width + pick(width)
      const length = Math.min(pick(width) + 1, (lane + 1) * width - offset)
      const fill = pick(255) + 1
      if (pick(4) === 0) {
        model.fill(0, offset, offset + length)
        await device.writeZeroes(offset, length)
      } else {
        model.fill(fill, offset, offset + length)
        const data = Buffer.alloc(length, fill)
        await device.write(offset, [data.subarray(0, 1), data.subarray(1)], { fua: pick(5) === 0 })
      }
    })
    await Promise.all(lanes)
    const from = pick(10_000)
    const got = await readAt(device, from, pick(20_000) + 1)
    if (!got.equals(model.subarray(from, from + got.length))) t.fail(`round ${round}: another content`)
  }
  t.ok((await readAt(device, 0, device.size)).equals(model))
}

void t.test('unaligned requests to a server that insists on 4 KiB: reads and writes are exact', async (t) => {
  const server = await startNbdkit(
    t,
    '--filter=blocksize-policy',
    'memory',
    '256K',
    'blocksize-minimum=4096',
    'blocksize-preferred=8192',
    'blocksize-maximum=16384',
    'blocksize-error-policy=error',
  )
  const device = await openDevice(t, server.uri)
  t.same(device.blockSizes, { minimum: 4096, preferred: 8192, maximum: 16384 })
  await compareWithModel(t, device, 200)
})

void t.test('unaligned requests with a minimum of 512, on every abilities', async (t) => {
  for (const flags of [HAS_FLAGS, HAS_FLAGS | nbd.NBD_FLAG_SEND_FLUSH, ALL_FLAGS]) {
    const disk = Buffer.alloc(64 * KiB)
    const device = await openDevice(t, await scriptedServer(t, honestServer(disk, [], flags, [512, 512, 2048])))
    await compareWithModel(t, device, 50)
  }
})

void t.test('a trim spares the bytes around the whole blocks in it', async (t) => {
  const disk = Buffer.alloc(64 * KiB, 7)
  const requests: nbd.Request[] = []
  const device = await openDevice(
    t,
    await scriptedServer(t, honestServer(disk, requests, ALL_FLAGS, [4096, 4096, MiB])),
  )
  await device.trim(100, 12_000)
  await device.trim(100, 5000)
  t.same(
    requests.map(({ type, offset, length }) => [type, offset, length]),
    [[nbd.NBD_CMD_TRIM, 4096, 4096]],
  )
})

void t.test('a block whose rest cannot be read fails an unaligned write, and is not touched', async (t) => {
  const requests: nbd.Request[] = []
  const uri = await scriptedServer(t, async (peer) => {
    await peer.handshake(MiB, ALL_FLAGS, [4096, 4096, MiB])
    for (;;) {
      const request = await peer.readRequest()
      if (request.type === nbd.NBD_CMD_DISC) peer.socket.end()
      else requests.push(request)
      peer.reply(request.cookie, nbd.NBD_EIO)
    }
  })
  const device = await openDevice(t, uri)
  const error = await device.write(100, [Buffer.alloc(512)]).catch((error: unknown) => error)
  t.match(error, { code: 'EIO', operation: 'write', offset: 100, length: 512 })
  t.same(types(requests), [nbd.NBD_CMD_READ])
})

void t.test('a size that is no whole number of blocks is rounded down', async (t) => {
  const uri = await scriptedServer(t, (peer) => peer.handshake(10_000, ALL_FLAGS, [4096, 4096, MiB]))
  const lines: string[] = []
  const log = { ...silentLog, warn: (line: string) => lines.push(line) }
  const device = await UpstreamDevice.open(uri, { log })
  t.teardown(() => device.close())
  t.equal(device.size, 8192)
  t.match(lines, [/the last 1808 bytes/])
})
