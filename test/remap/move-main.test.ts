import t, { type Test } from 'tap'
import type { Device } from '../../src/device/device.js'
import { FaultyDevice } from '../support/faulty-device.js'
import { MemoryDevice } from '../../src/device/memory.js'
import { moveMain, type MoveMainOptions, type MovedMain } from '../../src/remap/move-main.js'
import { formatPair, Pair } from '../../src/remap/pair.js'
import { RefusedError } from '../../src/util/errors.js'
import { silentLog } from '../../src/util/log.js'
import { MiB, SECTOR_SIZE } from '../../src/util/units.js'
import { CrashingDevice } from '../support/crashing-device.js'
import { sizeFor } from '../support/pool-rig.js'
import { seededRandom } from '../support/random.js'
import { asDisk, badSectors, pattern, POLICY, readFrom } from '../support/rig.js'

// Some seconds on a quiet machine.
t.setTimeout(600_000)

const BLOCK = 4096
const SECTORS = BLOCK / SECTOR_SIZE
const SIZE = 2 * MiB + 3 * BLOCK
const NEW_SIZE = 3 * MiB
const REMAPPED = [3, 4, 5, 200, 514]
/** Sectors 2 and 3 of this block are lost. */
const LOST = 77

interface Images {
  readonly main: Buffer
  readonly a: Buffer
  readonly b: Buffer
}

const contentOf = (block: number): Buffer => Buffer.alloc(BLOCK, block + 1)

/** What the pair serves; the lost sectors aside. */
const SERVED = (() => {
  const bytes = pattern(0, SIZE)
  for (const block of REMAPPED) contentOf(block).copy(bytes, block * BLOCK)
  return bytes
})()

const open = (main: Device, mainName: string, spares: readonly Device[], acceptMain = false): Promise<Pair> =>
  Pair.open(
    { main: asDisk(main, mainName), spares: spares.map((spare) => asDisk(spare, spare.name)) },
    { policy: POLICY, acceptMain, emit: () => undefined, log: silentLog },
  )

/** The old main fails to read where it was remapped, and two sectors more. */
function failing(main: Device): FaultyDevice {
  const faulty = new FaultyDevice(main)
  for (const block of REMAPPED) faulty.add(badSectors(['read', 'write'], block * SECTORS, SECTORS))
  faulty.add(badSectors(['read'], LOST * SECTORS + 2, 2))
  return faulty
}

/** A pool of two spares, with remaps on both. */
async function stopped(): Promise<Images> {
  const main = memory('old', pattern(0, SIZE))
  const spares = [memory('a', Buffer.alloc(sizeFor(3))), memory('b', Buffer.alloc(sizeFor(8)))]
  const disks = spares.map((spare) => asDisk(spare, spare.name))
  await formatPair({ main: asDisk(main, 'old'), spares: disks }, { force: false, log: silentLog })
  const pair = await open(failing(main), 'old', spares)
  for (const block of REMAPPED) await pair.target.write(block * BLOCK, [contentOf(block)])
  await pair.close()
  return { main: main.bytes, a: spares[0]!.bytes, b: spares[1]!.bytes }
}

function memory(name: string, content: Buffer): MemoryDevice {
  const device = new MemoryDevice(content.length, name)
  content.copy(device.bytes)
  return device
}

async function assertServed(t: Test, pair: Pair, where: string): Promise<void> {
  const { target } = pair
  for (let offset = 0; offset < SIZE; offset += BLOCK) {
    if (offset === LOST * BLOCK) continue
    const length = Math.min(BLOCK, SIZE - offset)
    const seen = await readFrom(target, offset, length)
    if (!seen.equals(SERVED.subarray(offset, offset + length))) t.fail(`${where}: block ${offset / BLOCK} is wrong`)
  }
  const at = LOST * BLOCK
  for (const sector of [2, 3]) {
    const read = readFrom(target, at + sector * SECTOR_SIZE, SECTOR_SIZE)
    if (
      await read.then(
        () => true,
        () => false,
      )
    )
      t.fail(`${where}: lost sector ${sector} reads as something`)
  }
  const rest = await readFrom(target, at + 4 * SECTOR_SIZE, 4 * SECTOR_SIZE)
  if (!rest.equals(SERVED.subarray(at + 4 * SECTOR_SIZE, at + BLOCK))) t.fail(`${where}: the rest of the lost block`)
}

async function move(
  main: Device,
  to: Device,
  spares: readonly Device[],
  options: Partial<MoveMainOptions> = {},
): Promise<MovedMain> {
  const pair = await open(main, 'old', spares)
  const moved = await moveMain(pair, asDisk(to, 'new'), { force: false, ...options })
  await pair.close()
  return moved
}

void t.test(
  'all that was served is on the new main; what was lost stays lost, and nothing else is remapped',
  async (t) => {
    const { main, a, b } = await stopped()
    const [old, to] = [memory('old', main), new MemoryDevice(NEW_SIZE, 'new')]
    const spares = [memory('a', a), memory('b', b)]
    const progress: number[] = []
    const moved = await move(failing(old), to, spares, { onProgress: (done) => progress.push(done) })
    t.same(moved, { size: NEW_SIZE, resumedAt: 0, lost: [{ sector: LOST * SECTORS + 2, sectors: 2 }] })
    t.same(progress, [MiB, 2 * MiB, SIZE])
    t.ok(old.bytes.equals(main), 'the old main is only read')
    const pair = await open(to, 'new', spares)
    await assertServed(t, pair, 'afterwards')
    t.equal(pair.target.table.count, 1, 'only the block with lost sectors has a remap')
    t.equal(pair.target.size, NEW_SIZE)
    await pair.target.write(LOST * BLOCK, [contentOf(LOST)])
    await pair.target.write(NEW_SIZE - BLOCK, [contentOf(1)])
    await pair.close()
    await t.rejects(open(old, 'old', spares), {
      message: /the pair was moved from this disk to another one \(\/disks\/new\)/,
    })
  },
)

