/** Power cuts at every single write and flush of an operation, with every sector that was in flight new or old. */
import t from 'tap'
import { DeviceError } from '../../src/device/device.js'
import { FaultyDevice, type FaultRule } from '../support/faulty-device.js'
import { batchOf } from '../../src/remap/admin.js'
import { formatPair, Pair } from '../../src/remap/pair.js'
import { arrange } from '../../src/remap/rearrange.js'
import { HEADER_OFFSETS, HEADER_SIZE, PAGE_SIZE, SLOTS_PER_PAGE } from '../../src/spare/format.js'
import { silentLog } from '../../src/util/log.js'
import { Random } from '../../src/util/random.js'
import { mainBlock, MiB, SECTOR_SIZE, slotNumber } from '../../src/util/units.js'
import { CrashingDevice } from '../support/crashing-device.js'
import { asDisk, badSectors, onlySpare, pattern, POLICY, readFrom } from '../support/rig.js'

const BLOCK = 4096
const MAIN_SIZE = 32 * BLOCK
const CUTS_PER_POINT = 3

interface Disks {
  readonly main: CrashingDevice
  readonly spare: CrashingDevice
  readonly mainFaults: FaultyDevice
  readonly spareFaults: FaultyDevice
}

interface Images {
  readonly main: Buffer
  readonly spare: Buffer
}

function disksFrom(images: Images): Disks {
  const main = new CrashingDevice(images.main, 'main')
  const spare = new CrashingDevice(images.spare, 'spare')
  return { main, spare, mainFaults: new FaultyDevice(main), spareFaults: new FaultyDevice(spare) }
}

const openPair = ({ mainFaults, spareFaults }: Disks): Promise<Pair> =>
  Pair.open(
    { main: asDisk(mainFaults, 'main'), spares: [asDisk(spareFaults, 'spare')] },
    { policy: POLICY, acceptMain: false, emit: () => undefined, log: silentLog },
  )

/** A formatted pair, on which `prepare` was carried out, as it is after a clean stop. */
async function prepared(prepare: (pair: Pair, disks: Disks) => Promise<void>): Promise<Images> {
  const disks = disksFrom({ main: pattern(0, MAIN_SIZE), spare: Buffer.alloc(9 * MiB) })
  const asDisks = { main: asDisk(disks.main, 'main'), spares: [asDisk(disks.spare, 'spare')] }
  await formatPair(asDisks, { blockSize: BLOCK, force: false, log: silentLog })
  const pair = await openPair(disks)
  await prepare(pair, disks)
  await pair.close()
  return { main: disks.main.bytes, spare: disks.spare.bytes }
}

/**
 * Carries out `act` again and again, cutting the power one write later each time, until it gets through to its end.
 * `check` sees the pair opened from what survived.
 */
async function atEveryPoint(
  images: Images,
  act: (disks: Disks) => Promise<void>,
  check: (pair: Pair, where: string) => Promise<void>,
): Promise<number> {
  const random = new Random(process.env['SEED'] ?? 'crash')
  for (let point = 0; ; point++) {
    const run = { isDone: false }
    for (let cut = 0; cut < CUTS_PER_POINT; cut++) {
      const disks = disksFrom({ main: Buffer.from(images.main), spare: Buffer.from(images.spare) })
      disks.spare.stopAfter(point)
      const going = act(disks).then(() => {
        run.isDone = true
      })
      await Promise.race([disks.spare.stopped, going])
      const pair = await openPair(disksFrom({ main: disks.main.crash(random), spare: disks.spare.crash(random) }))
      await check(pair, `power cut at write ${point}, cut ${cut}${run.isDone ? ', done' : ''}`)
      if (run.isDone) return point
    }
  }
}

const badBlock = (block: number, operations: FaultRule['operations']): FaultRule =>
  badSectors(operations, (block * BLOCK) / SECTOR_SIZE, BLOCK / SECTOR_SIZE)

/** Writes `fill` into a block of main that cannot be written, so that it moves to the spare. */
async function remap(pair: Pair, disks: Disks, block: number, fill: number): Promise<void> {
  disks.mainFaults.add(badBlock(block, ['write']))
  await pair.target.write(block * BLOCK, [Buffer.alloc(BLOCK, fill)])
}

void t.test('a block that moves to the spare is there whole, or as it was', async (t) => {
  const images = await prepared(() => Promise.resolve())
  let isAcknowledged = false
  const points = await atEveryPoint(
    images,
    async (disks) => {
      isAcknowledged = false
      const pair = await openPair(disks)
      await remap(pair, disks, 5, 0xaa)
      isAcknowledged = true
    },
    async (pair, where) => {
      const seen = await readFrom(pair.target, 5 * BLOCK, BLOCK)
      const isNew = seen.equals(Buffer.alloc(BLOCK, 0xaa))
      const isOld = !isAcknowledged && seen.equals(pattern(5 * BLOCK, BLOCK))
      if (!isNew && !isOld) t.fail(where)
    },
  )
  t.ok(points > 10, `${points} points`)
})

void t.test(
  'a remapped block whose spare block fails keeps its content, even when slot pages get torn apart',
  async (t) => {
    const images = await prepared(async (pair, disks) => {
      await remap(pair, disks, 5, 0xaa)
      t.equal(pair.target.table.lookup(mainBlock(5)), 0)
    })
    await atEveryPoint(
      images,
      async (disks) => {
        const pair = await openPair(disks)
        // All other slots of the first page are taken, so that the new slot stands in another page.
        for (let slot = 1; slot < SLOTS_PER_PAGE; slot++) await onlySpare(pair.target).reserve(slotNumber(slot))
        const spare = onlySpare(pair.target)
        disks.spareFaults.add(badSectors(['write'], spare.dataOffset(slotNumber(0)) / SECTOR_SIZE))
        await pair.target.write(5 * BLOCK, [Buffer.alloc(1, 0xaa)])
        t.equal(pair.target.table.lookup(mainBlock(5)), SLOTS_PER_PAGE)
      },
      async (pair, where) => {
        const seen = await readFrom(pair.target, 5 * BLOCK, BLOCK)
        if (!seen.equals(Buffer.alloc(BLOCK, 0xaa))) t.fail(`${where}: the flushed content is gone`)
      },
    )
  },
)

