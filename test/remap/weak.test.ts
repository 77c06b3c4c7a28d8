/** Late reads, and what they say: the block is weak, or the disk is slow. */
import t from 'tap'
import { SlowReads } from '../../src/device/slow-reads.js'
import { WeakBlocks } from '../../src/remap/weak.js'
import { formatPair, Pair } from '../../src/remap/pair.js'
import { MemoryDevice as Plain } from '../../src/device/memory.js'
import { silentLog } from '../../src/util/log.js'
import { MiB } from '../../src/util/units.js'
import { MemoryDevice, type Call } from '../support/memory-device.js'
import { asDisk, pattern, POLICY, readFrom } from '../support/rig.js'

const SLOW_MS = 40
const BLOCK = 4096
const SIZE = MiB

async function weakRig() {
  const memory = new MemoryDevice(SIZE)
  pattern(0, SIZE).copy(memory.data)
  const main = new SlowReads(memory, SLOW_MS)
  const disks = { main: asDisk(main, 'main'), spares: [asDisk(new Plain(9 * MiB), 'spare')] }
  await formatPair(disks, { force: false, log: silentLog })
  const reasons: unknown[] = []
  const { target } = await Pair.open(disks, {
    policy: POLICY,
    acceptMain: false,
    log: silentLog,
    emit: (name, data) => {
      if (name === 'REMAP_ADDED') reasons.push({ ...data })
    },
  })
  const weak = new WeakBlocks(target, SLOW_MS, silentLog)
  main.onSlow = weak.late
  const slow = (which: (call: Call) => boolean): void => {
    memory.before = (call) => {
      if (call.operation !== 'read' || !which(call)) return
      return new Promise((resolve) => setTimeout(resolve, 2 * SLOW_MS))
    }
  }
  return { target, weak, slow, reasons }
}

const covers =
  (byte: number) =>
  ({ offset, length }: Call): boolean =>
    offset <= byte && byte < offset + length

void t.test('the block that is late again moves to the spare, out of a long read, too', async (t) => {
  const { target, weak, slow, reasons } = await weakRig()
  let waits = 0
  slow((call) => {
    const isSlow = covers(5 * BLOCK + 100)(call)
    if (isSlow) waits++
    return isSlow
  })
  t.same(await readFrom(target, 0, 16 * BLOCK), pattern(0, 16 * BLOCK))
  await weak.settled()
  t.match(reasons, [{ 'main-sector': 40, sectors: 8, reason: 'weak', 'lost-sectors': 0 }])
  t.equal(reasons.length, 1)
  t.ok(target.statistics.slowReads >= 1)
  t.ok(waits > 0)
  waits = 0
  t.same(await readFrom(target, 0, 16 * BLOCK), pattern(0, 16 * BLOCK))
  t.equal(waits, 0, 'nobody waits for it any more')
})

void t.test('a disk that is slow everywhere has no weak blocks', async (t) => {
  const { target, weak, slow, reasons } = await weakRig()
  slow(() => true)
  await readFrom(target, 0, BLOCK)
  await weak.settled()
  await readFrom(target, 0, BLOCK)
  await weak.settled()
  t.same(reasons, [])
  t.equal(target.statistics.slowReads >= 2, true)
})

void t.test('a block that was late once is not weak, and late twice it is', async (t) => {
  const { target, weak, slow, reasons } = await weakRig()
  for (const expected of [0, 1]) {
    let first = true
    slow((call) => {
      if (!covers(5 * BLOCK)(call)) return false
      const isFirst = first
      first = false
      return isFirst
    })
    await readFrom(target, 5 * BLOCK, 512)
    await weak.settled()
    t.equal(reasons.length, expected)
  }
})

void t.test('once closed it follows up nothing', async (t) => {
  const { target, weak, slow, reasons } = await weakRig()
  await weak.close()
  slow(covers(0))
  await readFrom(target, 0, BLOCK)
  await weak.settled()
  t.same(reasons, [])
})
