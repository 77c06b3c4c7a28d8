/**
 * Power cuts at every moment while the metadata of a damaged spare is repaired or imported. A repair leaves things no worse; what an
 * import leaves is refused, or right, and is right when it is run again. TOOL_STATES says how many states to visit of each (800).
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { exportSpare } from '../../src/spare/export.js'
import { SpareImport } from '../../src/spare/import.js'
import { SpareRepair } from '../../src/spare/repair.js'
import { RefusedError } from '../../src/util/errors.js'
import { silentLog } from '../../src/util/log.js'
import { Random } from '../../src/util/random.js'
import { newFolder } from '../support/cli.js'
import { firstWrong } from './aftermath.js'
import { corrupt, drawShelf, wentBackTogether, type Shelf } from './corruption.js'
import { crashPoints } from './crash-states.js'
import { Machine, NO_RULES, readSectors } from './machine.js'
import { copyImages, type Images } from './simulated-disk.js'

t.setTimeout(600_000)

const STATES = Number(process.env['TOOL_STATES'] ?? 800)
const PER_POINT = 3

/** @returns what is wrong; `undefined`: everything is right; `refused` */
async function outcomeOf({ shape, model, time }: Shelf, images: Images, random: Random): Promise<string | undefined> {
  const machine = new Machine(shape, copyImages(images), NO_RULES, random)
  try {
    const pair = await machine.open()
    return firstWrong(model, await readSectors(pair, shape), time, 'killed')
  } catch (error) {
    if (error instanceof RefusedError) return 'refused'
    throw error
  }
}

/** A damaged spare, of which not all that is left is of an earlier time. */
function damaged(shelf: Shelf, random: Random): Images {
  for (;;) {
    const images = copyImages(shelf.images)
    const { spareSize } = corrupt(images.spare, shelf, random)
    const { shape } = shelf
    const machine = new Machine(shape, images, NO_RULES, random)
    if (spareSize === machine.disk('spare').size && !wentBackTogether(images.spare, shelf)) return images
  }
}

function* statesOf(start: Images, machine: Machine, random: Random): Generator<Images> {
  for (const point of crashPoints(start, machine.journal)) {
    for (const choice of point.choices(PER_POINT, random)) yield point.images(choice)
  }
}

void t.test('a repair that is cut off leaves things no worse', async (t) => {
  const given = process.env['SEED'] ?? new Random().seed
  t.comment(`SEED=${given}`)
  let states = 0
  for (let n = 0; states < STATES; n++) {
    const random = new Random(`${given}/${n}`)
    const shelf = await drawShelf(random)
    const start = damaged(shelf, random)
    const before = await outcomeOf(shelf, start, random)
    const machine = new Machine(shelf.shape, copyImages(start), NO_RULES, random)
    try {
      const repair = await SpareRepair.plan(machine.disk('spare'), silentLog)
      if (repair.plan.isIntact || repair.lostPages.length > 0) continue
      t.same(await repair.apply(), [], `SEED=${given}/${n}: nothing is wrong afterwards`)
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error
      continue
    }
    for (const images of statesOf(start, machine, random)) {
      states++
      const outcome = await outcomeOf(shelf, images, random)
      if (outcome !== before) t.equal(outcome, before, `SEED=${given}/${n}`)
    }
  }
  t.comment(`crash states of repairs visited: ${states}`)
})

void t.test('an import that is cut off is refused, or right, and right when it is run again', async (t) => {
  const given = process.env['SEED'] ?? new Random().seed
  t.comment(`SEED=${given}`)
  const path = join(newFolder(t), 'export')
  let states = 0
  for (let n = 0; states < STATES; n++) {
    const random = new Random(`${given}/${n}`)
    const shelf = await drawShelf(random)
    const importTo = async (machine: Machine): Promise<void> => {
      const found = await SpareImport.plan(machine.disk('spare'), path)
      await found.apply(silentLog)
      await found.close()
    }
    rmSync(path, { force: true })
    await exportSpare(new Machine(shelf.shape, copyImages(shelf.images), NO_RULES, random).disk('spare'), path)
    const start = damaged(shelf, random)
    const machine = new Machine(shelf.shape, copyImages(start), NO_RULES, random)
    try {
      await importTo(machine)
    } catch (error) {
      // Copies that contradict each other about whose spare it is.
      if (!(error instanceof RefusedError)) throw error
      continue
    }
    t.equal(await outcomeOf(shelf, machine.images, random), undefined, `SEED=${given}/${n}: it is right`)
    for (const images of statesOf(start, machine, random)) {
      states++
      const outcome = await outcomeOf(shelf, images, random)
      if (outcome !== undefined && outcome !== 'refused') t.fail(`SEED=${given}/${n}: ${outcome}`)
      if (outcome !== 'refused' || random.below(4) > 0) continue
      const again = new Machine(shelf.shape, copyImages(images), NO_RULES, random)
      await importTo(again)
      const wrong = await outcomeOf(shelf, again.images, random)
      if (wrong !== undefined) t.equal(wrong, undefined, `SEED=${given}/${n}: run again`)
    }
  }
  t.comment(`crash states of imports visited: ${states}`)
})
