/** What the remap table costs: lookups, pauses and memory in this process, requests and batches with a server. */
import { writeSync } from 'node:fs'
import { mkdir, open } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { QmpClient } from '../../src/qmp/index.js'
import { RemapTable } from '../../src/remap/table.js'
import { SlotRecords } from '../../src/spare/slot-records.js'
import { Random } from '../../src/util/random.js'
import { scheduling } from '../../src/util/scheduling.js'
import { KiB, mainBlock, MiB, slotNumber } from '../../src/util/units.js'
import { runFio } from './fio.js'
import { writeBack } from './images.js'
import type { BoundJob, Context, Load, Measured } from './job.js'
import { startNbdRemap, type BenchServer } from './servers.js'
import { median } from './summary.js'

const BLOCK = 4 * KiB
const PROBES = 1_000_000
const LOOKUP_RUNS = 7
const PAUSE_RUNS = 3
/** Enough for the compiler to be done: its work is not the table's. */
const WARM_UP_REMAPS = 300_000
const REMAPS_PER_LOOK = 64
const MANY = 1_000_000
/** What fio reads and writes. */
const LOADED_SIZE = 256 * MiB
const ROUNDS = 5
/** Many short runs that take turns tell more of a few percent than few long ones. */
const LOSS_SECONDS_MAX = 2
const WARM_UP_SECONDS_MAX = 1

const LOOKUP_GOALS_NS = new Map([
  [64, 50],
  [1000, 50],
  [100_000, 80],
  [1_000_000, 120],
  [10_000_000, 200],
])
const PAUSE_GOAL_MS = 1

const thousands = (n: number): string => n.toLocaleString('en-US')

/** Neither all neighbours nor evenly spread, as bad blocks are. */
const blockOf = (n: number): number => n * 7 + ((n * 2654435761) >>> 29)

/** A clock that stands still while the thread waits for a processor: neighbours make nothing here slower. */
const ownMs = (): number => performance.now() - (scheduling()?.queuedMs ?? 0)

interface Filled {
  readonly table: RemapTable
  readonly records: SlotRecords
}

function newTable(count: number): Filled {
  const records = new SlotRecords()
  return { records, table: new RemapTable(blockOf(count), records) }
}

const record = { state: 'remapped' as const, mainBlock: mainBlock(0), generation: 0, lostMask: 0n }

function add({ table, records }: Filled, n: number): void {
  const block = mainBlock(blockOf(n))
  const slot = slotNumber(n)
  // One object for all: else it would be the pauses of the garbage collector that are measured.
  record.mainBlock = block
  record.generation = n
  records.put(slot, record)
  table.set(block, slot)
}

function fill(filled: Filled, count: number): Filled {
  for (let n = 0; n < count; n++) add(filled, n)
  while (filled.table.resizeStep(1e6));
  return filled
}

function measureLookup(count: number): Measured {
  const { table } = fill(newTable(count), count)
  const random = new Random('lookup')
  const probes = Float64Array.from({ length: PROBES }, () => blockOf(random.below(count)))
  const runs = Array.from({ length: LOOKUP_RUNS }, () => {
    const begin = ownMs()
    let found = 0
    for (const probe of probes) if (table.lookup(mainBlock(probe)) !== undefined) found++
    if (found !== PROBES) throw new Error('a remap was not found')
    return ((ownMs() - begin) * 1e6) / PROBES
  })
  const range = `${Math.min(...runs).toFixed(0)} to ${Math.max(...runs).toFixed(0)} ns in ${LOOKUP_RUNS} runs`
  return { value: median(runs), controlLatenciesMs: [], note: `${range}; ${thousands(table.buckets)} buckets` }
}

/**
 * How long one remap more, with its share of the resize, keeps everybody else waiting: the most processor time that a few of them
 * took, of this thread and of the compiler's and the garbage collector's, whatever they did meanwhile. Time on a clock would have
 * in it how long the threads waited for a processor, and for each other while one of them did.
 */
