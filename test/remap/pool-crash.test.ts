/** Power cuts at every write and flush while a spare is added to a pool, or removed from it, on each of the disks. */
import t, { type Test } from 'tap'
import { FaultyDevice } from '../support/faulty-device.js'
import type { PairDisks } from '../../src/remap/pair-disks.js'
import { formatPair, Pair } from '../../src/remap/pair.js'
import { RefusedError } from '../../src/util/errors.js'
import { silentLog } from '../../src/util/log.js'
import { CrashingDevice } from '../support/crashing-device.js'
import { BLOCK, SECTORS, sizeFor } from '../support/pool-rig.js'
import { seededRandom } from '../support/random.js'
import { asDisk, badSectors, pattern, POLICY, readFrom } from '../support/rig.js'

const MAIN_SIZE = 32 * BLOCK
const REMAPPED = [3, 4, 5, 20]
/** Blocks that spare a has room for: one remap lies on spare b. */
const SLOTS = 3

type Name = 'main' | 'a' | 'b' | 'c'
type Images = Readonly<Record<Name, Buffer>>

class Disks {
  readonly devices: Readonly<Record<Name, CrashingDevice>>
  readonly main: FaultyDevice

  constructor(images: Images) {
    const device = (name: Name): CrashingDevice => new CrashingDevice(Buffer.from(images[name]), name)
    this.devices = { main: device('main'), a: device('a'), b: device('b'), c: device('c') }
    this.main = new FaultyDevice(this.devices.main)
  }

  disk(name: Name) {
    return asDisk(this.devices[name], name)
  }

  pair(...spares: Name[]): PairDisks {
    return { main: asDisk(this.main, 'main'), spares: spares.map((name) => this.disk(name)) }
  }

  open(...spares: Name[]): Promise<Pair> {
    const options = { policy: POLICY, acceptMain: false, emit: () => undefined, log: silentLog }
    return Pair.open(this.pair(...spares), options)
  }

  map(image: (device: CrashingDevice) => Buffer): Images {
    const { main, a, b, c } = this.devices
    return { main: image(main), a: image(a), b: image(b), c: image(c) }
  }
}

const content = (block: number): Buffer => Buffer.alloc(BLOCK, block + 1)

/** Spares a and b with remaps on both, stopped; c is blank. */
async function prepared(): Promise<Images> {
  const disks = new Disks({
    main: pattern(0, MAIN_SIZE),
    a: Buffer.alloc(sizeFor(SLOTS)),
    b: Buffer.alloc(sizeFor(8)),
    c: Buffer.alloc(sizeFor(4)),
  })
  await formatPair(disks.pair('a', 'b'), { force: false, log: silentLog })
  const pair = await disks.open('a', 'b')
  for (const block of REMAPPED) {
    disks.main.add(badSectors(['write'], block * SECTORS, SECTORS))
    await pair.target.write(block * BLOCK, [content(block)])
  }
  await pair.close()
  return disks.map(({ bytes }) => bytes)
}

/** Carries out `act`, cutting the power one write to `on` later each time, until it gets through. */
async function atEveryPoint(
  t: Test,
  images: Images,
  on: Name,
  act: (disks: Disks) => Promise<void>,
  check: (disks: Disks, where: string) => Promise<void>,
): Promise<number> {
  const random = seededRandom(t)
  for (let point = 0; ; point++) {
    const disks = new Disks(images)
    const run = { isDone: false }
    disks.devices[on].stopAfter(point)
    const going = act(disks).then(() => {
      run.isDone = true
    })
    await Promise.race([disks.devices[on].stopped, going])
    const where = `power cut at write ${point} to ${on}`
    const after = disks.map((device) => device.crash(random))
    await check(new Disks(after), where)
    if (run.isDone) return point
    if (point % 4 !== 0) continue
    // A start that finds all this is cut off, too, and the next one has to make do.
    const again = new Disks(after)
    again.devices.a.stopAfter(point % 12)
    await Promise.race([again.devices.a.stopped, again.open('a', 'b', 'c').catch(() => undefined)])
    await check(new Disks(again.map((device) => device.crash(random))), `${where}, and in the next start`)
  }
}

async function assertContent(pair: Pair, where: string): Promise<void> {
  for (const block of REMAPPED) {
    const seen = await readFrom(pair.target, block * BLOCK, BLOCK)
    if (!seen.equals(content(block))) t.fail(`${where}: block ${block} is not what was written`)
  }
  if (pair.target.table.count !== REMAPPED.length) t.fail(`${where}: ${pair.target.table.count} remaps`)
}

void t.test('a spare that is being added is a member or none, and nothing is lost', async (t) => {
  const images = await prepared()
  for (const on of ['a', 'b', 'c'] as const) {
    const points = await atEveryPoint(
      t,
      images,
      on,
      async (disks) => {
        const pair = await disks.open('a', 'b')
        await pair.addOpened(disks.disk('c'), false)
        disks.main.add(badSectors(['write'], 0, SECTORS))
      },
      async (disks, where) => {
        let pair: Pair
        try {
          pair = await disks.open('a', 'b', 'c')
        } catch (error) {
          // It is no spare yet: then the others do without.
          if (!(error instanceof RefusedError) || !error.message.startsWith('spare c ')) throw error
          pair = await disks.open('a', 'b')
        }
        await assertContent(pair, where)
      },
    )
    t.ok(points > 10, `${points} points on ${on}`)
  }
})

void t.test('a spare that is being removed is a member or none, and nothing is lost', async (t) => {
  const images = await prepared()
  for (const on of ['a', 'b'] as const) {
    const points = await atEveryPoint(
      t,
      images,
      on,
      async (disks) => {
        const pair = await disks.open('a', 'b')
        await pair.removeSpare(pair.target.pool.find('a')!).done
      },
      async (disks, where) => {
        await assertContent(await disks.open('a', 'b'), where)
      },
    )
    t.ok(points > 10, `${points} points on ${on}`)
  }
})