void t.test('a block that an operator moves to another place of the spare keeps its content', async (t) => {
  const blocks = [5, 6]
  const sectors = BLOCK / SECTOR_SIZE
  const images = await prepared(async (pair, disks) => {
    for (const block of blocks) await remap(pair, disks, block, 0xa0 + block)
  })
  const points = await atEveryPoint(
    images,
    async (disks) => {
      const { target } = await openPair(disks)
      const [mainSector, spareSector] = [5 * sectors, SLOTS_PER_PAGE * sectors]
      const batch = batchOf(target, { mainSector, spareSector, sectors: 2 * sectors })
      t.same(await arrange(target, batch, POLICY), { added: 0, moved: 2 })
      t.equal(target.table.lookup(mainBlock(6)), SLOTS_PER_PAGE + 1)
    },
    async (pair, where) => {
      for (const block of blocks) {
        const seen = await readFrom(pair.target, block * BLOCK, BLOCK)
        if (!seen.equals(Buffer.alloc(BLOCK, 0xa0 + block))) t.fail(`${where}: the content of block ${block} is gone`)
      }
    },
  )
  t.ok(points > 5, `${points} points`)
})

void t.test('a lost sector is lost until the write that heals it is acknowledged', async (t) => {
  const images = await prepared(async (pair, disks) => {
    disks.mainFaults.add(badSectors(['read'], 42))
    await t.rejects(readFrom(pair.target, 42 * SECTOR_SIZE, SECTOR_SIZE), DeviceError)
  })
  let isAcknowledged = false
  await atEveryPoint(
    images,
    async (disks) => {
      isAcknowledged = false
      const pair = await openPair(disks)
      await pair.target.write(42 * SECTOR_SIZE, [Buffer.alloc(SECTOR_SIZE, 0xbb)])
      isAcknowledged = true
    },
    async (pair, where) => {
      const seen = await readFrom(pair.target, 42 * SECTOR_SIZE, SECTOR_SIZE).catch(() => undefined)
      const isNew = seen?.equals(Buffer.alloc(SECTOR_SIZE, 0xbb)) ?? false
      if (!isNew && (isAcknowledged || seen)) t.fail(`${where}: neither lost nor new`)
      if (!(await readFrom(pair.target, 41 * SECTOR_SIZE, SECTOR_SIZE)).equals(pattern(41 * SECTOR_SIZE, SECTOR_SIZE)))
        t.fail(`${where}: its neighbour changed`)
    },
  )
})

void t.test('a start with one intact header copy of five can be cut off anywhere', async (t) => {
  for (const survivor of HEADER_OFFSETS.keys()) {
    const images = await prepared((pair, disks) => remap(pair, disks, 5, 0xaa))
    for (const [copy, offset] of HEADER_OFFSETS.entries()) {
      if (copy !== survivor) images.spare.fill(0x55, offset, offset + HEADER_SIZE)
    }
    await atEveryPoint(
      images,
      async (disks) => {
        await openPair(disks)
      },
      async (pair, where) => {
        if ((await readFrom(pair.target, 5 * BLOCK, 1))[0] !== 0xaa) t.fail(`copy ${survivor}, ${where}`)
      },
    )
    t.pass(`copy ${survivor}`)
  }
})

void t.test('a start with one intact copy of a slot page can be cut off anywhere', async (t) => {
  for (const survivor of [0, 1]) {
    let tables: readonly number[] = []
    const images = await prepared(async (pair, disks) => {
      await remap(pair, disks, 5, 0xaa)
      tables = onlySpare(pair.target).geometry.slotTableOffsets
    })
    const destroyed = tables[1 - survivor]!
    images.spare.fill(0x55, destroyed + 100, destroyed + PAGE_SIZE)
    await atEveryPoint(
      images,
      async (disks) => {
        await openPair(disks)
      },
      async (pair, where) => {
        if ((await readFrom(pair.target, 5 * BLOCK, 1))[0] !== 0xaa) t.fail(`copy ${survivor}, ${where}`)
      },
    )
    t.pass(`copy ${survivor}`)
  }
})

void t.test(
  'a format that is cut off leaves a disk that is formatted or one that is not, never a broken one',
  async (t) => {
    const random = new Random(process.env['SEED'] ?? 'format')
    for (let point = 0, isDone = false; !isDone; point++) {
      const disks = disksFrom({ main: pattern(0, MAIN_SIZE), spare: Buffer.alloc(9 * MiB) })
      const asDisks = { main: asDisk(disks.main, 'main'), spares: [asDisk(disks.spare, 'spare')] }
      disks.spare.stopAfter(point)
      const going = formatPair(asDisks, { force: false, log: silentLog }).then(() => {
        isDone = true
      })
      await Promise.race([disks.spare.stopped, going])
      const after = disksFrom({ main: disks.main.bytes, spare: disks.spare.crash(random) })
      try {
        const pair = await openPair(after)
        t.equal(pair.target.table.count, 0)
      } catch (error) {
        t.notOk(isDone)
        t.match(String(error), /blank|not formatted|header copies is intact|when a format was cut off/)
      }
    }
  },
)
