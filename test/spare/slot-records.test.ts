import t from 'tap'
import { type Slot, type SlotState } from '../../src/spare/format.js'
import { MAIN_BLOCK_MAX, SlotRecords } from '../../src/spare/slot-records.js'
import type { Random } from '../../src/util/random.js'
import { mainBlock, slotNumber } from '../../src/util/units.js'
import { seededRandom } from '../support/random.js'

const FREE: Slot = { state: 'free', mainBlock: mainBlock(0), generation: 0, lostMask: 0n }

function drawSlot(random: Random): Slot {
  return {
    state: random.pick<SlotState>(['remapped', 'retired']),
    mainBlock: mainBlock(random.pick([0, 1, 2 ** 32 - 1, 2 ** 32, MAIN_BLOCK_MAX, random.below(MAIN_BLOCK_MAX)])),
    generation: random.pick([0, 1, 2 ** 32, 2 ** 48 - 1, random.below(2 ** 48)]),
    lostMask: random.pick([0n, 1n, 1n << 63n, (1n << 64n) - 1n]),
  }
}

void t.test('what is put is what is got, from the first slot to the last', (t) => {
  const random = seededRandom(t)
  const records = new SlotRecords()
  const numbers = [0, 1, 65_535, 65_536, 2 ** 31, 2 ** 32 - 2].map(slotNumber)
  t.same(
    numbers.map((number) => [records.get(number), records.isFree(number), records.hasLost(number)]),
    numbers.map(() => [FREE, true, false]),
  )
  for (let round = 0; round < 200; round++) {
    const slots = numbers.map(() => drawSlot(random))
    for (const [n, number] of numbers.entries()) {
      records.setLink(number, n + 1)
      records.put(number, slots[n]!)
    }
    for (const [n, number] of numbers.entries()) {
      const slot = slots[n]!
      const seen = [records.get(number), records.state(number), records.hasLost(number), records.mainBlock(number)]
      t.same(seen, [slot, slot.state, slot.lostMask !== 0n, slot.mainBlock], `SEED=${random.seed}`)
      t.equal(records.link(number), n + 1, 'the link stays')
    }
  }
  for (const number of numbers) records.put(number, FREE)
  t.same(
    numbers.map((number) => records.get(number)),
    numbers.map(() => FREE),
  )
  t.end()
})

void t.test('a main block that no disk has is a bug', (t) => {
  const slot: Slot = { ...FREE, state: 'remapped', mainBlock: mainBlock(MAIN_BLOCK_MAX + 1) }
  t.throws(() => {
    new SlotRecords().put(slotNumber(0), slot)
  }, /lies on no disk/)
  t.end()
})

void t.test('memory is taken for the slots that are used, and for lost masks when something is lost', (t) => {
  const records = new SlotRecords()
  t.equal(records.bytes, 0)
  const slot: Slot = { ...FREE, state: 'remapped' }
  for (let n = 0; n < 65_536; n++) records.put(slotNumber(n), slot)
  t.equal(records.bytes, 65_536 * 16)
  records.put(slotNumber(7), { ...slot, lostMask: 1n })
  t.equal(records.bytes, 65_536 * 24)
  t.end()
})
