import t, { type Test } from 'tap'
import { FaultyDevice } from '../support/faulty-device.js'
import { MemoryDevice } from '../../src/device/memory.js'
import { growSpare, type Grown } from '../../src/remap/grow.js'
import { formatPair, Pair } from '../../src/remap/pair.js'
import { HEADER_AREA_SIZE, layOut, PAGE_SIZE, spareSizeMin } from '../../src/spare/format.js'
import { verifySpare } from '../../src/spare/verify.js'
import { silentLog } from '../../src/util/log.js'
import { GiB, MiB, mainBlock, SECTOR_SIZE } from '../../src/util/units.js'
import { CrashingDevice } from '../support/crashing-device.js'
import { seededRandom } from '../support/random.js'
import { asDisk, badSectors, onlySpare, pattern, POLICY, readFrom } from '../support/rig.js'

// Some seconds on a quiet machine.
t.setTimeout(600_000)

interface Shelf {
  readonly main: Buffer
  readonly spare: Buffer
  readonly blockSize: number
  /** Blocks with a remap, in the order of their slots. */
  readonly remapped: readonly number[]
}

const contentOf = (block: number, length: number): Buffer => Buffer.alloc(length, block + 1)

/** The smallest size with so many blocks. */
function sizeFor(blocks: number, blockSize: number): number {
  let size = spareSizeMin(blockSize)
  while ((layOut(MiB, size, blockSize)?.slots ?? 0) < blocks) size += PAGE_SIZE
  return size
}

/** A pair that was stopped, with a remap in each of the first `remaps` of its `slots` blocks. */
async function stopped(slots: number, remaps: number, blockSize: number): Promise<Shelf> {
  const mainSize = 200 * blockSize
  const main = new MemoryDevice(mainSize, 'main')
  const spare = new MemoryDevice(sizeFor(slots, blockSize), 'spare')
  pattern(0, mainSize).copy(main.bytes)
  const faulty = new FaultyDevice(main)
  const disks = { main: asDisk(faulty, 'main'), spares: [asDisk(spare, 'spare')] }
  await formatPair(disks, { blockSize, force: false, log: silentLog })
  const pair = await open(faulty, spare)
  const remapped = Array.from({ length: remaps }, (_, n) => (n * 7) % 200)
  for (const block of remapped) {
    faulty.add(badSectors(['write'], (block * blockSize) / SECTOR_SIZE, blockSize / SECTOR_SIZE))
    await pair.target.write(block * blockSize, [contentOf(block, blockSize)])
  }
  await pair.close()
  return { main: main.bytes, spare: spare.bytes, blockSize, remapped }
}

const open = (main: FaultyDevice | MemoryDevice, spare: MemoryDevice): Promise<Pair> =>
  Pair.open(
    { main: asDisk(main, 'main'), spares: [asDisk(spare, 'spare')] },
    { policy: POLICY, acceptMain: false, emit: () => undefined, log: silentLog },
  )

/** That every block is what it was. @returns the number of blocks of the spare */
async function check(t: Test, shelf: Shelf, image: Buffer, where: string): Promise<number> {
  const { blockSize, remapped } = shelf
  const pair = await open(memory('main', shelf.main), memory('spare', image))
  if (pair.target.table.count !== remapped.length) t.fail(`${where}: ${pair.target.table.count} remaps`)
  for (const block of remapped) {
    const seen = await readFrom(pair.target, block * blockSize, blockSize)
    if (!seen.equals(contentOf(block, blockSize))) t.fail(`${where}: block ${block} is not what was written`)
  }
  return onlySpare(pair.target).geometry.slots
}

function memory(name: string, content: Buffer): MemoryDevice {
  const device = new MemoryDevice(content.length, name)
  content.copy(device.bytes)
  return device
}

const grownBy = (image: Buffer, bytes: number): Buffer => Buffer.concat([image, Buffer.alloc(bytes)])

const shapes: { name: string; slots: number; remaps: number; blockSize: number; growth: number; moved: number }[] = [
  { name: 'as long a table', slots: 20, remaps: 5, blockSize: 4096, growth: 64 * 4096, moved: 0 },
  { name: 'a longer table, and room before', slots: 160, remaps: 20, blockSize: 4096, growth: 64 * 4096, moved: 1 },
  { name: 'a longer table, and no room before', slots: 24, remaps: 24, blockSize: 512, growth: 256 * 512, moved: 8 },
]

