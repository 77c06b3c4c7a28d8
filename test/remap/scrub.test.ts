/** A scrub over disks in memory: what it finds, when it rests, and where the next server goes on. */
import t from 'tap'
import { MemoryDevice } from '../../src/device/memory.js'
import { healingNotes } from '../../src/remap/healing-notes.js'
import { admitReplica } from '../../src/remap/replica-open.js'
import { Replica } from '../../src/remap/replica.js'
import { Scrub, type ScrubState } from '../../src/remap/scrub.js'
import { silentLog } from '../../src/util/log.js'
import { KiB, MiB } from '../../src/util/units.js'
import { badSectors, createRig, pattern, readFrom, type Rig } from '../support/rig.js'

const SIZE = 2 * MiB
const STEPS = SIZE / (256 * KiB)

interface Scrubbed {
  readonly scrub: Scrub
  readonly events: [string, unknown][]
  /** Resolves when there is an event of that name. */
  readonly event: (name: string) => Promise<unknown>
}

function scrubOf(rig: Rig): Scrubbed {
  const events: [string, unknown][] = []
  let heard: () => void = () => undefined
  const scrub = new Scrub(
    rig.target,
    (name, data) => {
      events.push([name, data])
      heard()
    },
    silentLog,
  )
  const event = async (name: string): Promise<unknown> => {
    for (;;) {
      const found = events.find(([other]) => other === name)
      if (found) return found[1]
      await new Promise<void>((resolve) => (heard = resolve))
    }
  }
  return { scrub, events, event }
}

const noteOf = (rig: Rig) => healingNotes(rig.target.pool.healing).scrub
const stateOf = ({ progress }: Scrub): ScrubState => progress.state

void t.test('it finds what cannot be read, and leaves the rest alone', async (t) => {
  const rig = await createRig({ mainSize: SIZE })
  rig.main.add(badSectors(['read'], 100, 3), badSectors(['read'], 1000, 1, { times: 3 }))
  const { scrub, events, event } = scrubOf(rig)
  t.match(scrub.progress, { state: 'idle', position: 0, size: SIZE })
  scrub.start({ speed: 0 })
  t.equal(stateOf(scrub), 'running')
  t.throws(() => {
    scrub.start({})
  }, /running already/)
  t.same(await event('SCRUB_COMPLETED'), { position: SIZE, size: SIZE, 'healed-blocks': 1, 'lost-sectors': 3 })
  t.equal(stateOf(scrub), 'completed')
  t.same(
    events.map(([name]) => name),
    ['SCRUB_STARTED', 'SCRUB_COMPLETED'],
  )
  t.match(
    rig.events.filter(([name]) => name === 'REMAP_ADDED').map(([, data]) => data),
    [
      { 'main-sector': 96, reason: 'read-error', 'lost-sectors': 3 },
      { 'main-sector': 1000, reason: 'weak', 'lost-sectors': 0 },
    ],
  )
  t.match(rig.target.statistics, { reads: 0, failedRequests: 0, retriedReads: 1 }, 'it is no client')
  t.same(await readFrom(rig.target, 1000 * 512, 4096), pattern(1000 * 512, 4096))
  await t.rejects(scrub.stop(), /no scrub is running/)
})

void t.test('with a replica it repairs what nobody has asked for yet, and what was lost before', async (t) => {
  const first = await createRig({ mainSize: SIZE })
  first.main.add(badSectors(['read'], 8))
  await t.rejects(readFrom(first.target, 8 * 512, 1), { code: 'EIO' })
  first.main.add(badSectors(['read'], 4090, 2))
  const copy = new MemoryDevice(SIZE, 'replica')
  pattern(0, SIZE).copy(copy.bytes)
  const rig = await first.reopen(new Replica(copy, 'memory:replica', 'stale', silentLog))
  await admitReplica(rig.target, silentLog)
  const { scrub, event } = scrubOf(rig)
  scrub.start({ speed: 0 })
  t.match(await event('SCRUB_COMPLETED'), { 'healed-blocks': 2, 'lost-sectors': 0 })
  const again = await rig.reopen()
  t.same(await readFrom(again.target, 0, SIZE), pattern(0, SIZE))
})

void t.test('it keeps to its speed, can be stopped, and goes on where it was', async (t) => {
  const rig = await createRig({ mainSize: SIZE })
  const one = scrubOf(rig)
  const startMs = performance.now()
  one.scrub.start({ speed: 8 * MiB })
  await one.event('SCRUB_COMPLETED')
  t.ok(performance.now() - startMs >= (STEPS - 1) * 31, 'a step takes 31 ms at least')

  one.scrub.start({ speed: 1 })
  while (one.scrub.progress.position === 0) await new Promise((resolve) => setImmediate(resolve))
  await one.scrub.stop()
  t.match(one.scrub.progress, { state: 'stopped', position: 256 * KiB })
  t.match(noteOf(rig), { runs: false, position: 256 * KiB })

  const next = await rig.reopen()
  const two = scrubOf(next)
  two.scrub.resume()
  t.match(two.scrub.progress, { state: 'stopped', position: 256 * KiB, speed: 1 }, 'stopped stays stopped')
  two.scrub.start({})
  t.match(await two.event('SCRUB_STARTED'), { position: 256 * KiB, speed: 1 })
  while (two.scrub.progress.position === 256 * KiB) await new Promise((resolve) => setImmediate(resolve))
  await two.scrub.close()
  t.match(noteOf(next), { runs: true })

  const last = scrubOf(await next.reopen())
  last.scrub.resume()
  t.match(await last.event('SCRUB_STARTED'), { position: 512 * KiB, speed: 1 }, 'a server that stopped is no reason')
  await last.scrub.stop()
  last.scrub.start({ speed: 0, restart: true })
  t.match(last.scrub.progress, { position: 0 })
  await last.event('SCRUB_COMPLETED')
})

void t.test('a disk that is gone stops it, and nothing is remapped', async (t) => {
  const rig = await createRig({ mainSize: SIZE })
  rig.main.add(badSectors(['read'], 2048, 1, { code: 'ENODEV' }))
  const { scrub, event } = scrubOf(rig)
  scrub.start({ speed: 0 })
  t.match(await event('SCRUB_STOPPED'), { position: MiB, error: 'ENODEV' })
  t.equal(stateOf(scrub), 'stopped')
  t.equal(rig.target.table.count, 0)
  rig.main.clear()
  scrub.start({})
  await event('SCRUB_COMPLETED')
})

void t.test('it steps aside for clients, but not for ever', async (t) => {
  const rig = await createRig({ mainSize: SIZE })
  const { scrub, event } = scrubOf(rig)
  let isDone = false
  const load = (async () => {
    while (!isDone) {
      await rig.target.read(0, Buffer.alloc(512))
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  })()
  const startMs = performance.now()
  scrub.start({ speed: 0 })
  await event('SCRUB_COMPLETED')
  isDone = true
  await load
  t.ok(performance.now() - startMs > STEPS * 25, 'steps waited')
})

void t.test('a note that makes no sense is as good as none', async (t) => {
  for (const note of [
    undefined,
    5,
    { scrub: 1 },
    { scrub: { position: -1, speed: 1, healed: 0, lost: 0, runs: true } },
  ]) {
    const rig = await createRig({ mainSize: SIZE })
    await rig.target.pool.noteHealing(() => note)
    const { scrub } = scrubOf(rig)
    scrub.resume()
    t.match(scrub.progress, { state: 'idle', position: 0 })
  }
})
