import t from 'tap'
import { RangeLock, type Release } from '../../src/util/range-lock.js'
import { RangeSet } from '../../src/util/range-set.js'
import { Random } from '../../src/util/random.js'

type Claimed = Release | Promise<Release>
const isGranted = (claim: Claimed): claim is Release => typeof claim === 'function'

function granted(claim: Claimed): Release {
  if (!isGranted(claim)) throw new Error('not granted at once')
  return claim
}

void t.test('shared holders overlap, an exclusive one overlaps nobody', async (t) => {
  const lock = new RangeLock()
  const first = granted(lock.shared(0, 10))
  const second = granted(lock.shared(5, 15))
  const writer = lock.exclusive(9, 11)
  t.notOk(isGranted(writer))
  granted(lock.exclusive(15, 20))()
  first()
  second()
  ;(await writer)()
  t.equal(lock.size, 0)
})

void t.test('a range is free when nobody holds or waits for it in a way that conflicts', (t) => {
  const lock = new RangeLock()
  t.ok(lock.isFree(0, 10, 'exclusive'))
  granted(lock.shared(0, 10))
  void lock.exclusive(9, 11)
  t.ok(lock.isFree(0, 9, 'shared'))
  t.notOk(lock.isFree(0, 9, 'exclusive'), 'held')
  t.notOk(lock.isFree(10, 11, 'shared'), 'waited for')
  t.ok(lock.isFree(11, 12, 'exclusive'))
  t.end()
})

void t.test('ranges that only touch do not conflict', (t) => {
  const lock = new RangeLock()
  granted(lock.exclusive(0, 10))
  granted(lock.exclusive(10, 20))
  t.equal(lock.size, 2)
  t.end()
})

void t.test('nobody overtakes an earlier claim that overlaps, so a writer does not starve', async (t) => {
  const lock = new RangeLock()
  const order: string[] = []
  const reader = granted(lock.shared(0, 10))
  const writer = Promise.resolve(lock.exclusive(5, 15)).then((release) => {
    order.push('writer')
    release()
  })
  const late = Promise.resolve(lock.shared(0, 10)).then((release) => {
    order.push('late reader')
    release()
  })
  granted(lock.shared(0, 5))()
  reader()
  await Promise.all([writer, late])
  t.same(order, ['writer', 'late reader'])
})

void t.test('claims behind a waiting one wait for it even when the holder is not in their way', async (t) => {
  const lock = new RangeLock()
  const holder = granted(lock.exclusive(0, 10))
  const wide = lock.exclusive(5, 25)
  const behind = lock.exclusive(20, 30)
  t.notOk(isGranted(behind), 'it overlaps the waiting one only')
  granted(lock.shared(40, 50))
  holder()
  const release = await wide
  t.equal(lock.size, 3)
  release()
  ;(await behind)()
  t.equal(lock.size, 1)
})

void t.test('at random: never two in conflict, everyone gets a turn, in order of coming', async (t) => {
  const random = new Random('range-lock')
  const lock = new RangeLock()
  interface Claim {
    start: number
    end: number
    exclusive: boolean
    number: number
  }
  const conflict = (a: Claim, b: Claim): boolean => a.start < b.end && b.start < a.end && (a.exclusive || b.exclusive)
  const active = new Set<Claim>()
  const waiting = new Set<Claim>()
  let served = 0
  const hold = async (claim: Claim): Promise<void> => {
    waiting.add(claim)
    const release = await (claim.exclusive
      ? lock.exclusive(claim.start, claim.end)
      : lock.shared(claim.start, claim.end))
    waiting.delete(claim)
    for (const other of active) if (conflict(other, claim)) throw new Error('two in conflict')
    for (const other of waiting) if (other.number < claim.number && conflict(other, claim)) throw new Error('overtaken')
    active.add(claim)
    for (let n = random.below(5); n > 0; n--) await Promise.resolve()
    active.delete(claim)
    release()
    served++
  }
  const all: Promise<void>[] = []
  for (let number = 0; number < 2000; number++) {
    const start = random.below(60)
    all.push(hold({ start, end: start + random.between(1, 12), exclusive: random.below(2) === 0, number }))
    if (random.below(4) === 0) await Promise.resolve()
  }
  await Promise.all(all)
  t.equal(served, 2000)
  t.equal(lock.size, 0)
})

void t.test('a set of ranges is held together, and what lies between them is free', async (t) => {
  const lock = new RangeLock()
  const reader = granted(lock.shared(20, 21))
  const set = lock.claim(RangeSet.of([10, 12], [20, 22]), 'exclusive')
  t.notOk(isGranted(set), 'the reader is waited for')
  granted(lock.exclusive(12, 20))()
  const writer = lock.exclusive(11, 13)
  t.notOk(isGranted(writer), 'it does not overtake the set')
  reader()
  const release = await set
  t.equal(lock.isFree(12, 20, 'exclusive'), false, 'a writer waits for a part of it')
  t.equal(lock.isFree(13, 20, 'exclusive'), true)
  t.equal(lock.isFree(21, 30, 'shared'), false)
  release()
  ;(await writer)()
  t.equal(lock.size, 0)
})

void t.test('a watcher is told of exclusive claims in its ranges once they are held', async (t) => {
  const lock = new RangeLock()
  const told: string[] = []
  const unwatch = lock.watch(RangeSet.of([10, 12], [20, 22]), (start, end) => told.push(`${start}-${end}`))
  t.equal(lock.isFree(0, 11, 'exclusive'), false, 'who would write without a claim cannot')
  t.equal(lock.isFree(0, 11, 'shared'), true)
  t.equal(lock.isFree(12, 20, 'exclusive'), true)
  const first = granted(lock.exclusive(0, 11))
  const second = lock.exclusive(10, 30)
  t.same(told, ['0-11'])
  first()
  ;(await second)()
  granted(lock.shared(20, 30))()
  granted(lock.exclusive(12, 20))()
  t.same(told, ['0-11', '10-30'])
  unwatch()
  granted(lock.exclusive(0, 11))()
  t.same(told.length, 2)
  t.equal(lock.isFree(0, 11, 'exclusive'), true)
})

void t.test('who waits for the holders of now holds nobody up', async (t) => {
  const lock = new RangeLock()
  await lock.settled()
  const first = granted(lock.shared(0, 10))
  const second = granted(lock.exclusive(20, 30))
  let isSettled = false
  const settled = lock.settled().then(() => (isSettled = true))
  const later = granted(lock.exclusive(10, 20))
  first()
  await Promise.resolve()
  t.notOk(isSettled)
  second()
  await settled
  later()
  t.equal(lock.size, 0)
})
