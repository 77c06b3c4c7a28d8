import t from 'tap'
import { DeviceError, type DeviceErrorCode } from '../../src/device/device.js'
import { MemoryDevice as PromptDevice } from '../../src/device/memory.js'
import * as nbd from '../../src/nbd/protocol.js'
import { MiB } from '../../src/util/units.js'
import type { Call } from '../support/memory-device.js'
import { MemoryDevice } from '../support/memory-device.js'
import { RawClient } from '../../src/conformance/raw-client.js'
import { serve } from '../support/nbd-server.js'

const DONE = nbd.NBD_REPLY_FLAG_DONE
const failing = (code: DeviceErrorCode, at?: number) => (call: Call) => {
  throw new DeviceError(code, 'disk', call.operation, at ?? call.offset, 512)
}
const gate = (): { opened: Promise<void>; open: () => void } => {
  let open: () => void = () => undefined
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { opened, open }
}

void t.test('READ and WRITE with simple replies, to the byte', async (t) => {
  const { connect, device } = await serve(t)
  const client = await (await connect()).go()
  client.send('25609513 0000 0001 1122334455667788 0000000000000003 00000005', 'aabbccddee')
  t.equal((await client.receive(16)).toString('hex'), '67446698000000001122334455667788')
  t.equal(device.data.toString('hex', 0, 10), '000000aabbccddee0000')
  client.send('25609513 0000 0000 ffffffffffffffff 0000000000000002 00000004')
  t.equal((await client.receive(20)).toString('hex'), '6744669800000000ffffffffffffffff00aabbcc')
})

void t.test('READ with structured replies is one chunk with the data', async (t) => {
  const { connect, device } = await serve(t)
  device.data.write('hello', 1000)
  const client = await (await connect()).go({ structured: true })
  for (const flags of [0, nbd.NBD_CMD_FLAG_DF]) {
    client.request(nbd.NBD_CMD_READ, { flags, cookie: 7n, offset: 1000, length: 5 })
    const hex = '668e33ef 0001 0001 0000000000000007 0000000d 00000000000003e8 68656c6c6f'
    t.equal((await client.receive(33)).toString('hex'), hex.replaceAll(' ', ''))
  }
  client.request(nbd.NBD_CMD_READ, { offset: 1000, length: 0 })
  t.match(await client.receiveChunk(), { flags: DONE, type: nbd.NBD_REPLY_TYPE_NONE, length: 0 })
})

void t.test('commands and their flags reach the device', async (t) => {
  const { connect, device } = await serve(t)
  const client = await (await connect()).go()
  const range = { offset: 512, length: 1024 }
  const { NBD_CMD_FLAG_FUA: fua, NBD_CMD_FLAG_NO_HOLE: noHole, NBD_CMD_FLAG_FAST_ZERO: fast } = nbd
  const ask = async (type: number, flags: number, expected: Partial<Call>[]) => {
    device.calls.length = 0
    client.request(type, { ...range, flags }, type === nbd.NBD_CMD_WRITE ? Buffer.alloc(1024, 'x') : '')
    const { error } = await client.receiveSimpleReply()
    if (type === nbd.NBD_CMD_READ) await client.receive(1024)
    t.equal(error, 0)
    t.strictSame(device.calls, expected, `command ${type} with flags ${flags}`)
  }
  const call = (operation: Call['operation'], options?: Call['options']) => [
    { operation, ...range, ...(options === undefined ? {} : { options }) },
  ]
  const flush = [{ operation: 'flush' as const, offset: 0, length: 0 }]
  await ask(nbd.NBD_CMD_READ, 0, call('read'))
  await ask(nbd.NBD_CMD_READ, fua, call('read'))
  await ask(nbd.NBD_CMD_WRITE, 0, call('write'))
  await ask(nbd.NBD_CMD_WRITE, fua, call('write', { fua: true }))
  await ask(nbd.NBD_CMD_FLUSH, 0, flush)
  await ask(nbd.NBD_CMD_FLUSH, fua, flush)
  await ask(nbd.NBD_CMD_TRIM, 0, call('trim'))
  await ask(nbd.NBD_CMD_TRIM, fua, call('trim', { fua: true }))
  await ask(nbd.NBD_CMD_WRITE_ZEROES, 0, call('write-zeroes'))
  await ask(nbd.NBD_CMD_WRITE_ZEROES, fua, call('write-zeroes', { fua: true }))
  await ask(nbd.NBD_CMD_WRITE_ZEROES, noHole, call('write-zeroes', { noHole: true }))
  await ask(nbd.NBD_CMD_WRITE_ZEROES, fua | noHole, call('write-zeroes', { fua: true, noHole: true }))
  await ask(nbd.NBD_CMD_WRITE_ZEROES, fast, call('write-zeroes', { fast: true }))
  await ask(nbd.NBD_CMD_CACHE, 0, [])
})

