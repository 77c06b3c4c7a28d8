/** Two servers on one pair of disks that no lock keeps apart: one of them notices, and writes nothing from then on. */
import t, { type Test } from 'tap'
import { DeviceError, type Completion } from '../../src/device/device.js'
import { FaultyDevice } from '../support/faulty-device.js'
import { MemoryDevice } from '../../src/device/memory.js'
import type { OpenedDisk } from '../../src/device/open.js'
import { addRemaps, batchOf } from '../../src/remap/admin.js'
import { formatPair, Pair, type OpenPairOptions } from '../../src/remap/pair.js'
import { HEADER_OFFSETS } from '../../src/spare/format.js'
import { RefusedError } from '../../src/util/errors.js'
import { silentLog } from '../../src/util/log.js'
import { MiB, SECTOR_SIZE } from '../../src/util/units.js'
import { Journal, SimulatedDisk, type Image } from '../crash/simulated-disk.js'
import { seededRandom } from '../support/random.js'
import { asDisk, badSectors, pattern, POLICY, readFrom } from '../support/rig.js'

const BLOCK = 4096
const SECTORS = BLOCK / SECTOR_SIZE
const BLOCKS = 64

interface Server {
  readonly pair: Pair
  readonly main: FaultyDevice
  readonly spare: FaultyDevice
  readonly events: [string, unknown][]
}

/** Disks that any number of servers open. */
class Shelf {
  readonly main = new MemoryDevice(BLOCKS * BLOCK, 'main')
  readonly spares = [new MemoryDevice(9 * MiB, 'spare'), new MemoryDevice(9 * MiB, 'other')]

  /** @param remote as with NBD: what is found in use may still be in use */
  async open(options: Partial<OpenPairOptions> = {}, remote = false, spares = 1): Promise<Server> {
    const main = new FaultyDevice(this.main)
    const [spare, ...more] = this.spares.slice(0, spares).map((memory) => new FaultyDevice(memory))
    const events: Server['events'] = []
    const pair = await Pair.open(
      { main: asDisk(main, 'main'), spares: [spare!, ...more].map((device) => spareDisk(device, remote)) },
      {
        policy: POLICY,
        acceptMain: false,
        emit: (name, data) => events.push([name, data]),
        log: silentLog,
        ...options,
      },
    )
    return { pair, main, spare: spare!, events }
  }

  static async formatted(spares = 1): Promise<Shelf> {
    const shelf = new Shelf()
    pattern(0, shelf.main.size).copy(shelf.main.bytes)
    const disks = shelf.spares.slice(0, spares).map((memory) => asDisk(memory, memory.name))
    await formatPair({ main: asDisk(shelf.main, 'main'), spares: disks }, { force: false, log: silentLog })
    return shelf
  }
}

const spareDisk = (device: FaultyDevice, remote: boolean): OpenedDisk => ({
  ...asDisk(device, device.name),
  ...(remote && { reconnection: { confirm: () => Promise.resolve() } }),
})

const content = (n: number): Buffer => Buffer.alloc(BLOCK, n + 1)

/** A write of a block that main cannot take. */
function writeBad({ pair, main }: Pick<Server, 'pair' | 'main'>, block: number): Completion {
  main.add(badSectors(['write'], block * SECTORS, SECTORS))
  return pair.target.write(block * BLOCK, [content(block)])
}

const failsWith = (t: Test, request: Completion, code: string, what: string): Promise<unknown> =>
  t.rejects(Promise.resolve(request), { name: /DeviceError|OwnershipLostError/, code }, what)

