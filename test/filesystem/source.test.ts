/** Reading a disk of which some cannot be read. */
import t from 'tap'
import { partOf, PatchyDisk, UNREADABLE_SECTORS_MAX } from '../../src/filesystem/source.js'
import { RangeSet } from '../../src/util/range-set.js'
import { MiB, SECTOR_SIZE } from '../../src/util/units.js'
import { pattern } from '../support/cli.js'
import { seededRandom } from '../support/random.js'

/** @param bad sectors that fail */
function patchy(data: Buffer, bad: readonly number[], missing = new RangeSet()) {
  const asked: (readonly [offset: number, length: number])[] = []
  const disk = new PatchyDisk(data.length, missing, (offset, length) => {
    asked.push([offset, length])
    const fails = bad.some((sector) => sector * SECTOR_SIZE < offset + length && (sector + 1) * SECTOR_SIZE > offset)
    return Promise.resolve(fails ? undefined : Buffer.from(data.subarray(offset, offset + length)))
  })
  return { disk, asked }
}

void t.test('what can be read is as it is, what cannot is zeros, and the answer says which', async (t) => {
  const random = seededRandom(t)
  const data = pattern(64 * SECTOR_SIZE)
  for (let round = 0; round < 300; round++) {
    const bad = random.sample(random.below(4), 64)
    const gone = random.sample(random.below(4), 64).sort((a, b) => a - b)
    const missing = RangeSet.of(...gone.map((n): [number, number] => [n * SECTOR_SIZE, (n + 1) * SECTOR_SIZE]))
    const { disk } = patchy(data, bad, missing)
    const offset = random.below(data.length)
    const length = random.below(data.length - offset + 1000)
    const expected = Buffer.alloc(length)
    data.copy(expected, 0, offset, offset + length)
    let isWhole = offset + length <= data.length
    for (const sector of [...bad, ...gone]) {
      const [start, end] = [sector * SECTOR_SIZE - offset, (sector + 1) * SECTOR_SIZE - offset]
      if (start >= length || end <= 0) continue
      expected.fill(0, Math.max(0, start), Math.min(length, end))
      isWhole = false
    }
    const read = await disk.read(offset, length)
    if (!read.data.equals(expected) || read.isWhole !== isWhole) t.fail(`SEED=${random.seed} round ${round}`)
  }
  t.pass('300 rounds')
})

void t.test(
  'what is known to be missing is not asked for, and what failed is counted once and not asked again',
  async (t) => {
    const { disk, asked } = patchy(pattern(MiB), [9], RangeSet.of([512, 1024]))
    await disk.read(0, 8192)
    t.ok(asked.every(([offset, length]) => offset >= 1024 || offset + length <= 512))
    asked.length = 0
    t.equal(disk.unreadableSectors, 1)
    await disk.read(9 * SECTOR_SIZE + 100, 100)
    t.same([disk.unreadableSectors, asked], [1, []])
  },
)

void t.test('long reads are cut', async (t) => {
  const { disk, asked } = patchy(Buffer.alloc(3 * MiB), [])
  await disk.read(0, 3 * MiB)
  t.same(
    asked,
    [0, 1, 2].map((n) => [n * MiB, MiB]),
  )
})

void t.test('a disk on which nothing can be read is given up', async (t) => {
  const size = (UNREADABLE_SECTORS_MAX + 1) * SECTOR_SIZE
  const disk = new PatchyDisk(size, new RangeSet(), () => Promise.resolve(undefined))
  await t.rejects(disk.read(0, size), /too much cannot be read: 100000 sectors/)
})

void t.test('a part ends where it ends', async (t) => {
  const data = pattern(8192)
  const part = partOf(patchy(data, []).disk, 1024, 2048)
  t.same(await part.read(1024, 1024), { data: data.subarray(2048, 3072), isWhole: true })
  const beyond = await part.read(2000, 100)
  t.equal(beyond.isWhole, false)
  t.same(beyond.data, Buffer.concat([data.subarray(3024, 3072), Buffer.alloc(52)]))
})
