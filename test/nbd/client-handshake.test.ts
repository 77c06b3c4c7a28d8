import { createServer } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { NbdConnectionError, NbdProtocolError, NbdServerError } from '../../src/nbd/client-errors.js'
import { NbdClient } from '../../src/nbd/client.js'
import * as nbd from '../../src/nbd/protocol.js'
import { type Peer, goReplies, scriptedServer } from '../support/scripted-nbd-server.js'
import { socketDirectory, startNbdkit } from '../support/upstream-servers.js'

const MiB = 1024 * 1024
const goReply = (type: number, data?: Buffer): Buffer => nbd.encodeOptionReply(nbd.NBD_OPT_GO, type, data)

async function errorOf(promise: Promise<NbdClient>): Promise<Error> {
  try {
    const client = await promise
    client.destroy()
    return new Error('connected')
  } catch (error) {
    return error as Error
  }
}

void t.test('asks for GO with block sizes, and not for structured replies', async (t) => {
  const options: { option: number; data: Buffer }[] = []
  const uri = await scriptedServer(t, async (peer) => {
    t.equal(await peer.greet(), nbd.NBD_FLAG_C_FIXED_NEWSTYLE | nbd.NBD_FLAG_C_NO_ZEROES)
    options.push(await peer.readOption())
    peer.write(...goReplies(7 * MiB, nbd.NBD_FLAG_HAS_FLAGS | nbd.NBD_FLAG_SEND_TRIM, [512, 4096, 1 * MiB]))
  })
  const client = await NbdClient.connect(uri)
  client.destroy()
  t.same(options, [
    {
      option: nbd.NBD_OPT_GO,
      data: nbd.encodeInfoRequest({ name: 'x', infos: [nbd.NBD_INFO_BLOCK_SIZE] }),
    },
  ])
  t.equal(client.size, 7 * MiB)
  t.same(client.blockSizes, { minimum: 512, preferred: 4096, maximum: 1 * MiB })
  t.match(client.flags, { sendTrim: true, sendFlush: false, readOnly: false })
})

void t.test('unknown information is skipped, and block sizes have their defaults', async (t) => {
  const uri = await scriptedServer(t, async (peer) => {
    await peer.greet()
    await peer.readOption()
    peer.write(goReply(nbd.NBD_REP_INFO, Buffer.from([0x12, 0x34, 1, 2, 3])), ...goReplies(MiB))
  })
  const client = await NbdClient.connect(uri)
  t.same(client.blockSizes, { minimum: 1, preferred: 4096, maximum: 32 * MiB })
  client.destroy()
})

void t.test('flags without NBD_FLAG_HAS_FLAGS mean nothing', async (t) => {
  const uri = await scriptedServer(t, (peer) => peer.handshake(MiB, 0xfffe))
  const client = await NbdClient.connect(uri)
  t.ok(Object.values(client.flags).every((flag) => !flag))
  client.destroy()
})

for (const [what, greeting, padding] of [
  ['with 124 zero bytes', nbd.NBD_FLAG_FIXED_NEWSTYLE, 124],
  ['without them', nbd.NBD_FLAG_FIXED_NEWSTYLE | nbd.NBD_FLAG_NO_ZEROES, 0],
] as const) {
  void t.test(`falls back to EXPORT_NAME when GO is not known, ${what}`, async (t) => {
    const options: number[] = []
    const uri = await scriptedServer(t, async (peer) => {
      await peer.greet(greeting)
      options.push((await peer.readOption()).option)
      peer.write(goReply(nbd.NBD_REP_ERR_UNSUP))
      const { option, data } = await peer.readOption()
      options.push(option)
      t.equal(data.toString(), 'x')
      peer.write(nbd.encodeExportSize(MiB, 0x0d), Buffer.alloc(padding))
      const { cookie } = await peer.readRequest()
      peer.reply(cookie)
    })
    const client = await NbdClient.connect(uri)
    t.same(options, [nbd.NBD_OPT_GO, nbd.NBD_OPT_EXPORT_NAME])
    t.equal(client.size, MiB)
    await client.flush()
    client.destroy()
  })
}

void t.test('a newstyle server that is not "fixed" gets EXPORT_NAME at once', async (t) => {
  const uri = await scriptedServer(t, async (peer) => {
    t.equal(await peer.greet(0), 0)
    t.equal((await peer.readOption()).option, nbd.NBD_OPT_EXPORT_NAME)
    peer.write(nbd.encodeExportSize(MiB, 0x0d), Buffer.alloc(124))
  })
  const client = await NbdClient.connect(uri)
  t.equal(client.size, MiB)
  client.destroy()
})

