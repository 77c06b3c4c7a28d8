import { cp, writeFile } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { NbdConnectionError, NbdProtocolError, NbdTlsError } from '../../src/nbd/client-errors.js'
import { NbdClient } from '../../src/nbd/client.js'
import * as nbd from '../../src/nbd/protocol.js'
import { ServerTls, type ServerTlsSettings } from '../../src/server/starttls.js'
import { MiB } from '../../src/util/units.js'
import { makeCredentials, overTls } from '../support/certificates.js'
import { pattern } from '../support/cli.js'
import { serve, temporaryDirectory } from '../support/nbd-server.js'
import { scriptedServer } from '../support/scripted-nbd-server.js'
import { startUpstream } from '../support/upstream-servers.js'

const credentials = await makeCredentials(t)
const { client, anonymous, pskFile } = credentials
const CERTIFICATES: ServerTlsSettings = { certificates: credentials.server, verifyPeer: true }
const PSK: ServerTlsSettings = { pskFile }

interface Uris {
  readonly tcp: string
  readonly unix: string
}

async function serveTls(t: Test, settings: ServerTlsSettings, required = true): Promise<Uris> {
  const { server, path } = await serve(t, { tls: new ServerTls(settings, { required }) }, 8 * MiB)
  const address = await server.listen({ host: '127.0.0.1', port: 0 })
  return {
    tcp: `nbd://localhost:${'port' in address ? address.port : 0}/main`,
    unix: `nbd+unix:///main?socket=${path}`,
  }
}

async function errorOf(uri: string): Promise<Error> {
  try {
    const connected = await NbdClient.connect(uri)
    connected.destroy()
  } catch (error) {
    return error as Error
  }
  throw new Error('connected')
}

async function works(t: Test, uri: string): Promise<void> {
  const connected = await NbdClient.connect(uri)
  const content = pattern(8 * MiB)
  await connected.write(0, [content])
  const back = Buffer.alloc(content.length)
  await Promise.all([0, 1, 2, 3].map((n) => connected.read(n * 2 * MiB, back.subarray(n * 2 * MiB, (n + 1) * 2 * MiB))))
  t.ok(back.equals(content))
  await connected.disconnect()
}

for (const transport of ['tcp', 'unix'] as const) {
  void t.test(`with certificates over ${transport}`, async (t) => {
    const uris = await serveTls(t, CERTIFICATES)
    await works(t, overTls(uris[transport], { 'tls-certificates': client }))
    await works(t, overTls(uris[transport], { 'tls-certificates': client, 'tls-hostname': 'localhost' }, 'alice'))
    await works(t, overTls(uris[transport].replace('localhost', '127.0.0.1'), { 'tls-certificates': client }))
  })

  void t.test(`with a pre-shared key over ${transport}`, async (t) => {
    const uris = await serveTls(t, PSK)
    for (const user of ['alice', 'bob']) await works(t, overTls(uris[transport], { 'tls-psk-file': pskFile }, user))
  })
}

void t.test('a server of a foreign CA is refused', async (t) => {
  const { tcp } = await serveTls(t, { certificates: credentials.foreignServer, verifyPeer: false })
  const error = await errorOf(overTls(tcp, { 'tls-certificates': client }))
  t.type(error, NbdTlsError)
  const where = tcp.replace('nbd', 'nbds')
  const why = "the server's certificate is not signed by the CA that is trusted here"
  t.equal(error.message, `no TLS with NBD server at ${where}: ${why}`)
  t.equal((await errorOf(overTls(tcp, {}))).message, error.message, 'and so is one of no CA that everybody knows')
})

void t.test('a server whose certificate is for another host is refused', async (t) => {
  const { tcp, unix } = await serveTls(t, { certificates: credentials.otherServer, verifyPeer: false })
  const why = /: the server's certificate is made for 'DNS:other\.example', not for '(localhost|wrong\.example)'$/
  t.match((await errorOf(overTls(tcp, { 'tls-certificates': client }))).message, why)
  const wrong = { 'tls-certificates': client, 'tls-hostname': 'wrong.example' }
  t.match((await errorOf(overTls(unix, wrong))).message, why)
  t.match((await errorOf(overTls(tcp, wrong))).message, why)
  await works(t, overTls(tcp, { 'tls-certificates': client, 'tls-hostname': 'other.example' }))
  await works(t, overTls(unix, { 'tls-certificates': client }))
})

