import t, { type Test } from 'tap'
import { addRemaps, batchOf, clearRemaps, newBatch, removeRemaps, type AddOptions } from '../../src/remap/admin.js'
import type { BatchRange } from '../../src/remap/batch.js'
import { listLost, listRemaps, type RemapRange } from '../../src/remap/listing.js'
import type { RemapTarget } from '../../src/remap/target.js'
import type { Member } from '../../src/spare/pool.js'
import { formatPair, Pair } from '../../src/remap/pair.js'
import { silentLog } from '../../src/util/log.js'
import { MiB } from '../../src/util/units.js'
import { seededRandom } from '../support/random.js'
import { SparseDevice } from '../support/sparse-device.js'
import { asDisk, badSectors, createRig, pattern, POLICY, readFrom, spareOffsetOf, type Rig } from '../support/rig.js'

const BLOCK = 4096
const ALL = { fromSector: 0, limit: 1_000_000 }
const OPTIONS: AddOptions = { copy: true, skipRemapped: false, policy: POLICY }

const add = ({ target }: Rig, range: BatchRange, options: Partial<AddOptions> = {}) =>
  addRemaps(target, batchOf(target, range), { ...OPTIONS, ...options })

const remove = ({ target }: Rig, mainSector: number, sectors: number) =>
  removeRemaps(target, batchOf(target, { mainSector, sectors }))

const addAll = ({ target }: Rig, ranges: readonly BatchRange[], options: Partial<AddOptions> = {}) => {
  const batch = newBatch(target)
  for (const range of ranges) batch.append(range)
  return addRemaps(target, batch, { ...OPTIONS, ...options })
}

const spareOf = ({ pool }: RemapTarget): Member => pool.members[0]!

const remapsOf = async (target: RemapTarget): Promise<readonly RemapRange[]> => (await listRemaps(target, ALL)).ranges
const placesOf = async (target: RemapTarget): Promise<number[][]> =>
  (await remapsOf(target)).map(({ mainSector, spareSector, sectors }) => [mainSector, spareSector, sectors])

/** Nothing is remapped, every spare block is free, and the spare takes new ones. */
async function assertUntouched(t: Test, { target }: Rig, free: number): Promise<void> {
  t.same(await remapsOf(target), [])
  t.equal(target.pool.free, free)
  t.equal(target.relocations.size, 0)
  t.equal(target.lock.size, 0)
}

void t.test('a range is remapped with its content, widened to blocks, and moved back', async (t) => {
  const rig = await createRig()
  const { target } = rig
  t.same(await add(rig, { mainSector: 13, sectors: 20 }), { blocks: 4, skipped: 0 })
  t.same(await placesOf(target), [[8, 0, 32]])
  t.same(rig.events.at(-1), [
    'REMAP_ADDED',
    { 'main-sector': 8, spare: 'spare', 'spare-sector': 0, sectors: 32, reason: 'operator', 'lost-sectors': 0 },
  ])
  rig.mainBytes.fill(0, BLOCK, 5 * BLOCK)
  t.same(await readFrom(target, 0, 6 * BLOCK), pattern(0, 6 * BLOCK), 'it is read from the spare')
  await target.write(2 * BLOCK, [Buffer.alloc(BLOCK, 7)])
  t.same(await remove(rig, 8, 32), { blocks: 4, kept: 0 })
  t.same(await remapsOf(target), [])
  t.same(rig.mainBytes.subarray(2 * BLOCK, 3 * BLOCK), Buffer.alloc(BLOCK, 7))
  t.same(rig.mainBytes.subarray(3 * BLOCK, 5 * BLOCK), pattern(3 * BLOCK, 2 * BLOCK))
  t.same(rig.events.at(-1), ['REMAP_REMOVED', { 'main-sector': 8, spare: 'spare', 'spare-sector': 0, sectors: 32 }])
  const again = await rig.reopen()
  t.same(await remapsOf(again.target), [], 'also after a crash')
  t.equal(again.target.pool.free, again.target.pool.total)
})