function measurePause(count: number): Measured {
  longestPauseMs(WARM_UP_REMAPS)
  const longest = Array.from({ length: PAUSE_RUNS }, () => longestPauseMs(count))
  const note = `${REMAPS_PER_LOOK} of them together; ${longest.map((ms) => ms.toFixed(2)).join(', ')} ms in ${PAUSE_RUNS} runs`
  return { value: median(longest), controlLatenciesMs: [], note }
}

function longestPauseMs(count: number): number {
  const filled = newTable(count)
  let max = 0
  for (let n = 0; n < count;) {
    const before = process.cpuUsage()
    for (const end = Math.min(n + REMAPS_PER_LOOK, count); n < end; n++) add(filled, n)
    const { user, system } = process.cpuUsage(before)
    max = Math.max(max, (user + system) / 1000)
  }
  return max
}

async function measureMemory(): Promise<Measured> {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const used = async (): Promise<number> => {
    // What earlier jobs have left is freed bit by bit.
    for (let n = 0; n < 5; n++) {
      collect()
      await delay(20)
    }
    const { heapUsed, arrayBuffers } = process.memoryUsage()
    return heapUsed + arrayBuffers
  }
  const before = await used()
  const filled = fill(newTable(MANY), MANY)
  const bytes = (await used()) - before
  const counted = filled.records.bytes + filled.table.bytes
  return {
    value: bytes / MANY,
    controlLatenciesMs: [],
    note: `${(bytes / MiB).toFixed(1)} MiB for ${thousands(filled.table.count)} remaps, ${(counted / MiB).toFixed(1)} MiB of them in arrays`,
  }
}

// --- With servers ----------------------------------------------------------------------------------------------------

interface Started {
  readonly server: BenchServer
  /** Of its disks. */
  readonly files: readonly string[]
}

/** A server whose first 256 MiB have content, and are followed by room for a million blocks without any. */
async function startServer({ directory, scope }: Context, name: string): Promise<Started> {
  const main = path.join(directory, `${name}.img`)
  const handle = await open(main, 'wx')
  const content = new Random('content').bytes(MiB)
  writeBlocks(handle.fd, content, LOADED_SIZE)
  await handle.truncate(LOADED_SIZE + MANY * BLOCK)
  await handle.close()
  const spare = path.join(directory, `${name}-spare.img`)
  const empty = await open(spare, 'wx')
  // Zeros leave it blank, and what is copied there does not become large folios.
  writeBlocks(empty.fd, Buffer.alloc(MiB), LOADED_SIZE + 64 * MiB)
  await empty.truncate(LOADED_SIZE + MANY * BLOCK + 128 * MiB)
  await empty.close()
  const folder = path.join(directory, name)
  await mkdir(folder)
  return { server: scope.use(await startNbdRemap(folder, main, spare)), files: [main, spare] }
}

/** Block by block, see `writeImage`. */
function writeBlocks(fd: number, content: Buffer, size: number): void {
  for (let offset = 0; offset < size; offset += BLOCK) writeSync(fd, content, offset % MiB, BLOCK, offset)
}

async function ask(
  { controlPath = '' }: BenchServer,
  command: string,
  args: Record<string, unknown>,
): Promise<unknown> {
  const client = await QmpClient.connect(controlPath)
  try {
    return await client.execute(command, args, { timeoutMs: 600_000 })
  } finally {
    await client.close()
  }
}

const remapLoaded = { 'main-sector': 0, sectors: LOADED_SIZE / 512 }
const remapMany = { 'main-sector': LOADED_SIZE / 512, sectors: (MANY * BLOCK) / 512, copy: false }

async function measureBatch(context: Context): Promise<Measured> {
  const { server } = await startServer(context, 'batch')
  context.step('remapping')
  const begin = performance.now()
  await ask(server, 'remap-add', remapMany)
  const seconds = (performance.now() - begin) / 1000
  const copying = performance.now()
  await ask(server, 'remap-add', remapLoaded)
  const copied = (performance.now() - copying) / 1000
  const blocks = thousands(LOADED_SIZE / BLOCK)
  return {
    value: seconds,
    controlLatenciesMs: [],
    note: `${blocks} more with their content took ${copied.toFixed(2)} s`,
  }
}

