/**
 * Random requests over a pool whose first spare hangs now and then, and works off late what was given up, in any order.
 * Against a map of sectors: what was acknowledged is read, and what failed reads as before or after; also by the next server,
 * if the power is cut while anything is on its way.
 */
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import { DeadlineDevice } from '../../src/device/deadline.js'
import { DeviceError, type Completion, type Device } from '../../src/device/device.js'
import { FaultyDevice } from '../support/faulty-device.js'
import { MemoryDevice } from '../../src/device/memory.js'
import { addRemaps, batchOf, clearRemaps } from '../../src/remap/admin.js'
import { RemapRequestError } from '../../src/remap/batch.js'
import type { PairDisks } from '../../src/remap/pair-disks.js'
import { formatPair, Pair } from '../../src/remap/pair.js'
import type { RemapTarget } from '../../src/remap/target.js'
import { silentLog } from '../../src/util/log.js'
import { MiB, SECTOR_SIZE } from '../../src/util/units.js'
import { HangingDevice } from '../support/hanging-device.js'
import { seededRandom } from '../support/random.js'
import { asDisk, badSectors, POLICY } from '../support/rig.js'

const SECTORS = 128
const STEPS = 150
const CUT_EVERY = 10
const TIMEOUT_MS = 3
const SPARE_SIZE = 9 * MiB
/** Room for a few blocks, so that the spare that hangs is needed. */
const SMALL_SPARE_SIZE = 8 * MiB + 2 * 4096 + 12 * 1024

const open = async (disks: PairDisks): Promise<Pair> =>
  Pair.open(disks, { policy: POLICY, acceptMain: false, emit: () => undefined, log: silentLog })

async function failureOf(request: () => Completion): Promise<boolean> {
  try {
    await request()
    return false
  } catch (error) {
    if (error instanceof DeviceError) return true
    throw error
  }
}

/** What a sector may hold, by its first byte. */
class Model {
  readonly #values: readonly Set<number>[]

  constructor(values: readonly ReadonlySet<number>[] = Array.from({ length: SECTORS }, () => new Set([0]))) {
    this.#values = values.map((held) => new Set(held))
  }

