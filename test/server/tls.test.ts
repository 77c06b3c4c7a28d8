import { readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { Duplex } from 'node:stream'
import { connect as connectTls, type ConnectionOptions, type SecureVersion, type TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import { PSK_CIPHERS } from '../../src/nbd/tls.js'
import * as nbd from '../../src/nbd/protocol.js'
import { ServerTls, type ServerTlsSettings } from '../../src/server/starttls.js'
import type { NbdServerOptions } from '../../src/server/server.js'
import { KiB, MiB } from '../../src/util/units.js'
import { makeCredentials } from '../support/certificates.js'
import { type RawClient } from '../../src/conformance/raw-client.js'
import { type Served, serve, until } from '../support/nbd-server.js'

const credentials = await makeCredentials(t)
const PLAIN_SERVER: ServerTlsSettings = { certificates: credentials.server, verifyPeer: false }
const VERIFYING: ServerTlsSettings = { certificates: credentials.server, verifyPeer: true }
const PSK: ServerTlsSettings = { pskFile: credentials.pskFile }

interface More {
  readonly required?: boolean
  readonly limits?: NbdServerOptions['limits']
  readonly size?: number
}

/** Also counts the clients that got to the transmission phase. */
async function serveTls(
  t: Test,
  settings: ServerTlsSettings,
  { required = true, limits = {}, size = MiB }: More = {},
): Promise<Served & { served: () => number }> {
  let clients = 0
  const onClientConnected = (): void => {
    clients++
  }
  const tls = new ServerTls(settings, { required })
  return { ...(await serve(t, { tls, limits, onClientConnected }, size)), served: () => clients }
}

const pem = (directory: string, name: string): Buffer => readFileSync(join(directory, name))

/** A client that shows its certificate whatever the server asks for. */
const showing = (directory: string): ConnectionOptions => ({
  cert: pem(directory, 'client-cert.pem'),
  key: pem(directory, 'client-key.pem'),
})

function keyOf(file: string, identity: string): Buffer {
  const line = readFileSync(file, 'utf8').split('\n')
  return Buffer.from(line.find((text) => text.startsWith(`${identity}:`))?.split(':')[1] ?? '', 'hex')
}

const knowing = (file: string, identity: string, ciphers = PSK_CIPHERS): ConnectionOptions => ({
  ciphers,
  pskCallback: () => ({ psk: keyOf(file, identity), identity }),
  checkServerIdentity: () => undefined,
})

async function errorOf(promise: Promise<unknown>): Promise<Error> {
  try {
    await promise
  } catch (error) {
    return error as Error
  }
  throw new Error('this should have failed')
}

const dropped = (lines: readonly string[]): string | undefined =>
  lines.find((line) => line.includes('dropped: '))?.replace(/^.*dropped: /, '')

const ALL_OPTIONS = [
  nbd.NBD_OPT_LIST,
  nbd.NBD_OPT_INFO,
  nbd.NBD_OPT_GO,
  nbd.NBD_OPT_STRUCTURED_REPLY,
  nbd.NBD_OPT_LIST_META_CONTEXT,
  nbd.NBD_OPT_SET_META_CONTEXT,
  nbd.NBD_OPT_EXTENDED_HEADERS,
  4,
  77,
]

void t.test('when TLS is required, every other option is refused until it is there', async (t) => {
  const { connect, served } = await serveTls(t, PLAIN_SERVER)
  const client = await connect()
  await client.greet()
  for (const option of ALL_OPTIONS) {
    client.send(nbd.encodeOption(option))
    t.match(await client.receiveOptionReply(), { option, type: nbd.NBD_REP_ERR_TLS_REQD })
  }
  client.send(nbd.encodeOption(nbd.NBD_OPT_GO, Buffer.alloc(100 * KiB)))
  t.match(await client.receiveOptionReply(), { type: nbd.NBD_REP_ERR_TLS_REQD }, 'one with too much data')
  t.equal(served(), 0)
  const secured = await client.startTls({})
  await secured.choose()
  t.equal(served(), 1)
})

void t.test('when TLS is required, an export asked for by name closes the connection', async (t) => {
  const { connect, served } = await serveTls(t, PLAIN_SERVER)
  const client = await connect()
  await client.greet()
  client.send(nbd.encodeOption(nbd.NBD_OPT_EXPORT_NAME, Buffer.from('main')))
  t.equal((await client.receiveAll()).length, 0)
  t.equal(served(), 0)
})

void t.test('when TLS is required, a client may still abort', async (t) => {
  const { connect } = await serveTls(t, PLAIN_SERVER)
  const client = await connect()
  await client.greet()
  client.send(nbd.encodeOption(nbd.NBD_OPT_ABORT))
  t.match(await client.receiveOptionReply(), { type: nbd.NBD_REP_ACK })
  t.equal((await client.receiveAll()).length, 0)
})

void t.test('when TLS is offered, clients without it are served as well', async (t) => {
  const { connect, served } = await serveTls(t, PLAIN_SERVER, { required: false })
  await (await connect()).go()
  await (await connect()).goSecurely()
  t.equal(served(), 2)
})

void t.test('when TLS is off, it is refused by policy, and the next option is understood', async (t) => {
  const { connect } = await serve(t)
  const client = await connect()
  await client.greet()
  client.send(nbd.encodeOption(nbd.NBD_OPT_STARTTLS))
  t.match(await client.receiveOptionReply(), { option: nbd.NBD_OPT_STARTTLS, type: nbd.NBD_REP_ERR_POLICY })
  await client.choose()
})

void t.test('STARTTLS has no data, and is possible only once', async (t) => {
  const { connect } = await serveTls(t, PLAIN_SERVER)
  const client = await connect()
  await client.greet()
  client.send(nbd.encodeOption(nbd.NBD_OPT_STARTTLS, Buffer.from('x')))
  t.match(await client.receiveOptionReply(), { type: nbd.NBD_REP_ERR_INVALID })
  const secured = await client.startTls({})
  secured.send(nbd.encodeOption(nbd.NBD_OPT_STARTTLS))
  t.match(await secured.receiveOptionReply(), { type: nbd.NBD_REP_ERR_INVALID })
  await secured.choose()
})

void t.test('what was negotiated before TLS is forgotten', async (t) => {
  const { connect } = await serveTls(t, PLAIN_SERVER, { required: false })
  const client = await connect()
  await client.greet()
  client.send(nbd.encodeOption(nbd.NBD_OPT_STRUCTURED_REPLY))
  t.match(await client.receiveOptionReply(), { type: nbd.NBD_REP_ACK })
  const secured = await client.startTls({})
  secured.send(nbd.encodeOption(nbd.NBD_OPT_GO, nbd.encodeInfoRequest({ name: 'main', infos: [] })))
  const info = nbd.decodeInfo((await secured.receiveOptionReply()).data)
  t.equal(info?.type, nbd.NBD_INFO_EXPORT)
  const flags = info?.type === nbd.NBD_INFO_EXPORT ? info.transmissionFlags : 0
  t.equal(flags & nbd.NBD_FLAG_SEND_DF, 0, 'DF needs structured replies')
  await secured.receiveOptionReply()
  secured.request(nbd.NBD_CMD_READ, { length: 512 })
  t.equal((await secured.receiveSimpleReply()).error, 0, 'and the replies are simple')
})

void t.test('options sent in the clear together with STARTTLS are not taken for encrypted ones', async (t) => {
  const { connect, served, lines } = await serveTls(t, PLAIN_SERVER, { required: false })
  const go = nbd.encodeOption(nbd.NBD_OPT_GO, nbd.encodeInfoRequest({ name: 'main', infos: [] }))
  const client = await connect()
  await client.greet()
  client.send(nbd.encodeOption(nbd.NBD_OPT_STARTTLS), go)
  t.ok((await client.receiveAll()).length <= nbd.OPTION_REPLY_HEADER_LENGTH, 'nothing but the acknowledgement')
  t.equal(served(), 0)
  t.equal(dropped(lines), 'it did not wait for the answer to NBD_OPT_STARTTLS')
})

void t.test('options sent in the clear after STARTTLS was acknowledged are no TLS', async (t) => {
  const { connect, served, lines } = await serveTls(t, PLAIN_SERVER, { required: false })
  const client = await connect()
  await client.greet()
  client.send(nbd.encodeOption(nbd.NBD_OPT_STARTTLS))
  await client.receiveOptionReply()
  client.send(nbd.encodeOption(nbd.NBD_OPT_GO, nbd.encodeInfoRequest({ name: 'main', infos: [] })))
  const rest = await client.receiveAll()
  t.notOk(rest.includes(Buffer.from('0003e889045565a9', 'hex')), 'no option was answered')
  t.equal(served(), 0)
  t.equal(dropped(lines), 'the client does not speak TLS')
})

const VERSIONS: readonly SecureVersion[] = ['TLSv1.2', 'TLSv1.3']

for (const maxVersion of VERSIONS) {
  void t.test(`with ${maxVersion}, a client certificate of the CA is accepted`, async (t) => {
    const { connect, served, lines } = await serveTls(t, VERIFYING)
    await (await connect()).goSecurely({ ...showing(credentials.client), maxVersion })
    t.equal(served(), 1)
    t.match(lines, [`info client 1 (unix) uses ${maxVersion}`])
  })

  const REFUSED: readonly [string, ConnectionOptions, string][] = [
    [
      'a certificate of a foreign CA',
      showing(credentials.foreignClient),
      "the client's certificate is not signed by the CA that is trusted here",
    ],
    ['no certificate', {}, 'the client has no certificate'],
    [
      "a server's certificate",
      showing(credentials.wrongPurpose),
      "the client's certificate is not made for this purpose",
    ],
  ]
  for (const [what, options, reason] of REFUSED) {
    void t.test(`with ${maxVersion}, ${what} is refused`, async (t) => {
      const { connect, served, lines } = await serveTls(t, VERIFYING)
      await t.rejects((await connect()).goSecurely({ ...options, maxVersion }))
      await until(() => dropped(lines) !== undefined)
      t.equal(dropped(lines), reason)
      t.equal(served(), 0)
      await (await connect()).goSecurely(showing(credentials.client))
      t.equal(served(), 1, 'others are served as before')
    })
  }
}

void t.test('without verification, a client needs no certificate', async (t) => {
  const { connect, served } = await serveTls(t, PLAIN_SERVER)
  await (
    await connect()
  ).goSecurely({ ca: pem(credentials.anonymous, 'ca-cert.pem'), rejectUnauthorized: true, host: 'localhost' })
  t.equal(served(), 1)
})

void t.test('a revoked client certificate is refused', async (t) => {
  const { authority, server, client } = await makeCredentials(t)
  await authority.revoke(join(client, 'client-cert.pem'), server)
  const { connect, served, lines } = await serveTls(t, { certificates: server, verifyPeer: true })
  await t.rejects((await connect()).goSecurely(showing(client)))
  await until(() => dropped(lines) !== undefined)
  t.equal(dropped(lines), "the client's certificate is revoked")
  t.equal(served(), 0)
})

for (const maxVersion of VERSIONS) {
  void t.test(`with ${maxVersion}, who knows the pre-shared key is accepted, and nobody else`, async (t) => {
    const { connect, served, lines } = await serveTls(t, PSK)
    for (const user of ['alice', 'bob']) {
      await (await connect()).goSecurely({ ...knowing(credentials.pskFile, user), maxVersion })
    }
    t.equal(served(), 2)
    for (const n of [1, 2]) t.ok(lines.includes(`info client ${n} (unix) uses ${maxVersion}`))
    const { foreignPskFile } = credentials
    await t.rejects((await connect()).goSecurely({ ...knowing(foreignPskFile, 'alice'), maxVersion }), 'a wrong key')
    await t.rejects(
      (await connect()).goSecurely({ ...knowing(foreignPskFile, 'mallory'), maxVersion }),
      'a strange name',
    )
    await t.rejects((await connect()).goSecurely({ ...showing(credentials.client), maxVersion }), 'a certificate')
    t.equal(served(), 2)
  })
}

void t.test('a client with a pre-shared key is refused where certificates are used', async (t) => {
  const { connect, served } = await serveTls(t, PLAIN_SERVER)
  const options = { ...knowing(credentials.pskFile, 'alice'), maxVersion: 'TLSv1.2' as const }
  await t.rejects((await connect()).goSecurely(options))
  t.equal(served(), 0)
})

void t.test('ciphers that do not encrypt are refused, and so is TLS 1.1', async (t) => {
  const withKeys = await serveTls(t, PSK)
  const nothing = knowing(credentials.pskFile, 'alice', 'ECDHE-PSK-NULL-SHA256:PSK-NULL-SHA256:@SECLEVEL=0')
  const error = await errorOf((await withKeys.connect()).goSecurely({ ...nothing, maxVersion: 'TLSv1.2' }))
  t.match(error, { code: 'ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE' })
  const withCertificates = await serveTls(t, PLAIN_SERVER)
  const old: ConnectionOptions = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' }
  t.match(await errorOf((await withCertificates.connect()).goSecurely(old)), {
    code: 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION',
  })
  t.equal(withKeys.served() + withCertificates.served(), 0)
})

void t.test('clients that shake hands at the same time are not mistaken for each other', async (t) => {
  const { connect, device } = await serveTls(t, PLAIN_SERVER, { size: 64 * KiB })
  const numbers = Array.from({ length: 16 }, (_, n) => n)
  const clients = await Promise.all(numbers.map(async () => (await connect()).goSecurely()))
  for (const [n, client] of clients.entries()) {
    client.request(nbd.NBD_CMD_WRITE, { offset: n * 4096, length: 4096, cookie: BigInt(n) }, Buffer.alloc(4096, n + 1))
  }
  for (const [n, client] of clients.entries())
    t.same(await client.receiveSimpleReply(), { error: 0, cookie: BigInt(n) })
  for (const n of numbers) t.ok(device.data.subarray(n * 4096, (n + 1) * 4096).every((byte) => byte === n + 1))
})

const SLOW: readonly [string, (client: RawClient) => void][] = [
  ['says nothing', () => undefined],
  [
    'begins a record and does not end it',
    (client) => {
      client.send('16 0301 0200 01')
    },
  ],
]
for (const [what, act] of SLOW) {
  void t.test(`a client that ${what} after STARTTLS runs into the deadline of the handshake`, async (t) => {
    const { connect, lines, server } = await serveTls(t, PLAIN_SERVER, { limits: { handshakeTimeoutMs: 1000 } })
    const client = await connect()
    await client.greet()
    client.send(nbd.encodeOption(nbd.NBD_OPT_STARTTLS))
    await client.receiveOptionReply()
    act(client)
    t.equal((await client.receiveAll()).length, 0)
    t.equal(dropped(lines), 'no end of the handshake within 1000 ms')
    await server.close()
  })
}

void t.test('a client that shakes hands and says nothing runs into the same deadline', async (t) => {
  const { connect, lines } = await serveTls(t, PLAIN_SERVER, { limits: { handshakeTimeoutMs: 1000 } })
  const client = await connect()
  await client.greet()
  const secured = await client.startTls({})
  t.equal((await secured.receiveAll()).length, 0)
  t.equal(dropped(lines), 'no end of the handshake within 1000 ms')
})

void t.test('a client that leaves in the middle of the TLS handshake leaves nothing behind', async (t) => {
  const { connect, lines, server, served } = await serveTls(t, PLAIN_SERVER)
  for (const bytes of ['', '16 0301 0200 01']) {
    const client = await connect()
    await client.greet()
    client.send(nbd.encodeOption(nbd.NBD_OPT_STARTTLS))
    await client.receiveOptionReply()
    client.send(bytes)
    client.socket.destroy()
  }
  await until(() => lines.filter((line) => line.includes('dropped')).length === 2)
  t.equal(dropped(lines), 'the client closed the connection during the TLS handshake')
  await (await connect()).goSecurely()
  t.equal(served(), 1)
  await server.close()
})

void t.test('a connection that ends without a TLS goodbye is as good as any other', async (t) => {
  const { connect, lines, server, device } = await serveTls(t, PLAIN_SERVER)
  const plain = await connect()
  const client = await plain.goSecurely()
  client.request(nbd.NBD_CMD_WRITE, { length: 512 }, Buffer.alloc(512, 0x5a))
  await client.receiveSimpleReply()
  plain.socket.destroy()
  await until(() => server.clients.length === 0)
  t.equal(device.data[511], 0x5a)
  t.match(lines.at(-1), /^info client 1 .* disconnected$/)
  t.notOk(lines.some((line) => /^(warn|error)/.test(line)))
})

void t.test('a client that ends its side still gets the replies', async (t) => {
  const { connect, device } = await serveTls(t, PLAIN_SERVER)
  device.data.fill(0x77)
  const client = await (await connect()).goSecurely()
  client.request(nbd.NBD_CMD_READ, { length: MiB })
  client.socket.end()
  t.equal((await client.receiveSimpleReply()).error, 0)
  t.ok((await client.receiveAll()).equals(Buffer.alloc(MiB, 0x77)), 'all of it, and then the end')
})

void t.test('a client that does not read its replies is not read from, and loses none of them', async (t) => {
  const bytesInFlightMax = 4 * MiB
  const size = 256 * KiB
  const requests = 64
  const { connect, device, server } = await serveTls(t, PLAIN_SERVER, { limits: { bytesInFlightMax }, size })
  device.data.fill(0x33)
  const client = await (await connect()).goSecurely()
  client.socket.pause()
  for (let n = 0; n < requests; n++) client.request(nbd.NBD_CMD_READ, { length: size, cookie: BigInt(n) })
  await until(() => server.bytesInFlight >= bytesInFlightMax)
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve))
  t.ok(server.bytesInFlight <= bytesInFlightMax + size, 'it went no further')
  client.socket.resume()
  for (let n = 0; n < requests; n++) {
    t.same(await client.receiveSimpleReply(), { error: 0, cookie: BigInt(n) })
    t.ok((await client.receive(size)).equals(device.data))
  }
  await until(() => server.bytesInFlight === 0)
})