void t.test('requests of no bytes succeed without the device', async (t) => {
  const { connect, device } = await serve(t)
  const client = await (await connect()).go()
  const types = [nbd.NBD_CMD_READ, nbd.NBD_CMD_WRITE, nbd.NBD_CMD_TRIM, nbd.NBD_CMD_WRITE_ZEROES, nbd.NBD_CMD_CACHE]
  for (const type of types) {
    client.request(type, { offset: MiB })
    t.equal((await client.receiveSimpleReply()).error, 0)
  }
  t.same(device.calls, [])
})

void t.test('refused requests are answered, and their payload is not taken for a request', async (t) => {
  const { connect, device } = await serve(t)
  const client = await (await connect()).go()
  const refused = async (error: number, type: number, fields: Partial<nbd.Request>, payload = 0) => {
    client.request(
      type,
      fields,
      Buffer.alloc(payload, nbd.encodeRequest({ flags: 0, type: 2, cookie: 0n, offset: 0, length: 0 })),
    )
    t.same(await client.receiveSimpleReply(), { error, cookie: 1n }, `command ${type} ${JSON.stringify({ ...fields })}`)
  }
  const tooLong = 64 * MiB + 1
  await refused(nbd.NBD_ENOSPC, nbd.NBD_CMD_WRITE, { offset: MiB - 100, length: 200 }, 200)
  await refused(nbd.NBD_ENOSPC, nbd.NBD_CMD_WRITE, { offset: 2 ** 60, length: 4096 }, 4096)
  await refused(nbd.NBD_EINVAL, nbd.NBD_CMD_WRITE, { flags: 0x80, length: 300_000 }, 300_000)
  await refused(nbd.NBD_EINVAL, nbd.NBD_CMD_WRITE, { length: tooLong }, tooLong)
  await refused(nbd.NBD_EINVAL, nbd.NBD_CMD_READ, { length: tooLong })
  await refused(nbd.NBD_EINVAL, nbd.NBD_CMD_READ, { offset: MiB, length: 1 })
  await refused(nbd.NBD_EINVAL, nbd.NBD_CMD_READ, { length: 512, flags: nbd.NBD_CMD_FLAG_DF })
  await refused(nbd.NBD_EINVAL, nbd.NBD_CMD_TRIM, { length: 2 ** 32 - 1 })
  await refused(nbd.NBD_EINVAL, nbd.NBD_CMD_BLOCK_STATUS, { length: 512 })
  await refused(nbd.NBD_EINVAL, nbd.NBD_CMD_RESIZE, { length: 512 })
  await refused(nbd.NBD_EINVAL, 99, { length: 512 })
  await refused(nbd.NBD_EINVAL, nbd.NBD_CMD_READ, { length: 512, flags: nbd.NBD_CMD_FLAG_FAST_ZERO })
  t.same(device.calls, [], 'nothing reached the device')
})

void t.test('a read-only export refuses changes with EPERM', async (t) => {
  const device = new MemoryDevice(MiB)
  const { connect } = await serve(t, { exports: [{ name: 'main', description: '', device, readOnly: true }] })
  const client = await (await connect()).go()
  client.request(nbd.NBD_CMD_WRITE, { length: 512 }, Buffer.alloc(512))
  client.request(nbd.NBD_CMD_TRIM, { length: 512 })
  client.request(nbd.NBD_CMD_WRITE_ZEROES, { length: 512 })
  for (let i = 0; i < 3; i++) t.equal((await client.receiveSimpleReply()).error, nbd.NBD_EPERM)
  client.request(nbd.NBD_CMD_FLUSH)
  t.equal((await client.receiveSimpleReply()).error, 0)
  t.same(
    device.calls.map(({ operation }) => operation),
    ['flush'],
  )
})

void t.test('requests of the full 64 MiB are served', async (t) => {
  const { connect, device } = await serve(t, {}, 64 * MiB)
  const client = await (await connect()).go()
  const payload = Buffer.alloc(64 * MiB, 'all of it')
  client.request(nbd.NBD_CMD_WRITE, { length: payload.length }, payload)
  t.equal((await client.receiveSimpleReply()).error, 0)
  t.ok(device.data.equals(payload))
  client.request(nbd.NBD_CMD_READ, { length: payload.length })
  t.equal((await client.receiveSimpleReply()).error, 0)
  t.ok((await client.receive(payload.length)).equals(payload))
})

