import t from 'tap'
import { halve, splitByPlace, type Placements } from '../../src/remap/pieces.js'
import { judge } from '../../src/remap/policy.js'
import { countSectors, sectorsCovered, sectorsIn, sectorsTouched } from '../../src/remap/sector-mask.js'
import { DeviceError, type DeviceErrorCode, type DeviceOperation } from '../../src/device/device.js'
import { Random } from '../../src/util/random.js'
import { slotNumber } from '../../src/util/units.js'
import { seededRandom } from '../support/random.js'

function placementsOf(blockSize: number, slots: ReadonlyMap<number, number>, lost: ReadonlySet<number>): Placements {
  return {
    blockSize,
    lookup: (block) => (slots.has(block) ? slotNumber(slots.get(block)!) : undefined),
    hasLost: (slot) => lost.has(slot),
    skipUnmapped: (block) => {
      // Regions of 4 blocks.
      let at: number = block
      while (at < 1000 && ![0, 1, 2, 3].some((n) => slots.has(at - (at % 4) + n))) at = at - (at % 4) + 4
      return at
    },
  }
}

void t.test('pieces cover a request in order, each in one place, each where its blocks are', (t) => {
  const random = seededRandom(t)
  for (let round = 0; round < 3000; round++) {
    const blockSize = random.pick([8, 64])
    const slots = new Map<number, number>()
    for (const block of random.sample(random.below(20), 40))
      slots.set(block, random.pick([block + 100, 500 + slots.size]))
    const lost = new Set([...slots.values()].filter(() => random.below(5) === 0))
    const offset = random.below(40 * blockSize)
    const length = random.between(1, 12 * blockSize)
    const pieces = splitByPlace(offset, length, placementsOf(blockSize, slots, lost))
    const problem = problemOf(pieces, offset, length, blockSize, slots, lost)
    if (problem !== undefined) t.fail(`SEED=${random.seed} round ${round}: ${problem}`)
  }
  t.end()
})

function problemOf(
  pieces: ReturnType<typeof splitByPlace>,
  offset: number,
  length: number,
  blockSize: number,
  slots: ReadonlyMap<number, number>,
  lost: ReadonlySet<number>,
): string | undefined {
  let at = offset
  for (const [n, piece] of pieces.entries()) {
    if (piece.offset !== at || piece.length <= 0) return 'a gap or an overlap'
    if (n > 0 && piece.place === 'main' && pieces[n - 1]!.place === 'main') return 'neighbours on main are not joined'
    for (let byte = 0; byte < piece.length; byte++, at++) {
      const block = Math.floor(at / blockSize)
      const slot = slots.get(block)
      if (piece.place === 'main') {
        if (slot !== undefined) return 'a remapped block is read from main'
        continue
      }
      const spareByte = piece.slot * blockSize + piece.offsetInBlock + byte
      if (slot === undefined || spareByte !== slot * blockSize + (at % blockSize)) return 'a wrong spare block'
      if (piece.hasLost !== lost.has(slot)) return 'hasLost is wrong'
    }
    if (piece.place === 'spare' && piece.hasLost && piece.offsetInBlock + piece.length > blockSize)
      return 'lost and long'
  }
  return at === offset + length ? undefined : 'too short or too long'
}

void t.test('halves meet at a block boundary near the middle, and end at single blocks', (t) => {
  const random = new Random('halve')
  for (let round = 0; round < 2000; round++) {
    const blockSize = random.pick([512, 4096])
    const offset = random.below(100_000)
    const length = random.between(1, 100_000)
    const halves = halve(offset, length, blockSize)
    const blocks = Math.floor((offset + length - 1) / blockSize) - Math.floor(offset / blockSize) + 1
    if (!halves) {
      if (blocks !== 1) t.fail(`${blocks} blocks are not halved`)
      continue
    }
    const [a, b] = halves
    if (a.offset !== offset || b.offset !== a.offset + a.length || b.offset + b.length !== offset + length)
      t.fail('gap')
    if (b.offset % blockSize !== 0 || a.length <= 0 || b.length <= 0) t.fail('not cut at a block boundary')
    const first = b.offset / blockSize - Math.floor(offset / blockSize)
    if (Math.abs(2 * first - blocks) > 1) t.fail('not near the middle')
  }
  t.end()
})

void t.test('sector masks: touched by a byte, covered whole, counted, listed', (t) => {
  t.equal(sectorsTouched(0, 0), 0n)
  t.equal(sectorsTouched(511, 2), 0b11n)
  t.equal(sectorsTouched(512, 512), 0b10n)
  t.equal(sectorsTouched(0, 32768), 2n ** 64n - 1n)
  t.equal(sectorsCovered(1, 1023, 4096), 0b10n)
  t.equal(sectorsCovered(1, 510, 4096), 0n)
  t.equal(sectorsCovered(0, 32768, 32768), 2n ** 64n - 1n)
  t.equal(sectorsCovered(0, 100, 100), 1n, 'the short last sector of a disk')
  t.equal(sectorsCovered(0, 1124, 1124), 0b111n)
  t.equal(sectorsCovered(1025, 99, 1124), 0n)
  t.equal(countSectors(2n ** 64n - 1n), 64)
  t.same([...sectorsIn(0b1000_0000_0101n)], [0, 2, 11])
  t.end()
})

void t.test('what an error of a disk means', (t) => {
  const verdicts: [DeviceErrorCode, DeviceOperation, string][] = [
    ['EIO', 'read', 'bad-block'],
    ['EIO', 'write', 'bad-block'],
    ['EIO', 'flush', 'refused'],
    ['EPERM', 'read', 'refused'],
    ['EPERM', 'write', 'bad-block'],
    ['EINVAL', 'write', 'bad-block'],
    ['ENODEV', 'read', 'gone'],
    ['ENODEV', 'flush', 'gone'],
    ['ETIMEDOUT', 'write', 'gone'],
    ['ESHUTDOWN', 'write', 'gone'],
    ['ENOMEM', 'write', 'refused'],
    ['ENOSPC', 'write', 'refused'],
    ['EOVERFLOW', 'read', 'refused'],
    ['ENOTSUP', 'write-zeroes', 'refused'],
  ]
  for (const [code, operation, verdict] of verdicts) {
    t.equal(judge(new DeviceError(code, 'disk', operation, 0, 1)), verdict, `${code} of a ${operation}`)
  }
  t.end()
})