void t.test('closing the server finishes what is in flight, and says goodbye', async (t) => {
  const { connect, device, server } = await serveTls(t, PLAIN_SERVER)
  device.data.fill(0x44)
  const client = await (await connect()).goSecurely()
  for (let n = 0; n < 8; n++) client.request(nbd.NBD_CMD_READ, { length: 512 * KiB, cookie: BigInt(n) })
  await until(() => server.clients.some(({ requestsInFlight }) => requestsInFlight === 8))
  const closed = server.close()
  const replies = await client.receiveAll()
  t.equal(replies.length, 8 * (nbd.SIMPLE_REPLY_LENGTH + 512 * KiB))
  await closed
})

void t.test('files that cannot be used are refused with one sentence', (t) => {
  const { server, anonymous, client, pskFile } = credentials
  const refuse = (settings: ServerTlsSettings, sentence: RegExp): void => {
    t.throws(() => new ServerTls(settings, { required: true }), { name: 'TlsError', message: sentence })
  }
  refuse({ certificates: '/nowhere', verifyPeer: false }, /^\/nowhere is no directory with TLS certificates$/)
  refuse({ certificates: anonymous, verifyPeer: false }, /^server-cert.pem is missing in /)
  refuse({ certificates: client, verifyPeer: true }, /^server-cert.pem is missing in /)
  refuse({ pskFile: join(server, 'none') }, /^there is no file .* with pre-shared keys$/)
  refuse({ pskFile: join(server, 'server-cert.pem') }, /^line 1 of .* is not NAME:KEY/)
  t.ok(new ServerTls({ pskFile }, { required: true }))
  t.end()
})

