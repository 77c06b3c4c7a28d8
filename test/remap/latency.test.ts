/** How long requests take, as the target counts it in shared memory. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { openDisk, type OpenedDisk } from '../../src/device/open.js'
import { MemoryDevice as Plain } from '../../src/device/memory.js'
import type { Device } from '../../src/device/device.js'
import { formatPair, Pair } from '../../src/remap/pair.js'
import { openStatistics, TIMED_OPERATIONS } from '../../src/remap/statistics.js'
import type { RemapTarget } from '../../src/remap/target.js'
import { countOf, type LatencyHistogram } from '../../src/util/histogram.js'
import { silentLog } from '../../src/util/log.js'
import { MiB } from '../../src/util/units.js'
import { MemoryDevice } from '../support/memory-device.js'
import { answer, asDisk, POLICY } from '../support/rig.js'

const BLOCK = 4096
const SIZE = MiB
const DELAY_MS = 30

async function openTarget(main: OpenedDisk): Promise<RemapTarget> {
  const disks = { main, spares: [asDisk(new Plain(9 * MiB), 'spare')] }
  await formatPair(disks, { force: false, log: silentLog })
  const pair = await Pair.open(disks, { policy: POLICY, acceptMain: false, log: silentLog, emit: () => undefined })
  return pair.target
}

/** As another thread reads it. */
const latencies = (target: RemapTarget) => openStatistics(target.statistics.memory).latencies
const count = (histogram: LatencyHistogram): number => countOf(histogram.buckets())

function requests(device: Device): Record<(typeof TIMED_OPERATIONS)[number], () => ReturnType<Device['flush']>> {
  return {
    read: () => device.read(0, Buffer.alloc(BLOCK)),
    write: () => device.write(0, [Buffer.alloc(BLOCK, 1)]),
    flush: () => device.flush(),
    trim: () => device.trim(BLOCK, BLOCK),
    'write-zeroes': () => device.writeZeroes(2 * BLOCK, BLOCK),
  }
}

void t.test('a request that waits for the disk takes as long as the disk', async (t) => {
  const memory = new MemoryDevice(SIZE)
  const target = await openTarget(asDisk(memory, 'main'))
  memory.before = () => new Promise((resolve) => setTimeout(resolve, DELAY_MS))
  for (const operation of TIMED_OPERATIONS) {
    const startMs = performance.now()
    await answer(requests(target)[operation])
    const tookMs = performance.now() - startMs
    const histogram = latencies(target)[operation]
    t.equal(count(histogram), 1, operation)
    // The timer of Node.js may fire a millisecond early.
    t.ok(histogram.longestMs >= DELAY_MS - 1 && histogram.longestMs <= tookMs, `${operation}: ${histogram.longestMs}`)
  }
})

void t.test('a request that fails is counted, too, and one that waits for another waits', async (t) => {
  const memory = new MemoryDevice(SIZE)
  const target = await openTarget(asDisk(memory, 'main'))
  let release = (): void => undefined
  memory.before = ({ operation }) => {
    if (operation === 'write') return new Promise((resolve) => (release = resolve))
    throw new Error('broken')
  }
  const write = target.write(0, [Buffer.alloc(BLOCK)])
  const read = target.read(0, Buffer.alloc(BLOCK))
  t.equal(count(latencies(target).write) + count(latencies(target).read), 0, 'not while they run')
  await new Promise((resolve) => setTimeout(resolve, DELAY_MS))
  release()
  await write
  await t.rejects(Promise.resolve(read))
  t.equal(count(latencies(target).read), 1)
  t.ok(latencies(target).read.longestMs >= DELAY_MS - 1)
})

void t.test('a request that a file does at once takes some time, too', async (t) => {
  const path = join(t.testdir({}), 'main.img')
  writeFileSync(path, Buffer.alloc(SIZE, 1))
  const disk = await openDisk(path, { readOnly: false, log: silentLog })
  const target = await openTarget(disk)
  const into = Buffer.alloc(2 * BLOCK)
  t.equal(target.read(0, into), undefined)
  t.equal(target.write(0, [into]), undefined)
  t.equal(target.readNow(0, into, BLOCK, BLOCK), true)
  t.equal(target.writeNow(0, into, 0, BLOCK), true)
  for (const operation of ['read', 'write'] as const) {
    const histogram = latencies(target)[operation]
    t.equal(count(histogram), 2, operation)
    t.ok(
      histogram.sumMs > 0 && histogram.buckets().every(({ belowMs }) => belowMs > 0.0005),
      'more than half a us each',
    )
  }
  await target.close()
})