/** How much less a server does with remaps than without, in percent: medians of rounds in which they take turns. */
async function measureLoss(context: Context, load: Load, remaps: Record<string, unknown>): Promise<Measured> {
  const plain = await startServer(context, 'plain')
  const remapped = await startServer(context, 'remapped')
  context.step('remapping')
  await ask(remapped.server, 'remap-add', remaps)
  const ratios: number[] = []
  for (let round = 0; round <= ROUNDS; round++) {
    context.step(round === 0 ? 'warm-up' : `round ${round} of ${ROUNDS}`)
    const speeds = new Map<Started, number>()
    for (const started of round % 2 === 0 ? [plain, remapped] : [remapped, plain]) {
      const seconds = Math.min(context.seconds, round === 0 ? WARM_UP_SECONDS_MAX : LOSS_SECONDS_MAX)
      const options = { seconds, seed: round + 1, directory: context.directory }
      const limited = { ...load, size: `${LOADED_SIZE / MiB}m` }
      const { requestsPerSecond } = await runFio({ load: limited, uri: started.server.uri, ...options })
      speeds.set(started, requestsPerSecond)
      for (const file of started.files) await writeBack(file)
    }
    if (round > 0) ratios.push((speeds.get(remapped) ?? NaN) / (speeds.get(plain) ?? NaN))
  }
  const note = `of the requests per second, in the rounds ${ratios.map((ratio) => ratio.toFixed(3)).join(', ')}`
  return { value: Math.max(0, 100 * (1 - median(ratios))), controlLatenciesMs: [], note }
}

const micro = (name: string, title: string, unit: string, goal: number, measure: BoundJob['measure']): BoundJob => ({
  kind: 'micro',
  name,
  title,
  unit,
  goal,
  measure,
})

const READ: Load = { rw: 'randread', bs: '4k', iodepth: 32 }
const WRITE: Load = { rw: 'randwrite', bs: '4k', iodepth: 32 }
const LONG: Load = { rw: 'read', bs: '256k', iodepth: 16 }

export const REMAP_JOBS: readonly BoundJob[] = [
  ...[...LOOKUP_GOALS_NS].map(([count, goal]) =>
    micro(`lookup-${count}`, `Lookup, ${thousands(count)} remaps`, 'ns', goal, () =>
      Promise.resolve(measureLookup(count)),
    ),
  ),
  ...[...LOOKUP_GOALS_NS.keys()].map((count) =>
    micro(`pause-${count}`, `Longest pause, growing to ${thousands(count)} remaps`, 'ms', PAUSE_GOAL_MS, () =>
      Promise.resolve(measurePause(count)),
    ),
  ),
  micro('remap-memory', 'Memory for each of 1,000,000 remaps', 'bytes', 24, measureMemory),
  micro('remap-batch', '1,000,000 remaps in one batch, durable', 's', 10, measureBatch),
  micro('untouched-read', '4 KiB random read, 1,000,000 remaps elsewhere: loss', '%', 3, (context) =>
    measureLoss(context, READ, remapMany),
  ),
  micro('untouched-write', '4 KiB random write, 1,000,000 remaps elsewhere: loss', '%', 3, (context) =>
    measureLoss(context, WRITE, remapMany),
  ),
  micro('remapped-read', '4 KiB random read, all remapped: loss', '%', 5, (context) =>
    measureLoss(context, READ, remapLoaded),
  ),
  micro('remapped-write', '4 KiB random write, all remapped: loss', '%', 5, (context) =>
    measureLoss(context, WRITE, remapLoaded),
  ),
  micro('remapped-long-read', '256 KiB read, all remapped: loss', '%', 5, (context) =>
    measureLoss(context, LONG, remapLoaded),
  ),
]