/**
 * Ends the TLS handshake, sends `data` and is gone, all at once: what the server then sends of its own side of the
 * handshake cannot arrive.
 */
async function vanishAfter(client: RawClient, data: Buffer): Promise<void> {
  const { socket } = client
  client.send(nbd.encodeOption(nbd.NBD_OPT_STARTTLS))
  await client.receiveOptionReply()
  socket.removeAllListeners('data')
  const held: Buffer[] = []
  const wire = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => {
      // The first thing is the ClientHello, which must be answered.
      if (socket.bytesRead > nbd.GREETING_LENGTH + nbd.OPTION_REPLY_HEADER_LENGTH) held.push(chunk)
      else socket.write(chunk)
      done()
    },
  })
  socket.on('data', (chunk: Buffer) => wire.push(chunk))
  const secured = connectTls({ socket: wire, rejectUnauthorized: false })
  secured.on('error', () => undefined)
  await new Promise((resolve) => secured.write(data, resolve))
  socket.write(Buffer.concat(held), () => socket.destroy())
}

void t.test('a client that vanishes at the end of its TLS handshake is let go', async (t) => {
  const { connect, server, served } = await serveTls(t, PLAIN_SERVER, { limits: { closeTimeoutMs: 20 } })
  // More than the server reads at once, so that it has nothing to answer when it ends its side of the handshake.
  const long = nbd.encodeOption(77, Buffer.alloc(64 * KiB))
  const go = nbd.encodeOption(nbd.NBD_OPT_GO, nbd.encodeInfoRequest({ name: 'main', infos: [] }))
  const request = nbd.encodeRequest({ flags: 0, type: nbd.NBD_CMD_FLUSH, cookie: 1n, offset: 0, length: 0 })
  const client = await connect()
  await client.greet()
  await vanishAfter(client, Buffer.concat([long, go, request]))
  await until(() => served() === 1)
  await until(() => server.clients.length === 0 && server.bytesInFlight === 0)
  t.equal(served(), 1)
})