void t.test('a revoked server certificate is refused', async (t) => {
  const own = await makeCredentials(t)
  await own.authority.revoke(join(own.server, 'server-cert.pem'), own.client)
  const { tcp } = await serveTls(t, { certificates: own.server, verifyPeer: false })
  const error = await errorOf(overTls(tcp, { 'tls-certificates': own.client }))
  t.match(error.message, /: the server's certificate is revoked$/)
})

void t.test('a server that does not accept our certificate is named so', async (t) => {
  const { tcp } = await serveTls(t, CERTIFICATES)
  t.match((await errorOf(overTls(tcp, { 'tls-certificates': anonymous }))).message, /: the server wants a certificate$/)
  t.match(
    (await errorOf(overTls(tcp, { 'tls-certificates': credentials.foreignClient }))).message,
    /: the server closed the connection \(it may refuse these credentials\) during the handshake$/,
  )
})

void t.test('a key that the server does not have, or a certificate in its place, is refused', async (t) => {
  const withKeys = await serveTls(t, PSK)
  for (const user of ['alice', 'mallory']) {
    const error = await errorOf(overTls(withKeys.unix, { 'tls-psk-file': credentials.foreignPskFile }, user))
    t.type(error, NbdTlsError, user)
    t.match(error.message, /^no TLS with NBD server at nbds\+unix:.*: the server /)
  }
  const error = await errorOf(overTls(withKeys.tcp, { 'tls-certificates': client }))
  t.match(error.message, /: the server refuses the TLS handshake \(does it use the other kind of credentials\?\)$/)
  const withCertificates = await serveTls(t, { certificates: credentials.server, verifyPeer: false })
  t.match(
    (await errorOf(overTls(withCertificates.tcp, { 'tls-psk-file': pskFile }, 'alice'))).message,
    /: the server has a certificate, not the pre-shared key$/,
  )
})

void t.test('a server without TLS is not talked to without it', async (t) => {
  const { path } = await serve(t)
  t.match(
    (await errorOf(overTls(`nbd+unix:///main?socket=${path}`, { 'tls-certificates': client }))).message,
    /: the server refuses TLS: NBD_REP_ERR_POLICY \(the server says: "TLS is switched off here"\)$/,
  )
  const nbdkit = await startUpstream(t, '', (socket) => ['nbdkit', '-f', '-U', socket, 'memory', '1M'])
  const error = await errorOf(overTls(nbdkit.uri, { 'tls-certificates': client }))
  t.type(error, NbdTlsError)
  t.match(error.message, /: the server refuses TLS: NBD_REP_ERR_/)
  const old = await scriptedServer(t, async (peer) => {
    await peer.greet(0)
  })
  t.match((await errorOf(overTls(old, { 'tls-certificates': client }))).message, /: the server is too old for TLS$/)
})

void t.test('what a server says in the clear after STARTTLS is not taken for what it says over TLS', async (t) => {
  const ack = nbd.encodeOptionReply(nbd.NBD_OPT_STARTTLS, nbd.NBD_REP_ACK)
  const uri = await scriptedServer(t, async (peer) => {
    await peer.greet()
    await peer.readOption()
    peer.write(ack, nbd.encodeOptionReply(nbd.NBD_OPT_GO, nbd.NBD_REP_ACK))
  })
  const error = await errorOf(overTls(uri, { 'tls-certificates': client }))
  t.type(error, NbdProtocolError)
  t.match(error.message, /the server talks on in the clear after NBD_OPT_STARTTLS/)
})

void t.test('a server that leaves, talks nonsense or says nothing instead of TLS', async (t) => {
  const after = (act: (socket: Socket) => void): Promise<string> =>
    scriptedServer(t, async (peer) => {
      await peer.greet()
      await peer.readOption()
      peer.write(nbd.encodeOptionReply(nbd.NBD_OPT_STARTTLS, nbd.NBD_REP_ACK))
      // The first record of the client.
      await peer.read(5)
      act(peer.socket)
    })
  const uriOf = async (act: Parameters<typeof after>[0]): Promise<string> =>
    overTls(await after(act), { 'tls-certificates': client })
  t.match(
    (
      await errorOf(
        await uriOf((socket) => {
          socket.end()
        }),
      )
    ).message,
    /: the server closed the connection during the TLS handshake$/,
  )
  t.match(
    (
      await errorOf(
        await uriOf((socket) => {
          socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')
        }),
      )
    ).message,
    /: the server does not speak TLS$/,
  )
  const silent = await uriOf(() => undefined)
  await t.rejects(NbdClient.connect(silent, { connectTimeoutMs: 200 }), {
    message: /^cannot reach NBD server at .*: no answer within 200 ms during the handshake$/,
  })
})

void t.test('files that are missing or wrong are told before a server is asked', async (t) => {
  const nowhere = 'nbd+unix:///x?socket=/nowhere'
  const folder = await temporaryDirectory(t)
  await cp(client, folder, { recursive: true })
  await writeFile(join(folder, 'client-key.pem'), 'no key')
  const CASES: readonly [Record<string, string>, RegExp][] = [
    [{ 'tls-certificates': '/none' }, /: \/none is no directory with TLS certificates$/],
    [{ 'tls-certificates': folder }, /: cannot use the TLS credentials in .*: \S/],
    [{ 'tls-psk-file': '/none' }, /: there is no file \/none with pre-shared keys$/],
    [{ 'tls-psk-file': pskFile }, /: there is no key of 'carol' in .* \(in the URI the name stands before an '@'\)$/],
    [{}, /: over a unix socket, whom to trust is said by tls-certificates, tls-psk-file or tls-hostname$/],
  ]
  for (const [parameters, sentence] of CASES) {
    const error = await errorOf(overTls(nowhere, parameters, 'carol'))
    t.type(error, NbdTlsError)
    t.match(error.message, sentence)
  }
})

void t.test('a connection that is cut is lost as any other', async (t) => {
  const { server, path } = await serve(t, { tls: new ServerTls(PSK, { required: true }) })
  const uri = overTls(`nbd+unix:///main?socket=${path}`, { 'tls-psk-file': pskFile }, 'alice')
  const connected = await NbdClient.connect(uri)
  void server.close()
  const reason = await connected.lost
  t.type(reason, NbdConnectionError)
  t.match(reason.message, /: the server closed the connection$/)
})