void t.test('says which export was refused, why, and what the server says', async (t) => {
  const uri = await scriptedServer(t, async (peer) => {
    await peer.greet()
    await peer.readOption()
    peer.write(goReply(nbd.NBD_REP_ERR_UNKNOWN, Buffer.from('no such disk\n')))
  })
  const error = await errorOf(NbdClient.connect(uri))
  t.type(error, NbdServerError)
  t.match(error, { errorName: 'NBD_REP_ERR_UNKNOWN', errorValue: nbd.NBD_REP_ERR_UNKNOWN })
  t.match(error.message, /refused the export 'x': NBD_REP_ERR_UNKNOWN \(the server says: "no such disk"\)/)
  t.ok(error.message.includes(uri))
})

void t.test('a server that requires TLS is named as such', async (t) => {
  const uri = await scriptedServer(t, async (peer) => {
    await peer.greet()
    await peer.readOption()
    peer.write(goReply(nbd.NBD_REP_ERR_TLS_REQD))
  })
  t.match((await errorOf(NbdClient.connect(uri))).message, /NBD_REP_ERR_TLS_REQD, so the URI must begin with nbds:/)
})

const greetThen =
  (...data: Buffer[]) =>
  async (peer: Peer): Promise<void> => {
    await peer.greet()
    await peer.readOption()
    peer.write(...data)
  }
const BROKEN: readonly [string, (peer: Peer) => Promise<void> | void, RegExp][] = [
  [
    'another protocol',
    (peer) => {
      peer.write(Buffer.from('SSH-2.0-OpenSSH_9.2p1 Debian\r\n'))
    },
    /broke the protocol in the handshake: bad .*magic/,
  ],
  [
    'endless garbage',
    (peer) => {
      flood(peer, Buffer.alloc(65536, 0x5a))
    },
    /bad .*magic/,
  ],
  ['endless garbage after the greeting', greetThen(Buffer.alloc(10 * MiB, 1)), /bad option reply magic/],
  [
    'endless information',
    async (peer) => {
      await peer.greet()
      await peer.readOption()
      flood(peer, goReply(nbd.NBD_REP_INFO, Buffer.from([9, 9])))
    },
    /more than 100 NBD_REP_INFO/,
  ],
  [
    'an oversize option reply',
    greetThen(Buffer.from('0003e889045565a9000000070000000300ffffff', 'hex')),
    /NBD_REP_INFO is 16777215 bytes long/,
  ],
  [
    'an answer to another option',
    greetThen(nbd.encodeOptionReply(nbd.NBD_OPT_LIST, nbd.NBD_REP_ACK)),
    /reply to NBD_OPT_LIST answers NBD_OPT_GO/,
  ],
  ['ACK without INFO_EXPORT', greetThen(goReply(nbd.NBD_REP_ACK)), /without NBD_INFO_EXPORT/],
  ['an answer that is none', greetThen(goReply(nbd.NBD_REP_SERVER)), /NBD_REP_SERVER answers NBD_OPT_GO/],
  ['a cut INFO_EXPORT', greetThen(goReply(nbd.NBD_REP_INFO, Buffer.from([0, 0, 1]))), /NBD_INFO_EXPORT/],
  ['a size of 64 bits', greetThen(...goReplies(Number.MAX_SAFE_INTEGER + 1)), /larger than 2\^53/],
  ['a minimum block of 3', greetThen(...goReplies(MiB, 1, [3, 4096, MiB])), /impossible block sizes: minimum 3/],
  ['a minimum block of 0', greetThen(...goReplies(MiB, 1, [0, 4096, MiB])), /impossible block sizes/],
  ['a huge minimum block', greetThen(...goReplies(MiB, 1, [131072, 131072, MiB])), /impossible block sizes/],
  ['a maximum below the preferred', greetThen(...goReplies(MiB, 1, [512, 4096, 512])), /impossible block sizes/],
]

function flood(peer: Peer, data: Buffer): void {
  if (!peer.socket.destroyed) peer.socket.write(data, () => setImmediate(flood, peer, data))
}

