/** Requests that are carried out before the call returns: the same bytes as by the way of promises, whatever they touch. */
import t from 'tap'
import { MemoryDevice } from '../../src/device/memory.js'
import { mainBlock, MiB } from '../../src/util/units.js'
import { openTarget, readFrom } from '../support/rig.js'
import { seededRandom } from '../support/random.js'

const BLOCK = 512
const BLOCKS = 64
const SIZE = BLOCKS * BLOCK - 100

/** Counts what is asked of a disk at once. */
class CountingDevice extends MemoryDevice {
  now = 0

  override readNow(offset: number, into: Buffer, start: number, length: number): boolean {
    this.now++
    return super.readNow(offset, into, start, length)
  }

  override writeNow(offset: number, from: Buffer, start: number, length: number): boolean {
    this.now++
    return super.writeNow(offset, from, start, length)
  }
}

async function open() {
  const main = new CountingDevice(SIZE, 'main')
  const spare = new CountingDevice(9 * MiB, 'spare')
  const target = await openTarget(main, spare, BLOCK)
  const remap = (blocks: readonly number[], lostMask = 0n): Promise<void> =>
    target.placement.place(
      blocks.map((block) => ({
        block: mainBlock(block),
        content: [Buffer.alloc(BLOCK)],
        lostMask,
        reason: 'operator' as const,
      })),
    )
  return { main, spare, target, remap }
}

void t.test('random requests over main and spare leave and find the bytes that they should', async (t) => {
  const random = seededRandom(t)
  const { target, remap } = await open()
  for (const block of random.sample(20, BLOCKS - 10)) await remap([block])
  await remap([60, 61, 62])
  const model = Buffer.alloc(SIZE)
  await target.write(0, [model])
  for (let round = 0; round < 500; round++) {
    const offset = random.below(SIZE - 1)
    const length = 1 + random.below(Math.min(8 * BLOCK, SIZE - offset))
    const buffer = Buffer.alloc(length + 20)
    if (random.below(2) === 0) {
      buffer.fill(random.bytes(length), 7, 7 + length)
      buffer.copy(model, offset, 7, 7 + length)
      t.ok(target.writeNow(offset, buffer, 7, length))
    } else {
      t.ok(target.readNow(offset, buffer, 7, length))
      const found = Buffer.concat([Buffer.alloc(7), model.subarray(offset, offset + length), Buffer.alloc(13)])
      if (!buffer.equals(found)) t.fail(`other bytes at ${offset}, ${length} of them`)
    }
  }
  t.ok((await readFrom(target, 0, SIZE)).equals(model))
  t.ok(target.statistics.remappedRequests > 100)
})

void t.test('neighbours are one request to the disk', async (t) => {
  const { target, remap, main, spare } = await open()
  await remap([10, 11, 12, 13])
  main.now = spare.now = 0
  t.ok(target.readNow(8 * BLOCK, Buffer.alloc(8 * BLOCK), 0, 8 * BLOCK))
  t.same([main.now, spare.now], [2, 1])
})

void t.test('what is lost, or held by somebody else, is not done at once, and not counted', async (t) => {
  const { target, remap } = await open()
  await remap([10])
  await remap([12], 1n)
  const buffer = Buffer.alloc(4 * BLOCK)
  t.notOk(target.readNow(9 * BLOCK, buffer, 0, buffer.length))
  t.notOk(target.writeNow(9 * BLOCK, buffer, 0, buffer.length))
  t.ok(target.writeNow(9 * BLOCK, buffer, 0, 3 * BLOCK))
  const release = await target.lock.shared(11, 12)
  t.ok(target.readNow(9 * BLOCK, buffer, 0, 3 * BLOCK))
  t.notOk(target.writeNow(9 * BLOCK, buffer, 0, 3 * BLOCK), 'somebody reads there')
  release()
  t.match(target.statistics, { reads: 1, writes: 1, bytesRead: 3 * BLOCK, bytesWritten: 3 * BLOCK })
})