void t.test('errors of the device are answered and the connection lives', async (t) => {
  const { connect, device } = await serve(t)
  const client = await (await connect()).go()
  const types = [nbd.NBD_CMD_READ, nbd.NBD_CMD_WRITE, nbd.NBD_CMD_FLUSH, nbd.NBD_CMD_TRIM, nbd.NBD_CMD_WRITE_ZEROES]
  for (const type of types) {
    device.before = failing('EIO')
    client.request(type, { length: 512 }, type === nbd.NBD_CMD_WRITE ? Buffer.alloc(512) : '')
    t.same(await client.receiveSimpleReply(), { error: nbd.NBD_EIO, cookie: 1n })
  }
  device.before = failing('ESHUTDOWN')
  client.request(nbd.NBD_CMD_FLUSH)
  t.equal((await client.receiveSimpleReply()).error, nbd.NBD_EIO, 'ESHUTDOWN is not passed on')
  device.before = undefined
  client.request(nbd.NBD_CMD_FLUSH)
  t.equal((await client.receiveSimpleReply()).error, 0)
})

void t.test('with structured replies errors are chunks, with the offset where a read knows it', async (t) => {
  const { connect, device } = await serve(t)
  const client = await (await connect()).go({ structured: true })
  const error = async () => {
    const { flags, type, payload } = await client.receiveChunk()
    return { flags, type, ...nbd.decodeErrorChunk(type, payload) }
  }
  device.before = failing('EIO', 4608)
  client.request(nbd.NBD_CMD_READ, { offset: 4096, length: 1024 })
  const message = 'NBD_CMD_READ of 1024 bytes at offset 4096: NBD_EIO'
  t.same(await error(), { flags: DONE, type: nbd.NBD_REPLY_TYPE_ERROR_OFFSET, error: 5, message, offset: 4608 })
  client.request(nbd.NBD_CMD_READ, { offset: 0, length: 1024 })
  t.match(await error(), { type: nbd.NBD_REPLY_TYPE_ERROR, error: 5 }, 'an offset outside the request is not sent')
  client.request(nbd.NBD_CMD_FLUSH)
  t.match(await error(), { type: nbd.NBD_REPLY_TYPE_ERROR, error: 5 })
  client.request(nbd.NBD_CMD_READ, { offset: MiB, length: 1 })
  t.match(await error(), { type: nbd.NBD_REPLY_TYPE_ERROR, error: nbd.NBD_EINVAL })
  device.before = undefined
  client.request(nbd.NBD_CMD_FLUSH)
  t.equal((await client.receiveSimpleReply()).error, 0, 'success without data is a simple reply')
})

void t.test('a bug in the device is logged with its stack, answered EIO and survived', async (t) => {
  const { connect, device, lines } = await serve(t)
  const client = await (await connect()).go()
  device.before = () => {
    throw new TypeError('oops')
  }
  client.request(nbd.NBD_CMD_FLUSH)
  t.equal((await client.receiveSimpleReply()).error, nbd.NBD_EIO)
  t.match(lines.at(-1), /^error client 1 \(unix\): NBD_CMD_FLUSH .* TypeError: oops\n +at /)
  device.before = undefined
  client.request(nbd.NBD_CMD_FLUSH)
  t.equal((await client.receiveSimpleReply()).error, 0)
})

void t.test('replies go out in the order in which the device answers', async (t) => {
  const { connect, device } = await serve(t)
  const client = await (await connect()).go()
  const first = gate()
  device.before = ({ offset }) => (offset === 0 ? first.opened : undefined)
  client.request(nbd.NBD_CMD_WRITE, { cookie: 10n, offset: 0, length: 512 }, Buffer.alloc(512, 'a'))
  client.request(nbd.NBD_CMD_WRITE, { cookie: 11n, offset: 512, length: 512 }, Buffer.alloc(512, 'b'))
  client.request(nbd.NBD_CMD_READ, { cookie: 12n, offset: 512, length: 4 })
  t.equal((await client.receiveSimpleReply()).cookie, 11n)
  t.equal((await client.receiveSimpleReply()).cookie, 12n)
  t.equal((await client.receive(4)).toString(), 'bbbb')
  first.open()
  t.equal((await client.receiveSimpleReply()).cookie, 10n)
})

void t.test('a flush on one connection covers writes answered on another', async (t) => {
  const { connect, device } = await serve(t)
  const [one, two] = [await (await connect()).go(), await (await connect()).go()]
  one.request(nbd.NBD_CMD_WRITE, { length: 512 }, Buffer.alloc(512, 'w'))
  await one.receiveSimpleReply()
  two.request(nbd.NBD_CMD_FLUSH)
  t.equal((await two.receiveSimpleReply()).error, 0)
  t.same(
    device.calls.map(({ operation }) => operation),
    ['write', 'flush'],
  )
  two.request(nbd.NBD_CMD_READ, { length: 4 })
  await two.receiveSimpleReply()
  t.equal((await two.receive(4)).toString(), 'wwww')
})

