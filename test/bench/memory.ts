/**
 * Peak memory of our server with many connections that each have many large requests in flight. Whatever is read is
 * compared with what was written: memory is easily saved by mixing up buffers.
 */
import path from 'node:path'
import { NbdClient } from '../../src/nbd/client.js'
import { GiB, KiB, MiB } from '../../src/util/units.js'
import { whileProbed } from './control-probe.js'
import { blankSpare } from './disks.js'
import { blankImage } from './images.js'
import type { Context, Measured } from './job.js'
import { peakMemory } from './proc.js'
import { startNbdRemap } from './servers.js'

const CONNECTIONS = 64
const REQUESTS_IN_FLIGHT = 16
const REQUEST_SIZE = 256 * KiB
const STAMPED_SIZE = 4 * KiB

export async function measureMemory({ directory, scope, seconds, step }: Context): Promise<Measured> {
  step('starting the server')
  const size = CONNECTIONS * REQUESTS_IN_FLIGHT * REQUEST_SIZE
  const main = await blankImage(path.join(directory, 'main.img'), size)
  const server = scope.use(await startNbdRemap(directory, main, await blankSpare(directory)))
  step(`connecting ${CONNECTIONS} clients`)
  const clients: NbdClient[] = []
  scope.defer(() => Promise.all(clients.map((client) => client.disconnect())))
  for (let n = 0; n < CONNECTIONS; n++) clients.push(await NbdClient.connect(server.uri))
  step(`${CONNECTIONS * REQUESTS_IN_FLIGHT} requests in flight`)
  const { result: bytes, latenciesMs } = await whileProbed(server.controlPath, () => keepBusy(clients, seconds))
  return {
    value: peakMemory(server.pid) / MiB,
    controlLatenciesMs: latenciesMs,
    note: `${(bytes / GiB).toFixed(1)} GiB read back, all as written`,
  }
}

/** @returns bytes that were written, read, and found equal */
async function keepBusy(clients: readonly NbdClient[], seconds: number): Promise<number> {
  const endMs = performance.now() + seconds * 1000
  const regions = clients.flatMap((client) => Array.from({ length: REQUESTS_IN_FLIGHT }, () => client))
  const checked = await Promise.all(regions.map((client, region) => writeAndRead(client, region, endMs)))
  return checked.reduce((sum, bytes) => sum + bytes, 0)
}

/** Every region has exactly one request in flight, and belongs to nobody else. */
async function writeAndRead(client: NbdClient, region: number, endMs: number): Promise<number> {
  const buffer = Buffer.alloc(REQUEST_SIZE)
  const offset = region * REQUEST_SIZE
  let bytes = 0
  for (let turn = 0; turn === 0 || performance.now() < endMs; turn++) {
    stamp(buffer, region, turn)
    await client.write(offset, [buffer])
    buffer.fill(0)
    await client.read(offset, buffer)
    stamp(expected, region, turn)
    if (!expected.equals(buffer)) throw new Error(`offset ${offset}: what was read is not what was written`)
    bytes += REQUEST_SIZE
  }
  return bytes
}

/** Shared by all regions: it is filled and compared without letting go of the thread. */
const expected = Buffer.alloc(REQUEST_SIZE)

/** Every 4 KiB block of every write is different. */
function stamp(buffer: Buffer, region: number, turn: number): void {
  for (let at = 0; at < buffer.length; at += STAMPED_SIZE)
    buffer.fill(`region ${region} turn ${turn} at ${at}; `, at, at + STAMPED_SIZE)
}