for (const { name, growth, moved, ...shape } of shapes) {
  void t.test(`a spare grows to ${name}, wherever the power is cut`, async (t) => {
    const random = seededRandom(t)
    const shelf = await stopped(shape.slots, shape.remaps, shape.blockSize)
    const { blockSize } = shelf
    const before = layOut(200 * blockSize, shelf.spare.length, blockSize)!.slots
    const after = layOut(200 * blockSize, shelf.spare.length + growth, blockSize)!.slots
    const sizes = new Set<number>()
    for (let point = 0; ; point++) {
      const device = new CrashingDevice(grownBy(shelf.spare, growth), 'spare')
      device.stopAfter(point)
      const run: { grown?: Grown } = {}
      const growing = growSpare(device, silentLog).then((grown) => {
        run.grown = grown
      })
      await Promise.race([device.stopped, growing])
      const image = device.crash(random)
      const where = `power cut at write ${point}`
      sizes.add(await check(t, shelf, image, where))
      const again = memory('spare', image)
      await growSpare(again, silentLog)
      t.equal(await check(t, shelf, again.bytes, `${where}, and grown again`), after)
      t.same((await verifySpare(again)).problems, [], 'and nothing is left to be repaired')
      if (!run.grown) continue
      t.same(run.grown, { blocksBefore: before, blocks: after, movedBlocks: moved, lostSectors: 0 })
      t.ok(point > 15, `${point} points`)
      break
    }
    t.same(
      [...sizes].sort((a, b) => a - b),
      [before, after],
      'the old state or the new one',
    )
  })
}

void t.test('blocks that cannot be read when they move are lost in those sectors, and nothing else', async (t) => {
  const shelf = await stopped(160, 20, 4096)
  const device = memory('spare', grownBy(shelf.spare, 64 * 4096))
  const faulty = new FaultyDevice(device)
  const { dataOffset } = layOut(200 * 4096, shelf.spare.length, 4096)!
  faulty.add(badSectors(['read'], dataOffset / SECTOR_SIZE + 3))
  t.match(await growSpare(faulty, silentLog), { movedBlocks: 1, lostSectors: 1 })
  const pair = await open(memory('main', shelf.main), device)
  const slot = pair.target.table.lookup(mainBlock(0))!
  t.equal(pair.target.pool.get(slot).lostMask, 1n << 3n)
  await t.rejects(readFrom(pair.target, 0, 4096), { code: 'EIO' })
  t.ok((await readFrom(pair.target, 0, 3 * SECTOR_SIZE)).equals(contentOf(0, 3 * SECTOR_SIZE)))
})

void t.test('what cannot grow is refused, and not written to', async (t) => {
  const shelf = await stopped(160, 20, 4096)
  const refuses = async (device: MemoryDevice, message: RegExp): Promise<void> => {
    const before = Buffer.from(device.bytes)
    await t.rejects(growSpare(device, silentLog), { name: 'RefusedError', message })
    t.ok(device.bytes.equals(before))
  }
  const little = memory('spare', grownBy((await stopped(180, 2, 4096)).spare, 4096))
  await refuses(little, /has grown by too little: from \d+ bytes it can grow to \d+ or more, and it has \d+/)
  const served = memory('spare', grownBy(shelf.spare, MiB))
  await open(memory('main', shelf.main), served)
  await refuses(served, /was not stopped in good order/)
  await refuses(memory('spare', Buffer.alloc(9 * MiB)), /is blank/)
  const same = memory('spare', shelf.spare)
  t.match(await growSpare(same, silentLog), { movedBlocks: 0 }, 'one that has not grown stays as it is')
  t.ok(same.bytes.equals(shelf.spare))
})

void t.test('metadata takes 2 % of a spare at most, beside the headers, from blocks of 4096 bytes on', (t) => {
  for (const blockSize of [4096, 8192, 32_768]) {
    for (const size of [64 * MiB, GiB, 10 * GiB, 1024 * GiB]) {
      const { slots } = layOut(GiB, size, blockSize)!
      const metadata = size - slots * blockSize
      t.ok(metadata <= HEADER_AREA_SIZE + 0.02 * size, `${blockSize} in ${size}: ${metadata} bytes`)
    }
  }
  t.end()
})
