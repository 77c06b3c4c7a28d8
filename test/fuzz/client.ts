/**
 * Clients that misbehave: they send a session in pieces, read the answers or do not, and leave as they like, also half-way
 * through a header, a payload or a TLS handshake.
 */
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import tls from 'node:tls'
import * as nbd from '../../src/nbd/protocol.js'
import type { Random } from '../../src/util/random.js'
import type { RawClient } from '../../src/conformance/raw-client.js'
import type { SessionMaker } from './session.js'

/** Sends a session in the clear. */
export async function misbehave(client: RawClient, random: Random, sessions: SessionMaker): Promise<void> {
  await sendAndLeave(client, random, sessions.session())
}

/**
 * Asks for TLS, and then keeps to what that demands or does not. Every way out ends the connection.
 * @returns whether there was TLS
 */
export async function misbehaveWithTls(client: RawClient, random: Random, sessions: SessionMaker): Promise<boolean> {
  try {
    await client.greet()
    client.send(sessions.options().subarray(0, random.chance(70) ? 0 : undefined))
    const way = random.below(4)
    if (way === 0) {
      const start = nbd.encodeOption(nbd.NBD_OPT_STARTTLS, random.chance(80) ? undefined : random.bytes(5))
      await sendAndLeave(client, random, Buffer.concat([start, sessions.continuation()]))
    } else if (way === 1) {
      await startTls(client)
      await sendAndLeave(client, random, damagedHello(random))
    } else {
      await startTls(client)
      const secured = await client.secure({})
      if (way === 2) await sendAndLeave(secured, random, sessions.continuation())
      // Beneath the encryption.
      else await sendAndLeave(client, random, random.bytes(1 + random.below(200)))
      return true
    }
  } catch {
    // The server need not put up with any of this.
  }
  client.socket.destroy()
  return false
}

async function startTls(client: RawClient): Promise<void> {
  client.send(nbd.encodeOption(nbd.NBD_OPT_STARTTLS))
  for (;;) {
    const { option, type } = await client.receiveOptionReply()
    if (option !== nbd.NBD_OPT_STARTTLS) continue
    if (type === nbd.NBD_REP_ACK) return
    throw new Error(`NBD_OPT_STARTTLS was answered by ${type}`)
  }
}

/** What a TLS client says first. */
const HELLO = await new Promise<Buffer>((resolve) => {
  const socket = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer) => {
      resolve(chunk)
    },
  })
  tls.connect({ socket }).on('error', () => undefined)
})

function damagedHello(random: Random): Buffer {
  const hello = Buffer.from(HELLO)
  for (let i = random.below(5); i > 0; i--) hello[random.below(hello.length)] = random.below(256)
  return hello.subarray(0, random.chance(50) ? hello.length : random.below(hello.length))
}

async function sendAndLeave(client: RawClient, random: Random, session: Buffer): Promise<void> {
  const { socket } = client
  if (random.chance(30)) socket.pause()
  const end = random.chance(65) ? session.length : random.below(session.length + 1)
  for (let at = 0; at < end && !socket.destroyed;) {
    const next = Math.min(end, at + 1 + random.below(random.pick([10, 1000, 100_000])))
    client.send(session.subarray(at, next))
    at = next
    if (random.chance(20)) await new Promise((resolve) => setImmediate(resolve))
  }
  if (random.chance(70)) await allTaken(socket)
  const way = random.below(20)
  if (way < 13) socket.end()
  else if (way < 16) socket.destroy()
  else reset(socket)
  socket.resume()
}

/** Who reads no answers may never get rid of what it sends, and gives up some time. */
const PATIENCE_MS = 300

function allTaken(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const patience = setTimeout(resolve, PATIENCE_MS)
    socket.write('', () => {
      clearTimeout(patience)
      resolve()
    })
  })
}

/** Over TCP, what is under way in either direction is lost. */
function reset(socket: Socket): void {
  if (socket instanceof tls.TLSSocket || socket.remotePort === undefined) socket.destroy()
  else socket.resetAndDestroy()
}
