/** Promise P7, in figures: what the server takes while many clients keep much in flight. */
import { readFileSync } from 'node:fs'
import t, { type Test } from 'tap'
import * as nbd from '../../src/nbd/protocol.js'
import { KiB, MiB, formatBytes } from '../../src/util/units.js'
import { newFolder, newSpare, Serve } from '../support/cli.js'
import { RawClient } from '../../src/conformance/raw-client.js'

const CLIENTS = 64
const IN_FLIGHT = 16
const LENGTH = 256 * KiB
const REQUESTS = 3 * IN_FLIGHT
const RESIDENT_MAX = 200 * MiB
const SIZE = 256 * MiB

const residentPeak = ({ pid }: Serve): number => {
  const [, kibibytes] = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? []
  return Number(kibibytes) * KiB
}

async function start(t: Test): Promise<{ server: Serve; clients: RawClient[] }> {
  const folder = newFolder(t)
  // A sparse file is enough.
  const server = await Serve.start(t, { folder, main: newSpare(folder, 'main.img', SIZE), spare: newSpare(folder) })
  const clients = await Promise.all(
    Array.from({ length: CLIENTS }, async () => (await RawClient.connect(server.socketPath)).go({ name: '' })),
  )
  t.teardown(() => {
    for (const { socket } of clients) socket.destroy()
  })
  return { server, clients }
}

const PAYLOAD = Buffer.alloc(LENGTH, 'payload')

/** Keeps `IN_FLIGHT` requests in flight. */
async function work(client: RawClient, type: number): Promise<void> {
  const isWrite = type === nbd.NBD_CMD_WRITE
  const send = (n: number): void => {
    client.request(type, { offset: (n * 7919 * LENGTH) % SIZE, length: LENGTH }, isWrite ? PAYLOAD : '')
  }
  for (let n = 0; n < IN_FLIGHT; n++) send(n)
  for (let n = IN_FLIGHT; n < REQUESTS + IN_FLIGHT; n++) {
    const { error } = await client.receiveReply(isWrite ? 0 : LENGTH)
    if (error !== 0) throw new Error(`error ${error}`)
    if (n < REQUESTS) send(n)
  }
}

void t.test(`${CLIENTS} clients with ${IN_FLIGHT} requests of 256 KiB each stay under 200 MiB`, async (t) => {
  for (const [what, type] of [
    ['reads', nbd.NBD_CMD_READ],
    ['writes', nbd.NBD_CMD_WRITE],
  ] as const) {
    const { server, clients } = await start(t)
    await Promise.all(clients.map((client) => work(client, type)))
    const peak = residentPeak(server)
    t.ok(peak < RESIDENT_MAX, `${what}: ${formatBytes(peak)} at most`)
  }
})

void t.test('so do clients that take no replies, and clients that send no payloads', async (t) => {
  for (const type of [nbd.NBD_CMD_READ, nbd.NBD_CMD_WRITE]) {
    const { server, clients } = await start(t)
    const last = clients.pop()
    for (const client of clients) {
      client.socket.pause()
      // All of a payload but its last byte, and behind it more of the same.
      const payload = type === nbd.NBD_CMD_WRITE ? PAYLOAD.subarray(1) : ''
      for (let n = 0; n < IN_FLIGHT; n++) client.request(type, { offset: n * LENGTH, length: LENGTH }, payload)
    }
    for (let n = 0; n < 20; n++) t.equal((await last?.ask(nbd.NBD_CMD_READ, { length: LENGTH }))?.error, 0)
    const peak = residentPeak(server)
    t.ok(peak < RESIDENT_MAX, `${formatBytes(peak)} at most`)
  }
})
