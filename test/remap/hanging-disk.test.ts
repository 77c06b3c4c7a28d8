/**
 * Random requests over a main disk that hangs now and then, and works off late what was given up, in any order. Against
 * a map of sectors: what was acknowledged is read, and what failed reads as before or after, and stays like that once it
 * is answered.
 */
import t from 'tap'
import { DeadlineDevice } from '../../src/device/deadline.js'
import { DeviceError } from '../../src/device/device.js'
import { MemoryDevice as Plain } from '../../src/device/memory.js'
import { formatPair, Pair } from '../../src/remap/pair.js'
import { silentLog } from '../../src/util/log.js'
import { MiB, SECTOR_SIZE } from '../../src/util/units.js'
import { MemoryDevice } from '../support/memory-device.js'
import { seededRandom } from '../support/random.js'
import { asDisk, POLICY } from '../support/rig.js'

const SECTORS = 256
const STEPS = 250
const TIMEOUT_MS = 3

for (const onTimeout of ['eio', 'remap'] as const) {
  void t.test(`late answers of a disk that hangs undo nothing, with --on-timeout ${onTimeout}`, async (t) => {
    const random = seededRandom(t)
    const disk = new MemoryDevice(SECTORS * SECTOR_SIZE)
    let waiting: (() => void)[] = []
    let hangs = 0
    disk.before = () => {
      if (random.below(100) >= hangs) return
      return new Promise((resolve) => waiting.push(resolve))
    }
    const main = new DeadlineDevice(disk, { timeoutMs: TIMEOUT_MS, onTimeout })
    const disks = { main: asDisk(main, 'main'), spares: [asDisk(new Plain(9 * MiB), 'spare')] }
    await formatPair(disks, { blockSize: 1024, force: false, log: silentLog })
    const { target } = await Pair.open(disks, {
      policy: POLICY,
      acceptMain: false,
      emit: () => undefined,
      log: silentLog,
    })
    /** What a sector may hold, by its first byte. */
    const model = Array.from({ length: SECTORS }, () => new Set([0]))
    let [failed, late] = [0, 0]

    const release = (share: number): void => {
      const [go, stay] = [[] as (() => void)[], [] as (() => void)[]]
      for (const answer of waiting) (random.below(100) < share ? go : stay).push(answer)
      waiting = stay
      for (const answer of go.sort(() => random.below(3) - 1)) answer()
    }
    const write = async (sector: number, count: number, value: number): Promise<void> => {
      const sectors = model.slice(sector, sector + count)
      for (const held of sectors) held.add(value)
      try {
        await target.write(sector * SECTOR_SIZE, [Buffer.alloc(count * SECTOR_SIZE, value)])
        for (const held of sectors) {
          held.clear()
          held.add(value)
        }
      } catch (error) {
        if (!(error instanceof DeviceError)) throw error
        failed++
      }
    }
    const read = async (sector: number, count: number): Promise<void> => {
      const into = Buffer.alloc(count * SECTOR_SIZE)
      try {
        await target.read(sector * SECTOR_SIZE, into)
      } catch (error) {
        if (!(error instanceof DeviceError)) throw error
        failed++
        return
      }
      for (let n = 0; n < count; n++) {
        const part = into.subarray(n * SECTOR_SIZE, (n + 1) * SECTOR_SIZE)
        const [value = -1] = part
        const isOne = part.equals(Buffer.alloc(SECTOR_SIZE, value))
        if (!isOne || !model[sector + n]?.has(value)) throw new Error(`sector ${sector + n} reads ${value}`)
      }
    }
    for (let step = 1; step <= STEPS; step++) {
      if (random.below(10) === 0) hangs = random.pick([0, 0, 20, 60])
      const requests: Promise<void>[] = []
      for (let n = 0, sector = 0; n < 4 && sector < SECTORS - 1; n++) {
        const first = sector + random.below(SECTORS - sector - 1)
        const count = 1 + random.below(Math.min(12, SECTORS - first))
        requests.push(random.below(2) === 0 ? write(first, count, 1 + (step % 255)) : read(first, count))
        sector = first + count + 1
      }
      await Promise.all(requests)
      late = Math.max(late, main.late)
      release(random.pick([0, 30, 100]))
      await new Promise((resolve) => setImmediate(resolve))
    }
    hangs = 0
    while (main.late > 0) {
      release(100)
      await new Promise((resolve) => setImmediate(resolve))
    }
    for (let sector = 0; sector < SECTORS; sector++) await read(sector, 1)
    t.ok(failed > 0, `${failed} requests failed, up to ${late} were late at a time`)
    t.equal(target.table.count > 0, onTimeout === 'remap')
    await target.close()
  })
}
