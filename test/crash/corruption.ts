/**
 * Damage to the metadata of a pair that is not being served: flipped bits, zeros, garbage, copies of an earlier time put
 * back, copies in each other's places, a shorter disk; on any subset of the copies. Either the pair is opened, with everything
 * right and repaired, or it is refused with a message that says what is damaged.
 */
import { HEADER_OFFSETS, PAGE_SIZE, pageDamage, pageSequence, decodeHeader } from '../../src/spare/format.js'
import { verifySpare } from '../../src/spare/verify.js'
import { RefusedError } from '../../src/util/errors.js'
import type { Random } from '../../src/util/random.js'
import { SECTOR_SIZE } from '../../src/util/units.js'
import { crashPoints } from './crash-states.js'
import { BrokenPromise, firstWrong } from './aftermath.js'
import { Life } from './life.js'
import { formatted, geometryOf, Machine, NO_RULES, readSectors } from './machine.js'
import type { Model } from './model.js'
import { copyImages, readImage, setSector, ZERO_SECTOR, type Image, type Images } from './simulated-disk.js'
import { describeStep, drawShape, drawSteps, FLAVOURS, type Shape, type Step } from './steps.js'

/** A pair on the shelf, and what it held at earlier times. */
export interface Shelf {
  readonly shape: Shape
  readonly steps: readonly Step[]
  readonly images: Images
  readonly earlier: readonly Image[]
  readonly model: Model
  readonly time: number
}

export type Outcome = 'opened' | 'refused' | 'beyond notice'

/** The right message says what is damaged, or what to do. */
const SAYS_WHAT =
  /spare .*(header|slot page|slot table|truncated|formatted|blank|layout)|content is not what it was when the pair was last stopped/

export async function drawShelf(random: Random): Promise<Shelf> {
  const [soundMetadata] = FLAVOURS
  const { blockSize, sectors, slots, firstSlot } = drawShape(random)
  const shape = { blockSize, sectors, slots, firstSlot }
  const steps: Step[] = [...drawSteps(random, shape, soundMetadata!), { do: 'heal' }]
  steps.push(random.below(2) === 0 ? { do: 'kill', after: 0 } : { do: 'stop' })
  const life = new Life(shape, await formatted(shape, random), random)
  await life.live(steps)
  if (steps.at(-1)?.do === 'stop') await life.end()
  const { start, journal, model } = life.chapters.at(-1)!
  const times = new Set(random.sample(Math.min(4, journal.now + 1), journal.now + 1))
  const earlier: Image[] = []
  for (const point of crashPoints(start, journal)) {
    if (times.has(point.time)) earlier.push(point.images([...point.choices(1, random)][0] ?? []).spare)
  }
  return { shape, steps, images: copyImages(life.images), earlier, model, time: journal.now }
}

/** @throws BrokenPromise */
export async function tryCorruption(shelf: Shelf, random: Random): Promise<Outcome> {
  const { shape, model, time } = shelf
  const images = copyImages(shelf.images)
  const { words, spareSize } = corrupt(images.spare, shelf, random)
  const broken = (what: string): BrokenPromise =>
    new BrokenPromise([what, JSON.stringify(shape), ...shelf.steps.map(describeStep), ...words].join('\n    '))
  const isBeyond = wentBackTogether(images.spare, shelf)
  const machine = new Machine(shape, images, NO_RULES, random, spareSize)
  let pair
  try {
    pair = await machine.open()
  } catch (error) {
    if (error instanceof RefusedError && SAYS_WHAT.test(error.message)) return 'refused'
    throw broken(`it is refused without a word of what is damaged, or crashes: ${String(error)}`)
  }
  const wrong = firstWrong(model, await readSectors(pair, shape), time, 'killed')
  if (isBeyond) return 'beyond notice'
  if (wrong !== undefined) throw broken(wrong)
  const { problems } = await verifySpare(machine.disk('spare'))
  if (problems.length > 0) throw broken(`it was opened and not repaired: ${problems.join('; ')}`)
  return 'opened'
}

/** Where the copies of one structure stand. */
interface Place {
  readonly name: string
  readonly offset: number
}

function placesOf(shape: Shape): Place[] {
  const { slotTableOffsets, slotPages } = geometryOf(shape)
  const pages = Array.from({ length: Math.min(slotPages, 4) }, (_, page) => page)
  return [
    ...HEADER_OFFSETS.map((offset, copy) => ({ name: `header copy ${copy}`, offset })),
    ...slotTableOffsets.flatMap((table, copy) =>
      pages.map((page) => ({ name: `page ${page}, copy ${copy}`, offset: table + page * PAGE_SIZE })),
    ),
  ]
}

