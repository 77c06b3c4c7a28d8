import t from 'tap'
import { RangeSet } from '../../src/util/range-set.js'
import { seededRandom } from '../support/random.js'

const membersOf = (set: RangeSet): number[] =>
  [...set.pieces()].flatMap(({ start, end }) => Array.from({ length: end - start }, (_, n) => start + n))

void t.test('it agrees with a sorted list of its members', (t) => {
  const random = seededRandom(t)
  for (let round = 0; round < 200; round++) {
    const set = new RangeSet(1)
    const members: number[] = []
    for (let start = random.below(5), n = random.below(40); n > 0; n--) {
      const end = start + random.between(1, 6)
      set.append(start, end)
      for (let member = start; member < end; member++) if (!members.includes(member)) members.push(member)
      start += random.below(9)
    }
    t.same(membersOf(set), members, `SEED=${random.seed} round ${round}`)
    t.same([set.size, set.start, set.end], [members.length, members[0] ?? 0, (members.at(-1) ?? -1) + 1])
    for (const [index, member] of members.entries()) {
      if (set.indexOf(member) !== index || set.at(index) !== member) t.fail(`member ${member}`)
    }
    for (let start = 0; start < set.end + 3; start++) {
      const end = start + random.between(1, 5)
      const shares = members.some((member) => member >= start && member < end)
      if (set.overlaps(start, end) !== shares) t.fail(`overlaps(${start}, ${end})`)
      if (set.indexOf(start) !== members.indexOf(start)) t.fail(`indexOf(${start})`)
    }
    const [low, high] = [random.below(set.end + 3), random.below(set.end + 3)].sort((a, b) => a - b)
    const inside = RangeSet.of(...[...set.within(low ?? 0, high ?? 0)].map(({ start, end }) => [start, end] as const))
    const outside = RangeSet.of(
      ...[...set.gapsWithin(low ?? 0, high ?? 0)].map(({ start, end }) => [start, end] as const),
    )
    for (let n = 0; n < set.end + 3; n++) {
      const isAsked = n >= (low ?? 0) && n < (high ?? 0)
      if (inside.overlaps(n, n + 1) !== (isAsked && members.includes(n))) t.fail(`within(${low}, ${high}): ${n}`)
      if (outside.overlaps(n, n + 1) !== (isAsked && !members.includes(n))) t.fail(`gapsWithin(${low}, ${high}): ${n}`)
    }
    const from = random.below(members.length + 1)
    const to = random.between(from, members.length)
    t.same(membersOf(set.part(from, to)), members.slice(from, to))
    const most = random.between(1, 3)
    const some = set.part(from, to, most)
    t.equal(some.count, Math.min(most, set.part(from, to).count))
    t.same(membersOf(some), members.slice(from, from + some.size), 'no range of it is cut short')
    t.ok(some.count === most || some.size === to - from)
    const pieces = [...set.pieces(3)]
    t.ok(pieces.every(({ start, end, index }) => end - start <= 3 && set.indexOf(start) === index))
  }
  t.end()
})

void t.test('ranges that touch are one', (t) => {
  const set = RangeSet.of([1, 3], [3, 5], [7, 8], [7, 8])
  t.same([set.count, set.size], [2, 5])
  t.equal(set.overlaps(5, 7), false)
  t.throws(() => {
    set.append(6, 9)
  }, /out of order/)
  t.end()
})