void t.test('garbage instead of a request costs the connection', async (t) => {
  const { connect, lines } = await serve(t)
  const client = await (await connect()).go()
  client.send(Buffer.alloc(28, 'x'))
  t.equal((await client.receiveAll()).length, 0)
  t.match(
    lines.find((line) => line.includes('dropped')),
    /^warn client 1 \(unix\): dropped: bad request magic 0x78787878/,
  )
})

void t.test(
  'a request of another kind, shorter than those that are expected, costs the connection at once',
  async (t) => {
    const { connect } = await serve(t)
    const request = { flags: 0, type: nbd.NBD_CMD_FLUSH, cookie: 1n, offset: 0, length: 0 }
    const extended = await (await connect()).go({ extended: true })
    extended.send(nbd.encodeRequest(request))
    t.equal((await extended.receiveAll()).length, 0, 'an old header where extended ones are negotiated')
    const again = await (await connect()).go()
    again.send(nbd.encodeOption(nbd.NBD_OPT_GO))
    t.equal((await again.receiveAll()).length, 0, 'an option in the transmission phase')
    const slow = await (await connect()).go()
    for (const byte of nbd.encodeRequest(request)) {
      slow.send(Buffer.of(byte))
      await new Promise((resolve) => setImmediate(resolve))
    }
    t.equal((await slow.receiveSimpleReply()).error, 0, 'a good one may come byte by byte')
  },
)

void t.test('a refused payload of absurd length costs the connection', async (t) => {
  const { connect } = await serve(t, { limits: { refusedPayloadMax: 65 * MiB } })
  const client = await (await connect()).go()
  client.request(nbd.NBD_CMD_WRITE, { length: 65 * MiB + 1 })
  t.equal((await client.receiveAll()).length, 0)
})

/** DISC, after everything that a session can contain. */
function wholeSession(): Buffer {
  const request = (type: number, fields: Partial<nbd.Request>, payload = '') =>
    Buffer.concat([
      nbd.encodeRequest({ flags: 0, type, cookie: 1n, offset: 0, length: payload.length, ...fields }),
      Buffer.from(payload),
    ])
  return Buffer.concat([
    nbd.encodeClientFlags(3),
    nbd.encodeOption(nbd.NBD_OPT_LIST),
    nbd.encodeOption(nbd.NBD_OPT_STRUCTURED_REPLY),
    nbd.encodeOption(nbd.NBD_OPT_GO, nbd.encodeInfoRequest({ name: 'main', infos: [nbd.NBD_INFO_BLOCK_SIZE] })),
    request(nbd.NBD_CMD_WRITE, { cookie: 1n, offset: 10 }, 'some data'),
    request(nbd.NBD_CMD_WRITE, { cookie: 2n, offset: MiB - 1 }, 'beyond the end'),
    request(nbd.NBD_CMD_READ, { cookie: 3n, offset: 8, length: 20 }),
    request(nbd.NBD_CMD_FLUSH, { cookie: 4n }),
    request(nbd.NBD_CMD_WRITE_ZEROES, { cookie: 5n, offset: 12, length: 3 }),
    request(99, { cookie: 6n, length: 12 }),
    request(nbd.NBD_CMD_READ, { cookie: 7n, offset: 8, length: 20 }),
    request(nbd.NBD_CMD_DISC, {}),
  ])
}

void t.test('a whole session is the same wherever its bytes are cut', async (t) => {
  // One that is done at once, so that all replies come in the order of their requests.
  const device = new PromptDevice(MiB)
  const { path } = await serve(t, { exports: [{ name: 'main', description: '', device, readOnly: false }] })
  const turn = () => new Promise((resolve) => setImmediate(resolve))

  /** Everything the server sends, and the disk afterwards. The server reads each piece before the next one is sent. */
  const play = async (pieces: Buffer[]): Promise<string> => {
    device.bytes.fill(0)
    const client = await RawClient.connect(path)
    for (const piece of pieces) {
      client.socket.write(piece)
      await turn()
      await turn()
    }
    const received = await client.receiveAll()
    client.socket.destroy()
    return `${received.toString('hex')} ${device.bytes.toString('hex', 0, 32)}`
  }

  const session = wholeSession()
  const whole = await play([session])
  t.match(whole, /^4e42444d41474943/)
  t.equal(whole.split(' ')[1], Buffer.concat([Buffer.alloc(10), Buffer.from('so\0\0\0data')], 32).toString('hex'))
  for (let cut = 1; cut < session.length; cut++) {
    const played = await play([session.subarray(0, cut), session.subarray(cut)])
    if (played !== whole) t.equal(played, whole, `cut at ${cut}`)
  }
  t.equal(await play(Array.from(session, (byte) => Buffer.from([byte]))), whole, 'byte by byte')
})