/** That this server has lost the pair, says so, does nothing any more, and leaves the spares alone. */
async function assertLost(t: Test, server: Server, shelf: Shelf, act: () => Completion): Promise<void> {
  const before = shelf.spares.map(({ bytes }) => Buffer.from(bytes))
  await failsWith(t, act(), 'ESHUTDOWN', 'the write that would need metadata')
  t.match(await server.pair.lost, /^spare spare belongs to another server now: it was taken over \(owner epoch \d+/)
  const told = server.events.filter(([name]) => name === 'OWNERSHIP_LOST')
  t.match(told[0], ['OWNERSHIP_LOST', { spare: 'spare', reason: /owner epoch/ }])
  const { target } = server.pair
  await failsWith(t, target.write(0, [content(0)]), 'ESHUTDOWN', 'a write to main')
  await failsWith(t, target.read(0, Buffer.alloc(512)), 'ESHUTDOWN', 'a read')
  await failsWith(t, target.flush(), 'ESHUTDOWN', 'a flush')
  t.notOk(target.writeNow(0, content(0), 0, 512), 'nor by the short way')
  t.notOk(target.readNow(0, content(0), 0, 512))
  await t.rejects(server.pair.close(), { message: /could not be stopped cleanly/ })
  for (const [n, { bytes }] of shelf.spares.entries()) t.ok(bytes.equals(before[n]!), 'the spares are as they were')
}

void t.test('a server that lost its pair notices before it writes metadata', async (t) => {
  for (const spares of [1, 2]) {
    const shelf = await Shelf.formatted(spares)
    const old = await shelf.open({}, false, spares)
    await writeBad(old, 3)
    const next = await shelf.open({}, false, spares)
    await writeBad(next, 5)
    await assertLost(t, old, shelf, () => writeBad(old, 7))
    await writeBad(next, 8)
    for (const block of [3, 5, 8]) t.ok((await readFrom(next.pair.target, block * BLOCK, BLOCK)).equals(content(block)))
    await next.pair.close()
  }
})

void t.test('so it does before an operator moves blocks, and before a clean stop', async (t) => {
  const shelf = await Shelf.formatted()
  const old = await shelf.open()
  const [adding, stopping] = [await shelf.open(), await shelf.open()]
  t.match(await old.pair.close().catch(String), /could not be stopped cleanly/)
  await shelf.open()
  const before = Buffer.from(shelf.spares[0]!.bytes)
  const batch = batchOf(adding.pair.target, { mainSector: 8, sectors: 80 })
  const options = { copy: true, skipRemapped: false, policy: POLICY }
  await t.rejects(addRemaps(adding.pair.target, batch, options), /another server/)
  await t.rejects(stopping.pair.close(), /another server/)
  t.ok(shelf.spares[0]!.bytes.equals(before))
})

void t.test('a server that writes no metadata notices, too', async (t) => {
  const shelf = await Shelf.formatted()
  const old = await shelf.open({ ownerCheckMs: 5 })
  // Looking by itself keeps no process alive.
  const alive = setInterval(() => undefined, 1000)
  t.teardown(() => {
    clearInterval(alive)
  })
  await shelf.open()
  t.match(await old.pair.lost, /owner epoch 2, and this server has 1/)
})

void t.test('header copies that cannot be read or written keep nobody from noticing', async (t) => {
  const shelf = await Shelf.formatted()
  const old = await shelf.open()
  for (const copy of [0, 1, 2, 3]) old.spare.add(badSectors(['read'], HEADER_OFFSETS[copy]! / SECTOR_SIZE, SECTORS))
  await writeBad(old, 1)
  t.ok((await readFrom(old.pair.target, BLOCK, BLOCK)).equals(content(1)), 'what cannot be read says nothing')
  await shelf.open()
  await assertLost(t, old, shelf, () => writeBad(old, 7))
})

void t.test('a spare that was formatted anew is not written to', async (t) => {
  const shelf = await Shelf.formatted()
  const old = await shelf.open()
  const disks = { main: asDisk(shelf.main, 'main'), spares: [asDisk(shelf.spares[0]!, 'spare')] }
  await formatPair(disks, { force: true, log: silentLog })
  const before = Buffer.from(shelf.spares[0]!.bytes)
  await failsWith(t, writeBad(old, 7), 'ESHUTDOWN', 'a write that needs metadata')
  t.match(await old.pair.lost, /it was formatted anew/)
  t.ok(shelf.spares[0]!.bytes.equals(before))
})

void t.test('what the old server acknowledged before it noticed is there for the new one', async (t) => {
  const shelf = await Shelf.formatted()
  const old = await shelf.open({}, true)
  const acknowledged: number[] = []
  const run = { isOver: false }
  const writing = (async () => {
    for (let block = 0; block < BLOCKS && !run.isOver; block++) {
      await writeBad(old, block)
      acknowledged.push(block)
      await new Promise(setImmediate)
    }
  })().catch((error: unknown) => {
    if (!(error instanceof DeviceError)) throw error
  })
  await new Promise(setImmediate)
  const next = await shelf.open({}, true)
  run.isOver = true
  await writing
  t.ok(acknowledged.length > 0)
  for (const block of acknowledged) {
    t.ok((await readFrom(next.pair.target, block * BLOCK, BLOCK)).equals(content(block)), `block ${block}`)
  }
})

void t.test(
  'of servers that start at the same moment one stays at most, and the pair can be opened again',
  async (t) => {
    const random = seededRandom(t)
    const shelf = await Shelf.formatted()
    const { bytes } = shelf.spares[0]!
    const sectors: Image = new Map()
    for (let at = 0; at < bytes.length; at += SECTOR_SIZE) {
      const sector = bytes.subarray(at, at + SECTOR_SIZE)
      if (sector.some((byte) => byte !== 0)) sectors.set(at / SECTOR_SIZE, Buffer.from(sector))
    }
    let winners = 0
    for (let round = 0; round < 60; round++) {
      const first = new SimulatedDisk('spare', bytes.length, new Map(sectors), new Journal(), random)
      const open = async (disk: SimulatedDisk): Promise<Pick<Server, 'pair' | 'main'> | undefined> => {
        for (let turns = random.below(40); turns > 0; turns--) await Promise.resolve()
        const main = new FaultyDevice(shelf.main)
        const disks = { main: asDisk(main, 'main'), spares: [asDisk(disk, 'spare')] }
        const options = { policy: POLICY, acceptMain: false, emit: () => undefined, log: silentLog }
        try {
          return { pair: await Pair.open(disks, options), main }
        } catch (error) {
          if (error instanceof RefusedError) return undefined
          throw error
        }
      }
      const servers = await Promise.all([open(first), open(first.shared())])
      const wrote: number[] = []
      for (const [n, server] of servers.entries()) {
        const written =
          server &&
          (await Promise.resolve(writeBad(server, n)).then(
            () => true,
            () => false,
          ))
        if (written) wrote.push(n)
      }
      if (wrote.length > 1) t.fail(`round ${round}: both write metadata`)
      winners += wrote.length
      const last = await open(first.shared())
      if (!last) t.fail(`round ${round}: the pair cannot be opened any more`)
      for (const n of wrote) {
        const seen = await readFrom(last!.pair.target, n * BLOCK, BLOCK)
        if (!seen.equals(content(n))) t.fail(`round ${round}: what was acknowledged is gone`)
      }
    }
    t.ok(winners > 30, `${winners} of 60 times one stayed`)
  },
)