void t.test('scattered blocks are written to the spare many at a time, each where it belongs', async (t) => {
  const rig = await createRig({ mainSize: 2 * MiB, spareSize: 11 * MiB })
  const { target } = rig
  const member = spareOf(target)
  const { device } = member.spare
  rig.spare.add({
    operations: ['write'],
    start: member.dataOffset(100 as never),
    end: member.dataOffset(101 as never),
    code: 'EIO',
  })
  const write = device.write.bind(device)
  let writes = 0
  device.write = (offset, chunks, options) => {
    if (offset >= member.dataOffset(0 as never)) writes++
    return write(offset, chunks, options)
  }
  const blocks = target.size / BLOCK
  const ranges = Array.from({ length: blocks / 2 }, (_, n) => ({ mainSector: n * 16 + 8, sectors: 8 }))
  t.same(await addAll(rig, ranges), { blocks: blocks / 2, skipped: 0 })
  // The part with the block that cannot be written is written block by block.
  t.ok(writes < 100, `${writes} writes for ${blocks / 2} blocks`)
  rig.mainBytes.fill(0)
  for (let n = 1; n < blocks; n += 2) {
    const content = await readFrom(target, n * BLOCK, BLOCK)
    if (!content.equals(pattern(n * BLOCK, BLOCK))) t.fail(`block ${n} reads as something else`)
  }
})

void t.test('the operator may choose the place, and may do without the content', async (t) => {
  const rig = await createRig()
  const { target } = rig
  const slots = target.pool.total
  await add(rig, { mainSector: 80, sectors: 16, spareSector: (slots - 2) * 8 })
  t.same(await placesOf(target), [[80, (slots - 2) * 8, 16]])
  rig.spareBytes.fill(0x5a, spareOf(target).dataOffset(3 as never), spareOf(target).dataOffset(4 as never))
  await add(rig, { mainSector: 0, sectors: 8, spareSector: 24 }, { copy: false })
  t.same(await readFrom(target, 0, BLOCK), Buffer.alloc(BLOCK, 0x5a))
  await t.rejects(add(rig, { mainSector: 8, sectors: 8, spareSector: 24 }), { message: 'spare sector 24 is in use' })
  await t.rejects(add(rig, { mainSector: 8, sectors: 16, spareSector: 16 }), /spare sector 24 is in use/)
  t.equal(target.pool.free, slots - 3, 'what the refused one had taken was given back')
})