void t.test('equal in size, a disk that was the main is refused although it has the same content', async (t) => {
  const { main, a, b } = await stopped()
  const old = memory('old', main)
  const to = new MemoryDevice(SIZE, 'new')
  const spares = [memory('a', a), memory('b', b)]
  await move(failing(old), to, spares)
  await t.rejects(open(old, 'old', spares), { name: 'RefusedError', message: /moved from this disk.*--accept-main/ })
  await (await open(to, 'new', spares)).close()
})

void t.test('wherever the power is cut, the pair has its old main or its new one, and all is there', async (t) => {
  const random = seededRandom(t)
  const images = await stopped()
  for (const on of ['to', 'a', 'b'] as const) {
    const found = { old: 0, new: 0, resumed: 0 }
    for (let point = 0; ; point++) {
      const devices = {
        to: new CrashingDevice(NEW_SIZE, 'new'),
        a: new CrashingDevice(Buffer.from(images.a), 'a'),
        b: new CrashingDevice(Buffer.from(images.b), 'b'),
      }
      devices[on].stopAfter(point)
      const run = { isDone: false }
      const main = failing(memory('old', images.main))
      const going = move(main, devices.to, [devices.a, devices.b], { noteStep: MiB }).then(() => {
        run.isDone = true
      })
      await Promise.race([devices[on].stopped, going])
      const [to, a, b] = [devices.to, devices.a, devices.b].map((device) => device.crash(random)) as [
        Buffer,
        Buffer,
        Buffer,
      ]
      const where = `power cut at write ${point} to ${on}`
      const isNew = await survives(t, images, { to, a, b }, where)
      found[isNew ? 'new' : 'old']++
      if (!isNew && point % 5 === 0) {
        const again = [memory('a', a), memory('b', b)]
        const target = memory('new', to)
        const { resumedAt } = await move(failing(memory('old', images.main)), target, again, { force: true })
        if (resumedAt > 0) found.resumed++
        await assertServed(t, await open(target, 'new', again), `${where}, and tried again`)
      }
      if (run.isDone) break
    }
    t.ok(found.old > 0 && found.new > 0, `${on}: ${JSON.stringify(found)}`)
  }
})

/** @returns whether it is the new main that the spares want */
async function survives(
  t: Test,
  images: Images,
  { to, a, b }: { readonly to: Buffer; readonly a: Buffer; readonly b: Buffer },
  where: string,
): Promise<boolean> {
  const spares = (): MemoryDevice[] => [memory('a', a), memory('b', b)]
  try {
    await assertServed(t, await open(memory('new', to), 'new', spares()), where)
    return true
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error
  }
  await assertServed(t, await open(failing(memory('old', images.main)), 'old', spares()), where)
  return false
}

void t.test('an attempt that was stopped goes on, unless the pair was served in between', async (t) => {
  const { main, a, b } = await stopped()
  const [old, to] = [memory('old', main), new MemoryDevice(NEW_SIZE, 'new')]
  const spares = [memory('a', a), memory('b', b)]
  const stop = async (): Promise<void> => {
    const controller = new AbortController()
    const options = {
      force: true,
      noteStep: MiB,
      signal: controller.signal,
      onProgress: () => {
        controller.abort()
      },
    }
    const pair = await open(failing(old), 'old', spares)
    await t.rejects(moveMain(pair, asDisk(to, 'new'), options), /goes on from here/)
    await pair.close()
  }
  await stop()
  const served = await open(failing(old), 'old', spares)
  await served.target.write(0, [SERVED.subarray(0, BLOCK)])
  await served.close()
  await t.rejects(move(failing(old), to, spares), { name: 'RefusedError', message: /is not blank.*--force/ })
  await stop()
  t.match(await move(failing(old), to, spares), { resumedAt: MiB })
  await assertServed(t, await open(to, 'new', spares), 'afterwards')
})

void t.test('disks that cannot be the new main are refused, and not written to', async (t) => {
  const { main, a, b } = await stopped()
  const spares = [memory('a', a), memory('b', b)]
  const refuses = async (to: Device, bytes: Buffer, message: RegExp): Promise<void> => {
    const before = Buffer.from(bytes)
    const pair = await open(failing(memory('old', main)), 'old', spares)
    await t.rejects(moveMain(pair, asDisk(to, to.name), { force: false }), { name: 'RefusedError', message })
    await pair.close()
    t.ok(bytes.equals(before))
  }
  const small = new MemoryDevice(SIZE - 512, 'small')
  await refuses(small, small.bytes, /is too small: \d+ bytes, and main old has/)
  const used = memory('used', pattern(0, NEW_SIZE))
  await refuses(used, used.bytes, /is not blank/)
  const spare = memory('c', a)
  await refuses(spare, spare.bytes, /carries the header of an nbd-remap spare/)
  await refuses(spares[0]!, Buffer.alloc(0), /are the same disk/)
})
