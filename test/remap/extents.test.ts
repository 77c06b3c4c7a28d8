import t from 'tap'
import type { AllocationExtent } from '../../src/device/device.js'
import {
  STATE_LOST,
  STATE_MAIN,
  STATE_REMAPPED,
  allocationExtents,
  stateExtents,
  type StatePlacements,
} from '../../src/remap/extents.js'
import { KiB, slotNumber } from '../../src/util/units.js'
import { badSectors, createRig } from '../support/rig.js'
import { seededRandom } from '../support/random.js'

const BLOCK = 4 * KiB

/** Blocks of 4 KiB: those in `lostMasks` are remapped. */
function placements(lostMasks: ReadonlyMap<number, bigint>): StatePlacements {
  const mask = (slot: number): bigint => lostMasks.get(slot - 100) ?? 0n
  return {
    blockSize: BLOCK,
    lookup: (block) => (lostMasks.has(block) ? slotNumber(block + 100) : undefined),
    skipUnmapped: (block) => {
      const next = [...lostMasks.keys()].filter((remapped) => remapped >= block)
      return next.length === 0 ? Number.MAX_SAFE_INTEGER : Math.min(...next)
    },
    hasLost: (slot) => mask(slot) !== 0n,
    lostMask: mask,
  }
}

const M = STATE_MAIN
const R = STATE_REMAPPED
const L = STATE_LOST

void t.test('the state is exact to the sector where sectors are lost', (t) => {
  const table = placements(
    new Map([
      [2, 0n],
      [3, 0n],
      [4, 0b0000_0110n],
      [7, 0xffn],
    ]),
  )
  const ask = (offset: number, length: number, countMax = 100) =>
    stateExtents(offset, length, countMax, table).map(({ length, flags }) => [flags, length])
  t.same(ask(0, 10 * BLOCK), [
    [M, 2 * BLOCK],
    [R, 2 * BLOCK + 512],
    [L, 1024],
    [R, BLOCK - 1536],
    [M, 2 * BLOCK],
    [L, BLOCK],
    [M, 2 * BLOCK],
  ])
  t.same(ask(4 * BLOCK + 700, 900), [
    [L, 836],
    [R, 64],
  ])
  t.same(ask(0, 10 * BLOCK, 2), [
    [M, 2 * BLOCK],
    [R, 2 * BLOCK + 512],
  ])
  t.same(ask(5 * BLOCK + 1, 1), [[M, 1]])
  t.end()
})

void t.test('remapped blocks are data, and otherwise what main says', (t) => {
  const table = placements(new Map([[1, 0n]]))
  const below: AllocationExtent[] = [
    { length: 100, allocation: 'zero' },
    { length: 3 * BLOCK, allocation: 'hole' },
    { length: BLOCK, allocation: 'data' },
  ]
  const ask = (countMax: number) => allocationExtents(0, countMax, below, table).map((it) => [it.allocation, it.length])
  const all = [
    ['zero', 100],
    ['hole', BLOCK - 100],
    ['data', BLOCK],
    ['hole', BLOCK + 100],
    ['data', BLOCK],
  ]
  t.same(ask(10), all)
  for (let count = 1; count < 5; count++) t.same(ask(count), all.slice(0, count))
  t.end()
})

void t.test('an answer stops before it has looked at too many blocks, and the next one goes on from there', (t) => {
  const blocks = 100_000
  const odd: StatePlacements = {
    blockSize: BLOCK,
    lookup: (block) => (block % 2 === 1 ? slotNumber(block) : undefined),
    skipUnmapped: (block) => block,
    hasLost: () => false,
    lostMask: () => 0n,
  }
  const answer = stateExtents(0, blocks * BLOCK, 1_000_000, odd)
  t.ok(answer.length > 1000 && answer.length < 50_000, `${answer.length} extents`)
  const holes = allocationExtents(0, 1_000_000, [{ length: blocks * BLOCK, allocation: 'hole' }], odd)
  t.equal(holes.length, answer.length)
  t.end()
})

void t.test('extents agree with a byte by byte account', (t) => {
  const random = seededRandom(t)
  for (let round = 0; round < 300; round++) {
    const lostMasks = new Map<number, bigint>()
    for (let i = random.below(8); i > 0; i--) {
      lostMasks.set(random.below(12), random.chance(50) ? 0n : BigInt(random.below(256)))
    }
    const table = placements(lostMasks)
    const offset = random.below(12 * BLOCK - 1)
    const length = 1 + random.below(12 * BLOCK - offset)
    let at = offset
    for (const { length: run, flags } of stateExtents(offset, length, 1000, table)) {
      for (const byte of [at, at + Math.floor(run / 2), at + run - 1]) {
        const mask = lostMasks.get(Math.floor(byte / BLOCK))
        const isLost = mask !== undefined && ((mask >> BigInt(Math.floor((byte % BLOCK) / 512))) & 1n) === 1n
        const expected = mask === undefined ? M : isLost ? L : R
        if (flags !== expected) t.equal(flags, expected, `byte ${byte} of ${[...lostMasks].join(' ')}`)
      }
      at += run
    }
    if (at !== offset + length) t.equal(at, offset + length, 'the whole range')
  }
  t.end()
})

void t.test('a target shows what happened to its blocks', async (t) => {
  const rig = await createRig()
  rig.main.add(badSectors(['write'], 16), badSectors(['read'], 42, 2))
  await rig.target.write(8 * KiB, [Buffer.alloc(4 * KiB, 'w')])
  await t.rejects(Promise.resolve(rig.target.read(20 * KiB, Buffer.alloc(4 * KiB))), { code: 'EIO' })
  t.same(rig.target.stateExtents(0, rig.target.size, 100), [
    { length: 8 * KiB, flags: M },
    { length: 4 * KiB, flags: R },
    { length: 8 * KiB, flags: M },
    { length: 1024, flags: R },
    { length: 1024, flags: L },
    { length: 2 * KiB, flags: R },
    { length: rig.target.size - 24 * KiB, flags: M },
  ])
  await rig.target.write(20 * KiB, [Buffer.alloc(4 * KiB, 'healed')])
  t.same(rig.target.stateExtents(20 * KiB, 4 * KiB, 100), [{ length: 4 * KiB, flags: R }])
  t.same(await rig.target.extents(0, rig.target.size, 100), [{ length: rig.target.size, allocation: 'data' }])
})
