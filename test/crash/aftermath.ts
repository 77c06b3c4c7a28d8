/** What survived a power cut: it is opened and held against the model of the chapter that the power cut ended. */
import type { Pair } from '../../src/remap/pair.js'
import { RefusedError } from '../../src/util/errors.js'
import { mainBlock } from '../../src/util/units.js'
import { crashPoints, type Choice, type CrashPoint } from './crash-states.js'
import { readSectors, type Machine, type Rules } from './machine.js'
import type { Death, Model } from './model.js'
import type { Images, Journal } from './simulated-disk.js'

/** What holds from a time of the journal on. */
export interface Moment {
  readonly time: number
  readonly rules: Rules
  /** Blocks with a remap that was acknowledged. */
  readonly remapped: ReadonlySet<number>
  /** Some copy of the metadata cannot be written, or read: one more may be too much. */
  readonly metadataFaulted: boolean
}

export interface Chapter {
  readonly start: Images
  readonly journal: Journal
  readonly model: Model
  readonly moments: Moment[]
  /** Copies decayed, or could not be written: others may not decay until that is repaired. */
  hasDecay: boolean
  /** When its server had opened the pair: until then, what survived the last power cut was not repaired. */
  readonly opened: number
}

/** A promise is broken. The message says where, and what. */
export class BrokenPromise extends Error {
  override name = 'BrokenPromise'
}

export interface Survivor {
  readonly pair: Pair
  readonly seen: readonly (Buffer | undefined)[]
}

export interface Deaths {
  /** Of the chapter's journal: what had happened when the power was cut for the first time. */
  readonly time: number
  readonly death: Death
  /** What is known of the power cuts before this one, in words. */
  readonly before: readonly string[]
  /** The last copy of something was taken away: wrong data is still wrong. */
  readonly mayBeRefused?: boolean
}

/**
 * Opens what survived a power cut, and holds it against the model.
 * @returns `undefined`: it was refused, and may be, for metadata had failed before
 * @throws BrokenPromise
 */
export async function aftermath(
  machine: Machine,
  chapter: Chapter,
  point: CrashPoint,
  choice: Choice,
  { time, death, before, mayBeRefused = false }: Deaths,
): Promise<Survivor | undefined> {
  const moment = momentAt(chapter, time)
  const broken = (what: string, cause?: unknown): BrokenPromise =>
    new BrokenPromise(
      [`${death} at event ${point.time}: ${what}`, ...before, ...point.describe(choice)].join('\n    '),
      { cause },
    )
  let pair: Pair
  try {
    pair = await machine.open()
  } catch (error) {
    const wasTooMuch = moment?.metadataFaulted === true && touchesMetadata(point, machine)
    if (error instanceof RefusedError && (mayBeRefused || wasTooMuch)) return undefined
    throw broken(`it cannot be opened: ${String(error)}`, error)
  }
  const seen = await readSectors(pair, machine.shape)
  const wrong = firstWrong(chapter.model, seen, time, death)
  if (wrong !== undefined) throw broken(wrong)
  for (const block of moment?.remapped ?? []) {
    if (pair.target.table.lookup(mainBlock(block)) === undefined) throw broken(`the remap of block ${block} is gone`)
  }
  return { pair, seen }
}

export const momentAt = ({ moments }: Chapter, time: number): Moment | undefined =>
  moments.findLast((moment) => moment.time <= time)

/** Whether a write of metadata was under way. */
export const touchesMetadata = ({ volatile }: CrashPoint, machine: Machine): boolean =>
  volatile.some(({ disk, offset }) => machine.isMetadata(disk, offset))

export function lastPoint({ start, journal }: Chapter): CrashPoint {
  let last: CrashPoint | undefined
  for (const point of crashPoints(start, journal)) last = point
  return last!
}

export function firstWrong(
  model: Model,
  seen: readonly (Buffer | undefined)[],
  time: number,
  death: Death,
): string | undefined {
  for (const [sector, content] of seen.entries()) {
    const wrong = model.check(sector, content, time, death)
    if (wrong !== undefined) return wrong
  }
  return undefined
}