for (const [what, script, message] of BROKEN) {
  void t.test(`${what} breaks the protocol: a clear error, and the socket is closed`, async (t) => {
    let closed: Promise<unknown> | undefined
    const uri = await scriptedServer(t, (peer) => {
      closed = new Promise((resolve) => peer.socket.once('close', resolve))
      return script(peer)
    })
    const error = await errorOf(NbdClient.connect(uri))
    t.type(error, NbdProtocolError)
    t.match(error.message, message)
    t.ok(error.message.includes(uri), 'says where')
    await closed
  })
}

void t.test('a server that closes at any byte of the handshake is a lost connection', async (t) => {
  const greeting = nbd.encodeGreeting(nbd.NBD_FLAG_FIXED_NEWSTYLE | nbd.NBD_FLAG_NO_ZEROES)
  const replies = Buffer.concat(goReplies(MiB, 0x0d, [512, 4096, MiB]))
  const total = greeting.length + replies.length
  const uri = await scriptedServer(t, async (peer, connection) => {
    peer.write(greeting.subarray(0, connection))
    if (connection > greeting.length) {
      await peer.read(nbd.CLIENT_FLAGS_LENGTH)
      await peer.readOption()
      peer.write(replies.subarray(0, connection - greeting.length))
    }
    peer.socket.end()
  })
  for (let bytes = 0; bytes < total; bytes++) {
    const error = await errorOf(NbdClient.connect(uri))
    if (!(error instanceof NbdConnectionError)) t.fail(`after ${bytes} bytes: ${error.message}`)
    else if (bytes === 0 || bytes === total - 1) t.match(error.message, /closed the connection during the handshake/)
  }
})

void t.test('a server that sends the handshake byte by byte is understood', async (t) => {
  const uri = await scriptedServer(t, async (peer) => {
    for (const byte of nbd.encodeGreeting(3)) peer.write(Buffer.of(byte))
    await peer.read(nbd.CLIENT_FLAGS_LENGTH)
    await peer.readOption()
    for (const byte of Buffer.concat(goReplies(MiB))) {
      peer.write(Buffer.of(byte))
      await new Promise(setImmediate)
    }
  })
  const client = await NbdClient.connect(uri)
  t.equal(client.size, MiB)
  client.destroy()
})

void t.test('a server that never answers runs into connectTimeoutMs', async (t) => {
  let closed: Promise<unknown> | undefined
  const uri = await scriptedServer(t, (peer) => {
    closed = new Promise((resolve) => peer.socket.once('close', resolve))
  })
  const error = await errorOf(NbdClient.connect(uri, { connectTimeoutMs: 500 }))
  t.type(error, NbdConnectionError)
  t.equal(error.message, `cannot reach NBD server at ${uri}: no answer within 500 ms during the handshake`)
  await closed
})

void t.test('connecting can be given up', async (t) => {
  const given = new AbortController()
  const uri = await scriptedServer(t, () => {
    given.abort()
  })
  const error = await errorOf(NbdClient.connect(uri, { signal: given.signal }))
  t.type(error, NbdConnectionError)
  t.match(error.message, /given up/)
  t.match((await errorOf(NbdClient.connect(uri, { signal: given.signal }))).message, /given up/)
})

void t.test('says in one sentence why a server cannot be reached', async (t) => {
  const directory = await socketDirectory(t)
  const server = await startNbdkit(t, 'memory', '1M')
  await server.kill()
  const missing = `nbd+unix:///x?socket=${join(directory, 'missing')}`
  t.equal(
    (await errorOf(NbdClient.connect(missing))).message,
    `cannot reach NBD server at ${missing}: the socket does not exist`,
  )
  t.equal(
    (await errorOf(NbdClient.connect(server.uri))).message,
    `cannot reach NBD server at ${server.uri}: connection refused`,
  )
  const port = await closedPort()
  const error = await errorOf(NbdClient.connect(`nbd://127.0.0.1:${port}/x`))
  t.equal(error.message, `cannot reach NBD server at nbd://127.0.0.1:${port}/x: connection refused`)
  t.type(error, NbdConnectionError)
})

void t.test('connects over TCP, by address and by name', async (t) => {
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.write(nbd.encodeGreeting(3))
    socket.once('data', () => socket.write(Buffer.concat(goReplies(MiB))))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as { port: number }
  for (const host of ['127.0.0.1', 'localhost']) {
    const client = await NbdClient.connect(`nbd://${host}:${port}/x`)
    t.equal(client.size, MiB)
    client.destroy()
    await client.lost
  }
})

/** A port that was free a moment ago. */
async function closedPort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}
