/** An NBD server that does exactly what a test tells it, also what no real server would. */

import { type Server, type Socket, createServer } from 'node:net'
import { join } from 'node:path'
import type { Test } from 'tap'
import { ByteReader } from '../../src/nbd/byte-reader.js'
import * as nbd from '../../src/nbd/protocol.js'
import { socketDirectory } from './upstream-servers.js'

export class Peer {
  readonly #reader = new ByteReader()
  #wake: () => void = () => undefined
  #ended = false

  constructor(readonly socket: Socket) {
    socket.on('data', (chunk) => {
      this.#reader.push(chunk)
      this.#wake()
    })
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.#ended = true
      this.#wake()
    })
  }

  async read(length: number): Promise<Buffer> {
    while (this.#reader.available < length) {
      if (this.#ended) throw new PeerGone()
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
    return this.#reader.consume(length)
  }

  write(...data: Buffer[]): void {
    this.socket.write(Buffer.concat(data))
  }

  /** The honest greeting up to the client's flags. */
  async greet(flags = nbd.NBD_FLAG_FIXED_NEWSTYLE | nbd.NBD_FLAG_NO_ZEROES): Promise<number> {
    this.write(nbd.encodeGreeting(flags))
    return nbd.decodeClientFlags(await this.read(nbd.CLIENT_FLAGS_LENGTH))
  }

  async readOption(): Promise<{ option: number; data: Buffer }> {
    const { option, length } = nbd.decodeOptionHeader(await this.read(nbd.OPTION_HEADER_LENGTH))
    return { option, data: await this.read(length) }
  }

  /** A whole honest handshake. */
  async handshake(size: number, transmissionFlags = ALL_FLAGS, blockSizes?: [number, number, number]): Promise<void> {
    await this.greet()
    await this.readOption()
    this.write(...goReplies(size, transmissionFlags, blockSizes))
  }

  async readRequest(): Promise<nbd.Request> {
    return nbd.decodeRequest(await this.read(nbd.REQUEST_HEADER_LENGTH))
  }

  reply(cookie: bigint, error = 0, data = Buffer.alloc(0)): void {
    const header = Buffer.alloc(nbd.SIMPLE_REPLY_LENGTH)
    nbd.encodeSimpleReply(header, { error, cookie })
    this.write(header, data)
  }
}

/** The client went away: ends a script without failing the test. */
class PeerGone extends Error {}

export const ALL_FLAGS =
  nbd.NBD_FLAG_HAS_FLAGS |
  nbd.NBD_FLAG_SEND_FLUSH |
  nbd.NBD_FLAG_SEND_FUA |
  nbd.NBD_FLAG_SEND_TRIM |
  nbd.NBD_FLAG_SEND_WRITE_ZEROES |
  nbd.NBD_FLAG_SEND_CACHE

export function goReplies(size: number, flags = ALL_FLAGS, sizes?: [number, number, number]): Buffer[] {
  const infos: nbd.Info[] = [{ type: nbd.NBD_INFO_EXPORT, size, transmissionFlags: flags }]
  if (sizes) {
    const [minimum, preferred, maximum] = sizes
    infos.push({ type: nbd.NBD_INFO_BLOCK_SIZE, minimum, preferred, maximum })
  }
  return [
    ...infos.map((info) => nbd.encodeOptionReply(nbd.NBD_OPT_GO, nbd.NBD_REP_INFO, nbd.encodeInfo(info))),
    nbd.encodeOptionReply(nbd.NBD_OPT_GO, nbd.NBD_REP_ACK),
  ]
}

/** Runs `script` for each connection, counted from 0. @returns the URI */
export async function scriptedServer(
  t: Test,
  script: (peer: Peer, connection: number) => Promise<void> | void,
): Promise<string> {
  const path = join(await socketDirectory(t), 's')
  const sockets = new Set<Socket>()
  let connections = 0
  const server: Server = createServer((socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    void run(t, () => script(new Peer(socket), connections++))
  })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return `nbd+unix:///x?socket=${path}`
}

async function run(t: Test, script: () => Promise<void> | void): Promise<void> {
  try {
    await script()
  } catch (error) {
    if (!(error instanceof PeerGone)) t.fail('the scripted server failed', { error })
  }
}
