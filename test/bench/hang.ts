/** How soon the control socket answers while a main disk behind NBD hangs (SIGSTOP) with requests in flight. */
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { StorageDaemon } from '../../qemu/index.js'
import { QmpClient } from '../../src/qmp/index.js'
import { MiB } from '../../src/util/units.js'
import { whileProbed } from './control-probe.js'
import { blankSpare } from './disks.js'
import { runFio } from './fio.js'
import { blankImage } from './images.js'
import type { Context, Load, Measured } from './job.js'
import { startNbdRemap, type BenchServer } from './servers.js'
import { percentile } from './summary.js'

const MAIN_SIZE = 64 * MiB
const LOAD: Load = { rw: 'randread', bs: '4k', iodepth: 32 }
const POLL_MS = 50
const IN_FLIGHT_TIMEOUT_MS = 20_000

interface Status {
  readonly clients: readonly { readonly 'requests-in-flight': number }[]
}

export async function measureHang({ directory, scope, seconds, signal, step }: Context): Promise<Measured> {
  step('starting the servers')
  const file = await blankImage(path.join(directory, 'main.img'), MAIN_SIZE)
  const daemon = scope.use(await StorageDaemon.start({ directory, disks: [{ name: 'main', file }] }))
  const server = scope.use(await startNbdRemap(directory, daemon.uri('main'), await blankSpare(directory)))
  // Else ending it in good order would wait for a process that does nothing.
  scope.defer(() => daemon.process.kill('SIGCONT'))
  const load = runFio({ load: LOAD, uri: server.uri, seconds: seconds + 1, seed: 1, directory })
  load.catch(() => undefined)
  await untilInFlight(server, 1)
  step('the main disk hangs')
  await daemon.process.kill('SIGSTOP')
  await untilInFlight(server, LOAD.iodepth)
  const { latenciesMs } = await whileProbed(server.controlPath, () => delay(seconds * 1000, undefined, { signal }))
  await untilInFlight(server, LOAD.iodepth)
  await daemon.process.kill('SIGCONT')
  const { requests } = await load
  return {
    value: percentile(latenciesMs, 99),
    controlLatenciesMs: latenciesMs,
    note: `${LOAD.iodepth} requests hung for ${seconds} s; of all ${requests} none failed`,
  }
}

/** Resolves when so many requests of clients wait for the disk. */
async function untilInFlight({ controlPath = '' }: BenchServer, countMin: number): Promise<void> {
  const deadlineMs = performance.now() + IN_FLIGHT_TIMEOUT_MS
  const client = await QmpClient.connect(controlPath)
  try {
    for (let count = -1; count < countMin;) {
      const { clients } = (await client.execute('query-status')) as Status
      count = clients.reduce((sum, status) => sum + status['requests-in-flight'], 0)
      await delay(POLL_MS)
      if (count < countMin && performance.now() > deadlineMs) throw new Error(`only ${count} requests are in flight`)
    }
  } finally {
    await client.close()
  }
}
