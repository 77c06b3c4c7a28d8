/** An `NbdServer` on a socket of its own for one test. */

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { RawClient } from '../../src/conformance/raw-client.js'
import { NbdServer, type NbdServerOptions } from '../../src/server/server.js'
import type { Log } from '../../src/util/log.js'
import { MiB } from '../../src/util/units.js'
import { MemoryDevice } from './memory-device.js'

/** Removed when the test ends. Short enough for a unix socket. */
export async function temporaryDirectory(t: Test): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'nbd-'))
  t.teardown(() => rm(directory, { recursive: true }))
  return directory
}

/** Collects lines instead of printing them. */
export function recordingLog(): { log: Log; lines: string[] } {
  const lines: string[] = []
  const at = (level: string) => (message: string) => void lines.push(`${level} ${message}`)
  return { log: { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }, lines }
}

export interface Served {
  readonly server: NbdServer
  readonly device: MemoryDevice
  readonly path: string
  readonly lines: readonly string[]
  readonly connect: () => Promise<RawClient>
}

export async function serve(t: Test, options: Partial<NbdServerOptions> = {}, size = MiB): Promise<Served> {
  const device = new MemoryDevice(size)
  const { log, lines } = recordingLog()
  const exports = [{ name: 'main', description: 'the disk', device, readOnly: false }]
  const server = new NbdServer({ exports, log, ...options })
  const path = join(await temporaryDirectory(t), 's')
  await server.listen({ path })
  t.teardown(() => server.close())
  const connect = async (): Promise<RawClient> => {
    const client = await RawClient.connect(path)
    t.teardown(() => {
      client.socket.destroy()
    })
    return client
  }
  return { server, device, path, lines, connect }
}

/** Turns of the event loop until `condition` holds; the test's own timeout is the deadline. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve))
}
