/**
 * What the next worker does while it waits for its turn: it opens a pair of disks in memory, as it is going to open
 * the real ones. Node.js compiles code when it first runs, which is most of what a takeover costs.
 */
import { findContent } from '../spare/blank.js'
import { MemoryDevice } from '../device/memory.js'
import type { OpenedDisk } from '../device/open.js'
import { formatPair, Pair } from '../remap/pair.js'
import { READ_POLICY_DEFAULT } from '../remap/policy.js'
import { silentLog } from '../util/log.js'
import { KiB, MiB } from '../util/units.js'

/** Enough for the functions that matter to be compiled with all that V8 has. */
const TIMES = 3

export async function rehearse(): Promise<void> {
  const disks = { main: memoryDisk('main', MiB), spares: [memoryDisk('spare', 9 * MiB)] }
  await formatPair(disks, { force: false, log: silentLog })
  for (let time = 0; time < TIMES; time++) {
    for (const { device } of disks.spares) await findContent(device)
    const pair = await Pair.open(disks, {
      policy: READ_POLICY_DEFAULT,
      acceptMain: false,
      emit: () => undefined,
      log: silentLog,
    })
    await pair.target.write(0, [Buffer.alloc(4 * KiB, 1)])
    await pair.target.read(0, Buffer.alloc(4 * KiB))
    await pair.close()
  }
}

const memoryDisk = (name: string, size: number): OpenedDisk => ({
  device: new MemoryDevice(size, name),
  identity: { id: name, location: name },
  sameness: name,
})
