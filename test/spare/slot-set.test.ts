import t from 'tap'
import { SlotSet } from '../../src/spare/slot-set.js'
import { slotNumber } from '../../src/util/units.js'
import { seededRandom } from '../support/random.js'

const LAST = 4_294_967_294

void t.test('agrees with a Set, at random, up to the highest slot', (t) => {
  const random = seededRandom(t)
  const [slots, model] = [new SlotSet(), new Set<number>()]
  const places = [0, 65_500, 2 ** 31 - 40, LAST - 79]
  for (let n = 0; n < 5000; n++) {
    const slot = slotNumber(random.pick(places) + random.below(80))
    if (random.below(2) === 0) {
      slots.add(slot)
      model.add(slot)
    } else {
      slots.delete(slot)
      model.delete(slot)
    }
    if (slots.has(slot) !== model.has(slot) || slots.size !== model.size) throw new Error(`slot ${slot}`)
  }
  for (const start of places) {
    for (let n = start; n < start + 80; n++) if (slots.has(slotNumber(n)) !== model.has(n)) throw new Error(`slot ${n}`)
  }
  for (const slot of model) slots.delete(slotNumber(slot))
  t.equal(slots.size, 0)
  t.end()
})

void t.test('holds more than a Set can', (t) => {
  const slots = new SlotSet()
  const count = 2 ** 24 + 2
  for (let n = 0; n < count; n++) slots.add(slotNumber(LAST - n))
  t.equal(slots.size, count)
  t.ok(slots.has(slotNumber(LAST - count + 1)))
  t.notOk(slots.has(slotNumber(LAST - count)))
  t.end()
})