/** @returns what was done, in words */
export function corrupt(spare: Image, shelf: Shelf, random: Random): { words: string[]; spareSize: number } {
  const places = placesOf(shelf.shape)
  const { spareSize } = geometryOf(shelf.shape)
  if (random.below(100) === 0) {
    const size = spareSize - random.pick([1, 512, PAGE_SIZE, random.between(1, spareSize)])
    for (const sector of [...spare.keys()]) if ((sector + 1) * SECTOR_SIZE > size) spare.delete(sector)
    return { words: [`the spare has ${size} bytes of ${spareSize}`], spareSize: size }
  }
  const words: string[] = []
  const ways = [flip, zero, garbage, putBack, misdirect, swap]
  // One way for many copies at once is what real accidents are like, besides any mixture.
  const one = random.below(2) === 0 ? random.pick(ways) : undefined
  const count = random.pick([1, 2, 3, random.between(1, places.length)])
  for (const place of random.shuffle(places).slice(0, count)) {
    words.push((one ?? random.pick(ways))(spare, place, { places, random, earlier: shelf.earlier }))
  }
  return { words, spareSize }
}

interface Means {
  readonly places: readonly Place[]
  readonly random: Random
  readonly earlier: readonly Image[]
}

type Way = (spare: Image, place: Place, means: Means) => string

const flip: Way = (spare, { name, offset }, { random }) => {
  const page = read(spare, offset)
  const at = random.below(random.pick([PAGE_SIZE, 128]))
  page[at]! ^= 1 << random.below(8)
  write(spare, offset, page)
  return `a bit of byte ${at} of ${name} is flipped`
}

const zero: Way = (spare, { name, offset }, { random }) => {
  const page = read(spare, offset)
  const [from, to] = rangeIn(random)
  page.fill(0, from, to)
  write(spare, offset, page)
  return `bytes ${from} to ${to} of ${name} are zeros`
}

const garbage: Way = (spare, { name, offset }, { random }) => {
  const page = read(spare, offset)
  const [from, to] = rangeIn(random)
  random.bytes(to - from).copy(page, from)
  write(spare, offset, page)
  return `bytes ${from} to ${to} of ${name} are garbage`
}

const putBack: Way = (spare, { name, offset }, { random, earlier }) => {
  const number = random.below(earlier.length)
  write(spare, offset, read(earlier[number]!, offset))
  return `${name} is what it was at earlier time ${number}`
}

const misdirect: Way = (spare, { name, offset }, { random, places }) => {
  const from = random.pick(places)
  write(spare, offset, read(spare, from.offset))
  return `${from.name} stands in the place of ${name}`
}

const swap: Way = (spare, { name, offset }, { random, places }) => {
  const other = random.pick(places)
  const [a, b] = [read(spare, offset), read(spare, other.offset)]
  write(spare, offset, b)
  write(spare, other.offset, a)
  return `${name} and ${other.name} have changed places`
}

function rangeIn(random: Random): [number, number] {
  if (random.below(3) === 0) return [0, PAGE_SIZE]
  const from = random.below(PAGE_SIZE)
  return [from, random.between(from + 1, PAGE_SIZE)]
}

function read(image: Image, offset: number): Buffer {
  const page = Buffer.alloc(PAGE_SIZE)
  readImage(image, offset, page)
  return page
}

function write(image: Image, offset: number, page: Buffer): void {
  for (let at = 0; at < PAGE_SIZE; at += SECTOR_SIZE) {
    const sector = page.subarray(at, at + SECTOR_SIZE)
    setSector(image, (offset + at) / SECTOR_SIZE, sector.equals(ZERO_SECTOR) ? ZERO_SECTOR : Buffer.from(sector))
  }
}

/**
 * Whether all that is left of some page is of one earlier time, and no header is left that was written since: then there is
 * nothing on the disk that could tell. A clean stop writes the header last.
 */
export function wentBackTogether(spare: Image, { shape, images }: Shelf): boolean {
  const header = decodeHeader(read(images.spare, 0), 0)
  if (header.kind !== 'valid') return true
  const { sequence, clean } = header.header
  const isLeft = HEADER_OFFSETS.some((offset, copy) => {
    const found = decodeHeader(read(spare, offset), copy)
    return found.kind === 'valid' && found.header.sequence === sequence
  })
  if (clean && isLeft) return false
  const { slotTableOffsets, slotPages } = geometryOf(shape)
  for (let page = 0; page < Math.min(slotPages, 4); page++) {
    const sequences = slotTableOffsets.flatMap((table, copy) => {
      const found = read(spare, table + page * PAGE_SIZE)
      const isIntact = pageDamage(found, { uuid: header.header.uuid, page, copy }) === undefined
      return isIntact ? [pageSequence(found)] : []
    })
    const right = pageSequence(read(images.spare, slotTableOffsets[0] + page * PAGE_SIZE))
    if (sequences.length > 0 && !sequences.includes(right)) return true
  }
  return false
}