  /** As it is now. */
  copy(): Model {
    return new Model(this.#values)
  }

  begin(sector: number, count: number, value: number): void {
    for (const held of this.#values.slice(sector, sector + count)) held.add(value)
  }

  acknowledged(sector: number, count: number, value: number): void {
    for (const held of this.#values.slice(sector, sector + count)) {
      held.clear()
      held.add(value)
    }
  }

  check(sector: number, seen: Buffer, when: string): void {
    for (let n = 0; n * SECTOR_SIZE < seen.length; n++) {
      const part = seen.subarray(n * SECTOR_SIZE, (n + 1) * SECTOR_SIZE)
      const [value = -1] = part
      const isOne = part.equals(Buffer.alloc(SECTOR_SIZE, value))
      if (!isOne || !this.#values[sector + n]?.has(value))
        throw new Error(`${when}: sector ${sector + n} reads ${value}`)
    }
  }
}

const copied = (bytes: Buffer, name: string): Device => {
  const memory = new MemoryDevice(bytes.length, name)
  bytes.copy(memory.bytes)
  return memory
}

void t.test('late answers of a spare that hangs undo nothing', async (t) => {
  const random = seededRandom(t)
  const mainMemory = new MemoryDevice(SECTORS * SECTOR_SIZE, 'main')
  const main = new FaultyDevice(mainMemory)
  const slow = new HangingDevice(SPARE_SIZE, 'slow')
  const good = new MemoryDevice(SMALL_SPARE_SIZE, 'good')
  const guarded = new DeadlineDevice(slow, { timeoutMs: TIMEOUT_MS, onTimeout: 'eio' })
  const disks = { main: asDisk(main, 'main'), spares: [asDisk(guarded, 'slow'), asDisk(good, 'good')] }
  await formatPair(disks, { blockSize: 1024, force: false, log: silentLog })
  const pair = await open(disks)
  const { target } = pair
  const model = new Model()
  const count = { failed: 0, late: 0, cuts: 0, remaps: 0 }
  let hangs = 0
  slow.hangs = () => random.below(100) < hangs

  const write = async (sector: number, sectors: number, value: number): Promise<void> => {
    model.begin(sector, sectors, value)
    const data = Buffer.alloc(sectors * SECTOR_SIZE, value)
    const fua = random.below(4) === 0
    if (await failureOf(() => target.write(sector * SECTOR_SIZE, [data], { fua }))) count.failed++
    else model.acknowledged(sector, sectors, value)
  }
  const read = async (from: RemapTarget, sector: number, sectors: number, when: string): Promise<void> => {
    const into = Buffer.alloc(sectors * SECTOR_SIZE)
    if (await failureOf(() => from.read(sector * SECTOR_SIZE, into))) count.failed++
    else model.check(sector, into, when)
  }
  /** What a server finds that starts after a power cut at this moment, without a disk that hangs. */
  const checkCut = async (when: string): Promise<void> => {
    const bytes = { main: mainMemory.bytes, slow: slow.cut(random), good: good.bytes }
    const expected = model.copy()
    const after = await open({
      main: asDisk(copied(bytes.main, 'main'), 'main'),
      spares: [asDisk(copied(bytes.slow, 'slow'), 'slow'), asDisk(copied(bytes.good, 'good'), 'good')],
    })
    const into = Buffer.alloc(SECTORS * SECTOR_SIZE)
    await after.target.read(0, into)
    expected.check(0, into, `${when}, after a power cut`)
    await after.close()
    count.cuts++
  }
  const administer = async (): Promise<void> => {
    const mainSector = random.below(SECTORS - 8)
    const batch = batchOf(target, { mainSector, sectors: random.between(1, 8) })
    const done = random.below(2) === 0 ? clearRemaps(target) : addRemaps(target, batch, OPTIONS)
    await done.catch((error: unknown) => {
      if (!(error instanceof RemapRequestError)) throw error
    })
  }
  const OPTIONS = { copy: true, skipRemapped: true, policy: POLICY }

  for (let step = 1; step <= STEPS; step++) {
    if (random.below(6) === 0) hangs = random.pick([0, 0, 30, 100])
    if (random.below(8) === 0) main.clear()
    else main.add(badSectors(['write'], random.below(SECTORS), random.between(1, 6)))
    const requests: Promise<unknown>[] = []
    for (let n = 0, sector = 0; n < 4 && sector < SECTORS - 1; n++) {
      const first = sector + random.below(SECTORS - sector - 1)
      const sectors = 1 + random.below(Math.min(8, SECTORS - first))
      const isWrite = random.below(3) > 0
      requests.push(isWrite ? write(first, sectors, 1 + (step % 255)) : read(target, first, sectors, `step ${step}`))
      sector = first + sectors + 1
    }
    if (random.below(6) === 0) requests.push(failureOf(() => target.flush()))
    if (random.below(12) === 0) requests.push(administer())
    if (step % CUT_EVERY === 0) await checkCut(`step ${step}`)
    await Promise.all(requests)
    if (step % CUT_EVERY === 5) await checkCut(`after step ${step}`)
    count.late = Math.max(count.late, guarded.late)
    const share = random.pick([0, 30, 100])
    slow.answer(random, () => random.below(100) < share)
    await turn()
  }
  hangs = 0
  while (guarded.late > 0) {
    slow.answer(random)
    await turn()
  }
  for (let sector = 0; sector < SECTORS; sector++) await read(target, sector, 1, 'in the end')
  count.remaps = target.table.count
  await target.flush()
  await pair.close()
  await checkCut('after a clean stop')
  t.comment(JSON.stringify(count))
  t.ok(count.failed > 0 && count.late > 0 && count.remaps > 0, `SEED=${random.seed}`)
})
