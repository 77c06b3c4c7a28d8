/** What happens in a history: a list of plain values, so that a failing one can be cut down and printed. */
import type { Random } from '../../src/util/random.js'
import type { DiskName, SpareName } from './simulated-disk.js'

export interface Shape {
  readonly blockSize: number
  /** Sectors of the main disk. */
  readonly sectors: number
  /** Data blocks of the spare. */
  readonly slots: number
  /** The first of them that is handed out: those before are taken. So slots stand in any sector and page of the table. */
  readonly firstSlot: number
  /** A second spare, in the pool from the beginning or blank; absent: there is none. */
  readonly second?: { readonly slots: number; readonly isMember: boolean }
}

export type Operation = 'read' | 'write'

export type Request =
  | {
      readonly do: 'write' | 'zero'
      readonly sector: number
      readonly sectors: number
      readonly fua: boolean
      /** Leaves out so many bytes at both ends. */
      readonly inset: number
    }
  | { readonly do: 'trim' | 'read'; readonly sector: number; readonly sectors: number }
  | { readonly do: 'flush' }
  /** An operator's remap; `slot`: to this very spare block, if it is free. */
  | { readonly do: 'add'; readonly block: number; readonly blocks: number; readonly slot?: number }
  /** Moves blocks back to main. */
  | { readonly do: 'remove'; readonly block: number; readonly blocks: number }
  /** Reads the whole disk in the background, and repairs. */
  | { readonly do: 'scrub' }
  /** All copies of the metadata are compared with memory, and rewritten if need be. */
  | { readonly do: 'check' }
  /** Everything on one of two spares moves to the other one, and it leaves the pool. */
  | { readonly do: 'drain'; readonly spare: SpareName }
  /** A spare that is not in the pool is formatted and taken into it. */
  | { readonly do: 'join'; readonly spare: SpareName }
  /** Clean stop and start. */
  | { readonly do: 'stop' }
  /** Writes of whole blocks at the same time, and something beside them. */
  | { readonly do: 'burst'; readonly blocks: readonly number[]; readonly beside?: Request }

export type Step =
  | Request
  | {
      readonly do: 'main-fault'
      readonly operations: readonly Operation[]
      readonly sector: number
      readonly sectors: number
    }
  /** The spare block of the `nth` remap, or, without one, the next free spare block. */
  | { readonly do: 'spare-fault'; readonly operations: readonly Operation[]; readonly nth?: number }
  | {
      readonly do: 'metadata-fault'
      readonly spare: SpareName
      readonly structure: 'header' | 'page'
      readonly operations: readonly Operation[]
      readonly copy: number
      readonly page: number
    }
  /** The next flush of this disk fails. */
  | { readonly do: 'flush-fault'; readonly disk: DiskName }
  | { readonly do: 'heal' }
  /** The server is killed, between requests or `after` so many writes and flushes of one, and started again. */
  | { readonly do: 'kill'; readonly within?: Request; readonly after: number }
  /** The same between requests, and one copy of every structure decays meanwhile. */
  | { readonly do: 'decay' }
  /** Another server takes the pair over while this one runs, which then has a write for a block that main cannot take. */
  | { readonly do: 'take-over'; readonly block: number }
  /** A power cut; `seed` says what survives it. */
  | { readonly do: 'cut'; readonly within?: Request; readonly after: number; readonly seed: number }

/** Histories of a kind: which faults there are decides what may be asked of the outcome. */
export interface Flavour {
  readonly name: string
  readonly metadataFaults: boolean
  readonly flushFaults: boolean
}

export const FLAVOURS: readonly Flavour[] = [
  { name: 'bad blocks', metadataFaults: false, flushFaults: false },
  { name: 'bad metadata blocks', metadataFaults: true, flushFaults: false },
  { name: 'failing flushes', metadataFaults: false, flushFaults: true },
]

export function drawShape(random: Random): Shape {
  // Enough slots for a second stride of slot pages, now and then.
  const isBig = random.next() < 1 / 60
  const blockSize = isBig ? 512 : random.pick([512, 1024, 2048, 4096])
  const blocks = random.between(2, 5)
  const slots = isBig
    ? 66 * SLOTS
    : random.pick([random.between(3, 9), random.between(20, 168), random.between(170, 500)])
  // Where the first sector of a slot page ends, and the page, and the stride.
  const edges = [0, 19, 40, SLOTS, 2 * SLOTS, 64 * SLOTS].filter((edge) => edge < slots - 2)
  const edge = isBig ? 64 * SLOTS : random.pick(edges)
  const firstSlot = Math.max(0, edge - random.below(3))
  const isPool = !isBig && random.below(3) === 0
  const second = isPool && { second: { slots: random.between(3, 9), isMember: random.below(2) === 0 } }
  return { blockSize, sectors: Math.max(3, (blocks * blockSize) / 512), slots, firstSlot, ...second }
}

/** In a slot page. */
const SLOTS = 169

export function drawSteps(random: Random, shape: Shape, flavour: Flavour): Step[] {
  const fault = drawMainFault(random, shape)
  const start: Step[] = [fault, { do: 'write', sector: fault.sector, sectors: fault.sectors, fua: false, inset: 0 }]
  return [...start, ...Array.from({ length: random.between(3, 12) }, () => drawStep(random, shape, flavour))]
}

