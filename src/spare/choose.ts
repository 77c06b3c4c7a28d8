/**
 * The pure decisions of opening a spare: which of several copies is the one to believe. Copies in, a choice or a reason
 * to refuse out. Nothing here reads a disk.
 */
import { isDeepStrictEqual } from 'node:util'
import {
  encodeHeader,
  FORMAT_VERSION,
  haveEqualSlots,
  isBlockSize,
  layOut,
  pageDamage,
  pageSequence,
  type DecodedHeader,
  type Geometry,
  type Header,
} from './format.js'

export type HeaderCopy = DecodedHeader | { readonly kind: 'unreadable'; readonly reason: string }

/** A copy that is not the chosen one and has to be rewritten. */
export interface BadCopy {
  readonly copy: number
  readonly reason: string
}

/** The numbers of `count` copies in the order in which they are rewritten. */
export function badFirst(count: number, bad: readonly number[]): number[] {
  const all = Array.from({ length: count }, (_, copy) => copy)
  return [...all.filter((copy) => bad.includes(copy)), ...all.filter((copy) => !bad.includes(copy))]
}

export type HeaderChoice =
  | { readonly kind: 'chosen'; readonly header: Header; readonly bad: readonly BadCopy[] }
  | { readonly kind: 'absent' }
  | { readonly kind: 'refused'; readonly reason: string }

const refused = (reason: string): HeaderChoice => ({ kind: 'refused', reason })

/**
 * The newest valid copy wins; copies that contradict each other are refused rather than guessed at. Two servers that
 * started at the same moment may have left a mixture: then the one counts that has not given way to the other.
 */
export function chooseHeader(copies: readonly HeaderCopy[]): HeaderChoice {
  const unknown = copies.find((copy) => copy.kind === 'unknown-version')
  if (unknown) {
    return refused(
      `it has format version ${unknown.version}, and this program knows versions up to ${FORMAT_VERSION}: use the nbd-remap that wrote it`,
    )
  }
  const valid = copies.flatMap((copy) => (copy.kind === 'valid' ? [copy.header] : []))
  const [first] = valid
  if (!first) return noneValid(copies)
  const newest = valid.reduce((best, header) => (compareAge(header, best) > 0 ? header : best), first)
  const contradiction = valid.some(
    (header) => !header.uuid.equals(newest.uuid) || (compareAge(header, newest) === 0 && !sameContent(header, newest)),
  )
  if (contradiction) return refused('its header copies contradict each other, so none of them can be believed')
  return { kind: 'chosen', header: newest, bad: copies.flatMap((copy, n) => badCopy(copy, n, newest)) }
}

function noneValid(copies: readonly HeaderCopy[]): HeaderChoice {
  if (copies.every((copy) => copy.kind === 'absent')) return { kind: 'absent' }
  const reasons = copies.map((copy, n) => `copy ${n}: ${'reason' in copy ? copy.reason : 'no header'}`)
  return refused(
    `none of its ${copies.length} header copies is intact (${reasons.join('; ')}), and without them its remaps are not known; restore it from a copy`,
  )
}

/** Above 0: `a` is in force. Of the headers of two servers that started at the same moment it is as in `ownership.ts`. */
const compareAge = (a: Header, b: Header): number =>
  a.sequence - b.sequence || (a.ownerEpoch === b.ownerEpoch ? Buffer.compare(ownerOf(a), ownerOf(b)) : 0)
const ownerOf = ({ notes }: Header): Buffer => notes.owner ?? NOBODY
const NOBODY = Buffer.alloc(0)

const sameContent = (a: Header, b: Header): boolean => encodeHeader(a, 0).equals(encodeHeader(b, 0))

/** Which copies on the disk are not like the header that a server wrote last. */
export function unlike(copies: readonly HeaderCopy[], header: Header): BadCopy[] {
  return copies.flatMap((copy, n) => {
    if (copy.kind !== 'valid') return badCopy(copy, n, header)
    const { sequence } = copy.header
    if (sequence !== header.sequence)
      return [{ copy: n, reason: `has sequence ${sequence} and not ${header.sequence}` }]
    return sameContent(copy.header, header) ? [] : [{ copy: n, reason: 'says something else' }]
  })
}

