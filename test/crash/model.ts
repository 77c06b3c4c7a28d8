/**
 * What each sector of the remapped disk may hold, at any time of the journal: the trivial model that every crash state is
 * compared with. A sector has a list of versions, the newest last; after a power cut any of them is right from the last one
 * on that was acknowledged and flushed.
 */
import { SECTOR_SIZE } from '../../src/util/units.js'

/** Trimmed or never written by us: any content is right. */
export const ANYTHING = 'anything'
/** The sector could not be read where it was: EIO is right. */
export const LOST = 'lost'
export type Content = Buffer | typeof ANYTHING | typeof LOST

export interface Version {
  readonly content: Content
  /** Times of the journal; Infinity: not yet. */
  readonly issued: number
  acknowledged: number
  durable: number
}

/** `killed`: the server died, the disks lost nothing. */
export type Death = 'power cut' | 'killed'

export class Model {
  readonly #sectors: Version[][]

  /** @param contents what each sector may hold, durably; of several the first is the oldest */
  constructor(contents: readonly (readonly Content[])[]) {
    this.#sectors = contents.map((versions) =>
      versions.map((content, n) => {
        const since = n === 0 ? -1 : Infinity
        return { content, issued: -1, acknowledged: since, durable: since }
      }),
    )
  }

  get sectors(): number {
    return this.#sectors.length
  }

  /** The content that a read must return now; `undefined`: there are several that it may. */
  certain(sector: number): Buffer | undefined {
    const last = this.#at(sector).at(-1)
    return last && Buffer.isBuffer(last.content) && last.acknowledged < Infinity ? last.content : undefined
  }

  issue(sector: number, content: Content, now: number): Version {
    const version: Version = { content, issued: now, acknowledged: Infinity, durable: Infinity }
    this.#at(sector).push(version)
    return version
  }

  /** From now on EIO is right until the sector is rewritten. */
  mayBeLost(sector: number, now: number): void {
    if (this.#at(sector).at(-1)?.content !== LOST) this.issue(sector, LOST, now)
  }

  /** @returns what the flush that is asked for now covers; to be called when it was acknowledged */
  flushing(): (now: number) => void {
    const covered = this.#sectors.flatMap((versions) =>
      versions.filter(({ acknowledged, durable }) => acknowledged < Infinity && durable === Infinity),
    )
    return (now) => {
      for (const version of covered) version.durable = now
    }
  }

  /**
   * @param seen `undefined`: EIO
   * @returns what is wrong with it; `undefined`: nothing
   */
  check(sector: number, seen: Buffer | undefined, time: number, death: Death): string | undefined {
    const right = this.allowed(sector, time, death)
    if (right.some((content) => matches(content, seen))) return undefined
    const what = seen ? describe(seen, this.#at(sector)) : 'EIO'
    return `sector ${sector} is ${what}, and may be ${right.map(name).join(' or ')}`
  }

  /** What a sector may be after a death at `time`. */
  allowed(sector: number, time: number, death: Death): Content[] {
    const versions = this.#at(sector).filter(({ issued }) => issued <= time)
    const isSafe = ({ acknowledged, durable }: Version): boolean =>
      death === 'killed' ? acknowledged <= time : durable <= time
    return versions.slice(versions.findLastIndex(isSafe)).map(({ content }) => content)
  }

  #at(sector: number): Version[] {
    const versions = this.#sectors[sector]
    if (!versions) throw new Error(`sector ${sector} is not on the disk`)
    return versions
  }
}

function matches(content: Content, seen: Buffer | undefined): boolean {
  if (!seen) return content === LOST
  return content === ANYTHING || (Buffer.isBuffer(content) && content.equals(seen))
}

function describe(seen: Buffer, versions: readonly Version[]): string {
  const older = versions.some(({ content }) => Buffer.isBuffer(content) && content.equals(seen))
  return older ? `${name(seen)}, which is too old` : `something that was never written (${name(seen)})`
}

/** Write `id` gives each of its sectors a content of its own. */
export function contentOf(id: number, sector: number): Buffer {
  const content = Buffer.alloc(SECTOR_SIZE, id)
  content.writeUInt32LE(id, 0)
  content.writeUInt32LE(sector, 4)
  return content
}

const name = (content: Content): string => {
  if (!Buffer.isBuffer(content)) return content
  return content.equals(Buffer.alloc(SECTOR_SIZE)) ? 'zeros' : `write ${content.readUInt32LE(0)}`
}