function drawStep(random: Random, shape: Shape, flavour: Flavour): Step {
  const dice = random.below(100)
  if (dice < 47) return drawRequest(random, shape)
  if (dice < 58) return drawMainFault(random, shape)
  if (dice < 70) return drawSpareFault(random)
  if (dice < 79) return drawOddFault(random, shape, flavour)
  if (dice < 81) return { do: 'heal' }
  if (dice < 84) return { do: 'decay' }
  const within = random.below(3) === 0 ? {} : { within: drawRequest(random, shape) }
  const after = random.below(random.pick([2, 6, 14]))
  if (dice < 91) return { do: 'kill', ...within, after }
  return { do: 'cut', ...within, after, seed: random.uint32() }
}

function drawRequest(random: Random, shape: Shape): Request {
  if (shape.second && random.below(5) === 0) return drawMove(random)
  if (random.below(10) === 0) return drawBurst(random, shape)
  if (random.below(12) === 0) return { do: random.pick(['scrub', 'check'] as const) }
  return drawPlainRequest(random, shape)
}

const drawMove = (random: Random): Request => ({
  do: random.pick(['drain', 'join'] as const),
  spare: random.pick(['spare', 'second'] as const),
})

function drawPlainRequest(random: Random, shape: Shape): Request {
  const dice = random.below(100)
  const range = drawRange(random, shape)
  const fua = random.below(4) === 0
  const inset = random.below(6) === 0 ? random.pick([1, 100, 511]) : 0
  if (dice < 50) return { do: 'write', ...range, fua, inset }
  if (dice < 57) return { do: 'zero', ...range, fua, inset: 0 }
  if (dice < 60) return { do: 'trim', ...range }
  if (dice < 69) return { do: 'read', ...range }
  if (dice < 81) return { do: 'flush' }
  if (dice < 87) return { do: 'stop' }
  if (dice < 96) return { do: 'remove', block: random.below(blocksOf(shape)), blocks: random.pick([1, 1, 2]) }
  const slot = random.below(3) === 0 ? {} : { slot: random.below(shape.slots) }
  return { do: 'add', block: random.below(blocksOf(shape)), blocks: random.between(1, 3), ...slot }
}

/** The last sector stays sound: a disk of which nothing can be read counts as gone. */
const drawMainFault = (random: Random, shape: Shape): Step & { do: 'main-fault' } => ({
  do: 'main-fault',
  operations: drawOperations(random),
  ...drawRange(random, { ...shape, sectors: shape.sectors - 1 }),
})

function drawBurst(random: Random, shape: Shape): Request {
  const blocks = random.sample(Math.min(random.between(2, 4), blocksOf(shape)), blocksOf(shape))
  const dice = random.below(4)
  if (dice === 0) return { do: 'burst', blocks, beside: { do: random.pick(['scrub', 'check'] as const) } }
  return { do: 'burst', blocks, ...(dice === 1 && shape.second && { beside: drawMove(random) }) }
}

function drawSpareFault(random: Random): Step {
  const operations = drawOperations(random)
  return random.below(3) === 0
    ? { do: 'spare-fault', operations }
    : { do: 'spare-fault', operations, nth: random.below(4) }
}

function drawOddFault(random: Random, shape: Shape, flavour: Flavour): Step {
  if (flavour.flushFaults) return { do: 'flush-fault', disk: random.pick(disksOf(shape)) }
  if (!flavour.metadataFaults) return drawRequest(random, shape)
  const structure = random.below(4) === 0 ? 'header' : 'page'
  const copy = random.below(structure === 'header' ? 5 : 2)
  const used = Math.floor(shape.firstSlot / SLOTS)
  const page = random.pick([used, used, random.below(Math.ceil(shape.slots / SLOTS))])
  const operations = random.pick([['write'], ['write'], ['read'], ['read', 'write']] as const)
  const spare = random.pick(sparesOf(shape))
  return { do: 'metadata-fault', spare, structure, operations, copy, page }
}

const drawOperations = (random: Random): readonly Operation[] =>
  random.pick([['write'], ['write'], ['read'], ['read', 'write']] as const)

function drawRange(random: Random, shape: Shape): { sector: number; sectors: number } {
  const perBlock = shape.blockSize / 512
  const unit = random.pick([1, Math.min(perBlock, shape.sectors)])
  const sector = random.below(Math.floor(shape.sectors / unit)) * unit
  const most = random.pick([unit, 2 * unit, 3 * perBlock])
  const sectors = random.between(1, Math.max(1, Math.floor(most / unit))) * unit
  return { sector, sectors: Math.min(sectors, shape.sectors - sector) }
}

export const blocksOf = ({ sectors, blockSize }: Shape): number => Math.ceil((sectors * 512) / blockSize)

export const sparesOf = ({ second }: Shape): SpareName[] => (second ? ['spare', 'second'] : ['spare'])
const disksOf = (shape: Shape): DiskName[] => ['main', ...sparesOf(shape)]

export const describeStep = (step: Step): string => {
  const { do: what, ...rest } = step
  return `${what} ${JSON.stringify(rest)}`
}