function badCopy(copy: HeaderCopy, number: number, newest: Header): BadCopy[] {
  if (copy.kind === 'valid') {
    if (compareAge(copy.header, newest) === 0) return []
    return [{ copy: number, reason: `stale (sequence ${copy.header.sequence}, newest is ${newest.sequence})` }]
  }
  return [{ copy: number, reason: 'reason' in copy ? copy.reason : 'no header' }]
}

/** Why a spare of `spareSize` bytes with this geometry cannot be used; `undefined` when it can. */
export function geometryProblem(geometry: Geometry, spareSize: number): string | undefined {
  if (spareSize < geometry.spareSize) {
    return `it was ${geometry.spareSize} bytes long when formatted and is ${spareSize} bytes now: it was truncated, so restore it from a copy`
  }
  const expected = isBlockSize(geometry.blockSize)
    ? layOut(geometry.mainSize, geometry.spareSize, geometry.blockSize)
    : undefined
  if (!expected || !isDeepStrictEqual(expected, geometry)) return 'its header describes an impossible layout'
  return undefined
}

/** What opening the slot table found out about its age. */
export interface TableAge {
  readonly sequenceSum: number
  /** The newest header that any of its pages knows of. */
  readonly headerSequence: number
}

/** Why header and slot table cannot be of one time; `undefined` when they can. All copies of one of them went back. */
export function ageProblem(header: Header, table: TableAge): string | undefined {
  if (table.headerSequence > header.sequence) {
    return `its header copies are stale (the newest has sequence ${header.sequence}, and the slot table knows of ${table.headerSequence}): the newer ones were lost, so restore it from a copy`
  }
  const expected = header.notes.slotTable?.sequenceSum ?? 0
  if (table.sequenceSum < expected) {
    return `its slot table is stale (${expected - table.sequenceSum} page updates that its header knows of are missing): some of it was put back from an earlier time, so restore the whole spare from one copy`
  }
  return undefined
}

/** Why an intact copy is not believed: it could not be written when the other one was. */
export const MISSED = 'missed an update'

export type PageChoice =
  | { readonly kind: 'chosen'; readonly page: Buffer; readonly bad: readonly BadCopy[] }
  | { readonly kind: 'lost'; readonly bad: readonly BadCopy[] }

/**
 * Of the copies of one slot page (`undefined`: unreadable) the newest intact one; `lost` when they contradict.
 * @param isStale whether the header says that this copy missed an update
 */
export function choosePage(
  copies: readonly (Buffer | undefined)[],
  uuid: Buffer,
  page: number,
  isStale: (copy: number) => boolean = () => false,
): PageChoice {
  const damages = copies.map((buffer, copy) => {
    if (!buffer) return 'cannot be read'
    const damage = pageDamage(buffer, { uuid, page, copy })
    return isStale(copy) ? [damage, MISSED].filter(Boolean).join(', and ') : damage
  })
  const intact = copies.filter((buffer, copy): buffer is Buffer => buffer !== undefined && !damages[copy])
  const [first] = intact
  const asBad = (reason: string | undefined, copy: number): BadCopy[] => (reason ? [{ copy, reason }] : [])
  if (!first) return { kind: 'lost', bad: damages.flatMap(asBad) }
  const newest = intact.reduce((best, buffer) => (pageSequence(buffer) > pageSequence(best) ? buffer : best), first)
  const hasContradiction = intact.some(
    (buffer) => pageSequence(buffer) === pageSequence(newest) && !haveEqualSlots(buffer, newest),
  )
  if (hasContradiction) return { kind: 'lost', bad: copies.map((_, copy) => ({ copy, reason: 'contradicts another' })) }
  const reasons = copies.map((buffer, copy) => {
    if (damages[copy] !== undefined || !buffer) return damages[copy]
    const sequence = pageSequence(buffer)
    return sequence < pageSequence(newest)
      ? `stale (sequence ${sequence}, newest is ${pageSequence(newest)})`
      : undefined
  })
  return { kind: 'chosen', page: newest, bad: reasons.flatMap(asBad) }
}