void t.test('a client that ends its side early and takes no replies is let go', async (t) => {
  const { connect, server, served } = await serveTls(t, PLAIN_SERVER, { limits: { closeTimeoutMs: 20 } })
  const client = await connect()
  await client.greet()
  const secured = await client.startTls({})
  secured.socket.pause()
  // More answers than the server writes without a pause, to options that arrive in one piece, and the end behind them.
  const lists = Array.from({ length: 600 }, () => nbd.encodeOption(nbd.NBD_OPT_LIST))
  const go = nbd.encodeOption(nbd.NBD_OPT_GO, nbd.encodeInfoRequest({ name: 'main', infos: [] }))
  const read = nbd.encodeRequest({ flags: 0, type: nbd.NBD_CMD_READ, cookie: 1n, offset: 0, length: MiB })
  secured.socket.end(Buffer.concat([...lists, go, read]))
  await until(() => served() === 1)
  await until(() => server.clients.length === 0 && server.bytesInFlight === 0)
  t.equal(served(), 1)
})

/** Its last socket can be silenced: until it is closed, replies neither leave nor fail, as in Node.js when a client is suddenly gone. */
class Silenceable extends ServerTls {
  #last: TLSSocket | undefined

  override async secure(socket: Socket): Promise<TLSSocket> {
    return (this.#last = await super.secure(socket))
  }

  silence(): void {
    const socket = this.#last
    if (socket === undefined) return
    const fail = (done: (error: Error) => void): void => {
      socket.once('close', () => {
        done(new Error('closed'))
      })
    }
    socket._write = (_chunk, _encoding, done) => {
      fail(done)
    }
    socket._writev = (_chunks, done) => {
      fail(done)
    }
  }
}

for (const [what, leave] of [
  [
    'says goodbye',
    (client: RawClient): void => {
      client.request(nbd.NBD_CMD_DISC)
    },
  ],
  [
    'ends its side',
    (client: RawClient): void => {
      client.socket.end()
    },
  ],
] as const) {
  void t.test(`a client that ${what} and takes no reply any more is let go`, async (t) => {
    const tls = new Silenceable(PLAIN_SERVER, { required: true })
    const { connect, server } = await serve(t, { tls, limits: { closeTimeoutMs: 20 } })
    const client = await (await connect()).goSecurely()
    const { bytesRead } = client.socket
    tls.silence()
    client.request(nbd.NBD_CMD_FLUSH, {})
    leave(client)
    await until(() => server.clients.length === 0)
    t.equal(client.socket.bytesRead, bytesRead, 'no reply had left')
  })
}