void t.test('requests that cannot be are refused, and change nothing', async (t) => {
  const rig = await createRig()
  const { target } = rig
  const free = target.pool.total
  const total = free * 8
  const refused: [BatchRange, RegExp][] = [
    [{ mainSector: 512, sectors: 8 }, /main-sector 512 and sectors 8 leave the main disk, which has 512 sectors/],
    [{ mainSector: 504, sectors: 9 }, /leave the main disk/],
    [{ mainSector: 0, sectors: 2 ** 53 - 1 }, /leave the main disk/],
    [{ mainSector: 2 ** 53, sectors: 8 }, /main-sector 9007199254740992 is not a sector number/],
    [{ mainSector: -8, sectors: 8 }, /main-sector -8 is not a sector number/],
    [{ mainSector: 0.5, sectors: 8 }, /main-sector 0.5 is not a sector number/],
    [{ mainSector: 0, sectors: 0 }, /sectors must be a whole number from 1 on, not 0/],
    [{ mainSector: 0, sectors: -1 }, /sectors must be a whole number from 1 on, not -1/],
    [{ mainSector: 0, sectors: 1.5 }, /sectors must be a whole number from 1 on, not 1.5/],
    [{ mainSector: 0, sectors: NaN }, /sectors must be a whole number/],
    [{ mainSector: 0, sectors: 8, spareSector: 4 }, /spare-sector 4 is not at the start of a block of 8 sectors/],
    [{ mainSector: 0, sectors: 8, spareSector: -8 }, /spare-sector -8 is not a sector number/],
    [{ mainSector: 0, sectors: 16, spareSector: total - 8 }, /leaves the spare's data area, which has \d+ sectors/],
    [{ mainSector: 0, sectors: 8, spareSector: 2 ** 53 - 8 }, /leaves the spare's data area/],
    [{ mainSector: 0, sectors: 8, spareSector: 0, lost: true }, /lost sectors take no spare-sector/],
  ]
  for (const [range, message] of refused) {
    t.throws(() => batchOf(target, range), { name: 'RemapRequestError', message }, JSON.stringify(range))
  }
  await t.rejects(remove(rig, 0, 8), { message: 'main sector 0 is not remapped' })
  await add(rig, { mainSector: 16, sectors: 8 })
  await t.rejects(add(rig, { mainSector: 0, sectors: 100 }), { message: 'main sector 16 is remapped already' })
  await t.rejects(remove(rig, 8, 16), { message: 'main sector 8 is not remapped' })
  t.same(await placesOf(target), [[16, 0, 8]])
  await remove(rig, 16, 1)
  await assertUntouched(t, rig, free)
})

void t.test('one bad line in a batch refuses it all, by its number', async (t) => {
  const rig = await createRig()
  const { target } = rig
  const { free } = target.pool
  await add(rig, { mainSector: 400, sectors: 8 })
  const lines = (ranges: readonly Omit<BatchRange, 'line'>[]) => ranges.map((range, n) => ({ ...range, line: n + 10 }))
  const refused: [Omit<BatchRange, 'line'>[], string][] = [
    [
      [
        { mainSector: 0, sectors: 8 },
        { mainSector: 4, sectors: 8 },
        { mainSector: 16, sectors: 1 },
      ],
      'line 11: main-sector 4 and sectors 8 overlap line 10',
    ],
    [
      [
        { mainSector: 16, sectors: 8 },
        { mainSector: 0, sectors: 8 },
      ],
      'line 11: main-sector 0 stands behind a later one: ranges must be in ascending order',
    ],
    [
      [
        { mainSector: 0, sectors: 8 },
        { mainSector: 8, sectors: 600 },
      ],
      'line 11: main-sector 8 and sectors 600 leave the main disk, which has 512 sectors',
    ],
    [
      [
        { mainSector: 0, sectors: 8 },
        { mainSector: 390, sectors: 20 },
        { mainSector: 480, sectors: 8 },
      ],
      'line 11: main sector 400 is remapped already',
    ],
    [
      [
        { mainSector: 0, sectors: 8, spareSector: 800 },
        { mainSector: 16, sectors: 8 },
        { mainSector: 32, sectors: 8, spareSector: 800 },
      ],
      'line 12: spare sector 800 is in use',
    ],
    [
      [
        { mainSector: 0, sectors: 9, spareSector: 800 },
        { mainSector: 9, sectors: 8, spareSector: 160 },
      ],
      'line 11: the block of main sector 9 was given another place before',
    ],
  ]
  for (const [ranges, message] of refused) {
    await t.rejects(async () => addAll(rig, lines(ranges)), { name: 'RemapRequestError', message })
  }
  await remove(rig, 400, 8)
  await assertUntouched(t, rig, free)
})

void t.test('blocks that are remapped already can be left out', async (t) => {
  const rig = await createRig()
  await add(rig, { mainSector: 16, sectors: 8 })
  t.same(await add(rig, { mainSector: 0, sectors: 40 }, { skipRemapped: true }), { blocks: 4, skipped: 1 })
  t.same(await add(rig, { mainSector: 0, sectors: 40 }, { skipRemapped: true }), { blocks: 0, skipped: 5 })
  t.same(await readFrom(rig.target, 0, 5 * BLOCK), pattern(0, 5 * BLOCK))
})

void t.test('when the spare has too few blocks nothing is remapped', async (t) => {
  const rig = await createRig({ mainSize: 4 * MiB })
  const { free } = rig.target.pool
  t.ok(free < 1024)
  await t.rejects(add(rig, { mainSector: 0, sectors: 8192 }), {
    message: `1024 spare blocks are needed and ${free} are free: add a spare, or remap less`,
  })
  await assertUntouched(t, rig, free)
})

void t.test('unreadable sectors are lost, and only they; what is known to be lost is not read', async (t) => {
  const rig = await createRig()
  const { target, main } = rig
  main.add(badSectors(['read'], 9, 2))
  await add(rig, { mainSector: 8, sectors: 8 })
  t.same((await listLost(target, ALL)).ranges, [{ mainSector: 9, sectors: 2 }])
  await addAll(rig, [
    { mainSector: 80, sectors: 8, spareSector: 160 },
    { mainSector: 82, sectors: 3, lost: true },
    { mainSector: 100, sectors: 1, lost: true },
  ])
  t.same(await listLost(target, { fromSector: 10, limit: 2 }), {
    ranges: [
      { mainSector: 9, sectors: 2 },
      { mainSector: 82, sectors: 3 },
    ],
    total: 3,
  })
  t.same(await readFrom(target, 80 * 512, 1024), pattern(80 * 512, 1024))
  for (const sector of [82, 83, 84, 100]) {
    await t.rejects(readFrom(target, sector * 512, 512), { code: 'EIO' }, `sector ${sector}`)
  }
  t.same(await readFrom(target, 85 * 512, 15 * 512), pattern(85 * 512, 15 * 512))
  await target.write(82 * 512, [Buffer.alloc(3 * 512, 9)])
  t.same(await readFrom(target, 82 * 512, 3 * 512), Buffer.alloc(3 * 512, 9))
  const again = await rig.reopen()
  t.same((await listLost(again.target, ALL)).ranges, [
    { mainSector: 9, sectors: 2 },
    { mainSector: 100, sectors: 1 },
  ])
})

void t.test('a block with lost sectors is not moved back until they are written', async (t) => {
  const rig = await createRig()
  const { target } = rig
  await addAll(rig, [
    { mainSector: 0, sectors: 8 },
    { mainSector: 9, sectors: 1, lost: true },
  ])
  await t.rejects(remove(rig, 0, 16), /^main sector 8: some of its sectors are lost: write them first/)
  t.same(await clearRemaps(target), { blocks: 1, kept: 1 })
  await target.write(9 * 512, [Buffer.alloc(512, 1)])
  t.same(await clearRemaps(target), { blocks: 1, kept: 0 })
  t.same(await remapsOf(target), [])
})

void t.test('a main block that is still bad keeps its remap, and with it all of its request', async (t) => {
  for (const [operations, message] of [
    [['write'], /^main sector 16: the main disk still cannot be written there \(EIO\): the remap stays/],
    [['read'], /^main sector 16: the main disk still cannot be read there \(EIO\): the remap stays/],
  ] as const) {
    const rig = await createRig()
    const { target, main } = rig
    await add(rig, { mainSector: 0, sectors: 64 })
    await target.write(0, [Buffer.alloc(8 * BLOCK, 3)])
    main.add(badSectors(operations, 17))
    await t.rejects(remove(rig, 0, 64), { name: 'RemapRequestError', message })
    t.same(await placesOf(target), [[0, 0, 64]])
    t.same(await readFrom(target, 0, 8 * BLOCK), Buffer.alloc(8 * BLOCK, 3))
    t.same(await clearRemaps(target), { blocks: 7, kept: 1 })
    t.same(await placesOf(target), [[16, 16, 8]])
    t.same(await readFrom(target, 0, 8 * BLOCK), Buffer.alloc(8 * BLOCK, 3))
    main.clear()
    await clearRemaps(target)
    t.same((await rig.reopen()).mainBytes.subarray(0, 8 * BLOCK), Buffer.alloc(8 * BLOCK, 3))
  }
})

void t.test('a main disk that says it has written, and has not, keeps its remaps', async (t) => {
  const rig = await createRig()
  const { target } = rig
  await add(rig, { mainSector: 0, sectors: 16 })
  await target.write(0, [Buffer.alloc(2 * BLOCK, 3)])
  const { main } = target
  const write = main.write.bind(main)
  main.write = (offset, chunks) => (offset === 0 ? undefined : write(offset, chunks))
  await t.rejects(remove(rig, 0, 16), /main sector 0: the main disk reads something else than was written there/)
  t.same(await placesOf(target), [[0, 0, 16]])
})

void t.test('a spare block that cannot be written is replaced, unless it was the one asked for', async (t) => {
  const rig = await createRig()
  const { target, spare } = rig
  const bad = spareOf(target).dataOffset(1 as never)
  spare.add({ operations: ['write'], start: bad, end: bad + 1, code: 'EIO' })
  await t.rejects(add(rig, { mainSector: 8, sectors: 8, spareSector: 8 }), /spare sector 8 cannot be written/)
  t.same(await add(rig, { mainSector: 0, sectors: 32 }), { blocks: 4, skipped: 0 })
  t.equal(spareOffsetOf(target, 1), spareOf(target).dataOffset(4 as never))
  t.equal(target.pool.get(1 as never).state, 'retired')
  t.same(await readFrom(target, 0, 4 * BLOCK), pattern(0, 4 * BLOCK))
})

void t.test('a disk that fails in the middle leaves everything as it was', async (t) => {
  const rig = await createRig({ mainSize: 4 * MiB, spareSize: 16 * MiB })
  const { target, spare, main } = rig
  const { free } = target.pool
  spare.add({ operations: ['write'], start: spareOf(target).dataOffset(500 as never), end: spare.size, code: 'ENODEV' })
  await t.rejects(add(rig, { mainSector: 0, sectors: 8000 }), { name: 'RemapRequestError', message: /ENODEV/ })
  await assertUntouched(t, rig, free)
  spare.clear()
  main.add({ operations: ['read'], start: 2 * MiB, end: main.size, code: 'ETIMEDOUT' })
  await t.rejects(add(rig, { mainSector: 0, sectors: 8000 }), /ETIMEDOUT/)
  await assertUntouched(t, rig, free)
  main.clear()
  await add(rig, { mainSector: 0, sectors: 8000 })
  spare.add({ operations: ['flush'], start: 0, end: spare.size, code: 'EIO', times: 1 })
  await t.rejects(remove(rig, 0, 8000), /EIO/)
  t.equal(target.table.count, 1000, 'the slots were not freed')
  t.same(await readFrom(target, 0, MiB), pattern(0, MiB))
  t.same(await clearRemaps(target), { blocks: 1000, kept: 0 })
  await assertUntouched(t, rig, free)
})

void t.test('of two requests for the same blocks the second is refused while the first is going on', async (t) => {
  const rig = await createRig({ mainSize: 4 * MiB, spareSize: 16 * MiB })
  const { target } = rig
  const first = add(rig, { mainSector: 0, sectors: 4096 })
  while (target.relocations.size === 0) await new Promise((resolve) => setImmediate(resolve))
  await t.rejects(
    addAll(rig, [
      { mainSector: 4000, sectors: 8, line: 1 },
      { mainSector: 4048, sectors: 8, line: 2 },
    ]),
    /^line 1: main sector 4000 is being moved by another request: try again when it is done/,
  )
  const other = add(rig, { mainSector: 4096, sectors: 4096 })
  t.same(await Promise.all([first, other]), [
    { blocks: 512, skipped: 0 },
    { blocks: 512, skipped: 0 },
  ])
})

void t.test('clients read and write all the time while blocks move there and back', async (t) => {
  const random = seededRandom(t)
  const size = 8 * MiB
  const rig = await createRig({ mainSize: size, spareSize: 32 * MiB })
  const { target } = rig
  const model = Buffer.from(rig.mainBytes)
  let isOver = false
  let requests = 0
  const client = async (first: number, end: number): Promise<void> => {
    while (!isOver) {
      const offset = first + random.below(end - first)
      const length = Math.min(random.between(1, 20_000), end - offset)
      if (random.below(2) === 0) {
        const data = random.bytes(length)
        data.copy(model, offset)
        await target.write(offset, [data])
      } else {
        const into = Buffer.alloc(length)
        await target.read(offset, into)
        if (!into.equals(model.subarray(offset, offset + length))) throw new Error(`offset ${offset}, length ${length}`)
      }
      requests++
      if (random.below(20) === 0) await target.flush()
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  // Each has a part of its own, so that the model needs no order.
  const clients = Array.from({ length: 8 }, (_, n) => client((n * size) / 8, ((n + 1) * size) / 8))
  for (let round = 0; round < 6; round++) {
    const ranges: BatchRange[] = []
    for (let sector = random.below(20); sector < 16_000; sector += random.between(20, 200)) {
      const sectors = random.between(1, 60)
      ranges.push({ mainSector: sector, sectors: Math.min(sectors, 16_384 - sector) })
      sector += sectors + 8
    }
    const { blocks } = await addAll(rig, ranges, { skipRemapped: true })
    t.ok(blocks > 0)
    t.same(await clearRemaps(target), { blocks, kept: 0 }, `SEED=${random.seed} round ${round}`)
    await add(rig, { mainSector: 0, sectors: 16_384 })
    await remove(rig, random.below(8000), 8000)
    await clearRemaps(target)
  }
  isOver = true
  await Promise.all(clients)
  t.ok(requests > 100, `${requests} requests`)
  t.ok(rig.mainBytes.equals(model), 'main has it all')
  t.same([target.table.count, target.pool.free], [0, target.pool.total])
})

void t.test('many ranges are one event, and long work tells its progress', async (t) => {
  const rig = await createRig({ mainSize: 8 * MiB, spareSize: 32 * MiB })
  const ranges = Array.from({ length: 100 }, (_, n) => ({ mainSector: n * 16, sectors: 8 }))
  await addAll(rig, ranges)
  const told = rig.events.filter(([name]) => name.startsWith('REMAP'))
  t.same(told, [['REMAP_BATCH', { operation: 'add', ranges: 100, blocks: 100 }]])
  await clearRemaps(rig.target)
  t.same(rig.events.at(-1), ['REMAP_BATCH', { operation: 'remove', ranges: 100, blocks: 100 }])
})

void t.test('pages of the list are in order, whatever the order of the slots', async (t) => {
  const rig = await createRig({ mainSize: 8 * MiB, spareSize: 32 * MiB })
  const { target } = rig
  for (const mainSector of [800, 80, 8000, 88, 160, 4000]) await add(rig, { mainSector, sectors: 8 })
  t.same(await placesOf(target), [
    [80, 8, 8],
    [88, 24, 8],
    [160, 32, 8],
    [800, 0, 8],
    [4000, 40, 8],
    [8000, 16, 8],
  ])
  const page = await listRemaps(target, { fromSector: 95, limit: 3 })
  t.same([page.total, page.ranges.map(({ mainSector }) => mainSector)], [6, [88, 160, 800]])
  const many = Array.from({ length: 700 }, (_, n) => ({ mainSector: 8192 + n * 8, sectors: 8 }))
  await addAll(
    rig,
    many.filter((_, n) => n % 2 === 0),
  )
  const { ranges, total } = await listRemaps(target, { fromSector: 0, limit: 10 })
  t.same([total, ranges.length, ranges.at(-1)?.mainSector], [356, 10, 8240])
})

void t.test('however many blocks are remapped, others have their turn meanwhile', async (t) => {
  const BLOCKS = 20_000
  const main = new SparseDevice(BLOCKS * BLOCK, 'main')
  const disks = { main: asDisk(main, 'main'), spares: [asDisk(new SparseDevice(BLOCKS * BLOCK + 32 * MiB), 'spare')] }
  await formatPair(disks, { force: false, log: silentLog })
  const options = { policy: POLICY, acceptMain: false, emit: () => undefined, log: silentLog }
  const pair = await Pair.open(disks, options)
  const { target } = pair
  const { pool, table } = target
  const range = { mainSector: 0, sectors: BLOCKS * 8 }
  /** Blocks that got their slots, or changed over, in one turn of the event loop. */
  let [inOneTurn, freeBefore, countBefore] = [0, pool.free, 0]
  let isDone = false
  const watch = (): void => {
    inOneTurn = Math.max(inOneTurn, freeBefore - pool.free, Math.abs(table.count - countBefore))
    ;[freeBefore, countBefore] = [pool.free, table.count]
    if (!isDone) setImmediate(watch)
  }
  watch()
  t.same(await addRemaps(target, batchOf(target, range), { ...OPTIONS, copy: false }), { blocks: BLOCKS, skipped: 0 })
  isDone = true
  t.ok(inOneTurn < BLOCKS / 5, `${inOneTurn} of ${BLOCKS} blocks in one turn`)
  t.comment(`${inOneTurn} of ${BLOCKS} blocks in one turn`)
  await pair.close()
  const again = await Pair.open(disks, options)
  t.equal(again.target.table.count, BLOCKS, 'all of them are there at the next start')
  await again.close()
})
