import t from 'tap'
import { Allocator } from '../../src/spare/allocator.js'
import type { SlotState } from '../../src/spare/format.js'
import { Random } from '../../src/util/random.js'
import { slotNumber, type SlotNumber } from '../../src/util/units.js'

function newAllocator(states: SlotState[]) {
  const used = states.filter((state) => state !== 'free').length
  const allocator = new Allocator(states.length, used, (number) => states[number]!)
  const commit = (number: SlotNumber, state: SlotState): void => {
    const before = states[number]!
    states[number] = state
    allocator.committed(number, before)
  }
  return { allocator, commit }
}

void t.test('free slots are handed out in disk order, each once', (t) => {
  const { allocator } = newAllocator(['free', 'remapped', 'free', 'retired', 'free'])
  t.equal(allocator.free, 3)
  t.same(
    [1, 2, 3, 4].map(() => allocator.allocate()),
    [0, 2, 4, undefined],
  )
  t.equal(allocator.free, 0)
  t.end()
})

void t.test('a slot given back is handed out again, one that became used is not', (t) => {
  const { allocator, commit } = newAllocator(['free', 'free'])
  allocator.release(allocator.allocate()!)
  t.equal(allocator.free, 2)
  t.equal(allocator.allocate(), 0)
  commit(slotNumber(0), 'remapped')
  t.equal(allocator.free, 1)
  commit(slotNumber(0), 'retired')
  t.equal(allocator.free, 1)
  commit(slotNumber(0), 'free')
  t.equal(allocator.free, 2)
  t.end()
})

void t.test('a slot that a failed commit left in doubt is neither free nor handed out', (t) => {
  const states: SlotState[] = ['free', 'free']
  const { allocator } = newAllocator(states)
  const number = allocator.allocate()!
  states[number] = 'remapped'
  allocator.release(number)
  t.equal(allocator.free, 1)
  t.same([allocator.allocate(), allocator.allocate()], [1, undefined])
  t.end()
})

void t.test('a certain slot can be reserved when it is free', (t) => {
  const { allocator } = newAllocator(['free', 'retired', 'free'])
  t.same(
    [0, 0, 1, 2].map((number) => allocator.reserve(slotNumber(number))),
    [true, false, false, true],
  )
  t.equal(allocator.allocate(), undefined)
  t.end()
})

void t.test('at random it agrees with a count', (t) => {
  const random = new Random('allocator')
  const states: SlotState[] = Array.from({ length: 40 }, () => random.pick(['free', 'free', 'remapped', 'retired']))
  const { allocator, commit } = newAllocator(states)
  const reserved = new Set<SlotNumber>()
  for (let n = 0; n < 3000; n++) {
    const free = states.filter((state, number) => state === 'free' && !reserved.has(slotNumber(number))).length
    if (allocator.free !== free) t.fail(`step ${n}: ${allocator.free} is not ${free}`)
    const number = slotNumber(random.below(40))
    if (random.below(2) === 0) {
      const slot = allocator.allocate()
      if ((slot === undefined) !== (free === 0) || (slot !== undefined && reserved.has(slot))) t.fail(`step ${n}`)
      if (slot !== undefined) reserved.add(slot)
    } else if (reserved.has(number)) {
      reserved.delete(number)
      if (random.below(2) === 0) commit(number, random.pick(['remapped', 'retired']))
      else allocator.release(number)
    } else if (states[number] !== 'free') commit(number, 'free')
  }
  t.pass('3000 steps')
  t.end()
})
