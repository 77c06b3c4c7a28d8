/**
 * Which spares make the pool of a main disk? Every member's header lists all members; the list that was changed last is
 * in force. The pure decision: headers in, the members in order or a reason to refuse out. A spare that is not in the
 * list is never taken for a member, whatever it says of itself, and of those in the list none may be missing or stale.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Header, PoolMember, PoolRecord } from './format.js'

/** A spare that was given, and what its header says. */
export interface Candidate {
  /** As the operator named it. */
  readonly name: string
  readonly header: Header
}

/** `removed`: it was a member once. `unfinished`: its addition was cut off; it holds nothing. */
export interface LeftOut<T> {
  readonly candidate: T
  readonly why: 'removed' | 'unfinished'
}

export interface PoolFound<T> {
  readonly kind: 'found'
  /** Of `T`, in the order of the list. */
  readonly members: readonly T[]
  readonly record: PoolRecord
  readonly leftOut: readonly LeftOut<T>[]
}

export type PoolChoice<T> =
  | PoolFound<T>
  | { readonly kind: 'incomplete'; readonly record: PoolRecord; readonly missing: readonly PoolMember[] }
  | { readonly kind: 'refused'; readonly reason: string }

export const uuidText = (uuid: Buffer): string => uuid.toString('hex')

const refused = (reason: string): { kind: 'refused'; reason: string } => ({ kind: 'refused', reason })
const named = ({ name, header }: Candidate): string => `${name} (${uuidText(header.uuid)})`
const poolOf = ({ header }: Candidate): PoolRecord => header.notes.pool
const lists = (record: PoolRecord, { header }: Candidate): boolean =>
  record.members.some(({ uuid }) => uuid.equals(header.uuid))

export function choosePool<T extends Candidate>(candidates: readonly T[]): PoolChoice<T> {
  const problem = twice(candidates) ?? foreign(candidates)
  if (problem !== undefined) return refused(problem)
  const records = candidates.map(poolOf).filter(({ standing }) => standing === 'member')
  const [first] = records
  if (!first) return refused(noneIsMember(candidates))
  const record = records.reduce((newest, other) => (other.sequence > newest.sequence ? other : newest), first)
  if (records.some((other) => other.sequence === record.sequence && !sameMembers(other, record)))
    return refused('the spares contradict each other about which of them belong together, so none can be believed')
  const present = (member: PoolMember): T[] => candidates.filter(({ header }) => header.uuid.equals(member.uuid))
  const missing = record.members.filter((member) => present(member).length === 0)
  if (missing.length > 0) return { kind: 'incomplete', record, missing }
  const members = record.members.flatMap(present)
  const mismatch = stale(members) ?? unlike(members)
  if (mismatch !== undefined) return refused(mismatch)
  return { kind: 'found', members, record, leftOut: candidates.filter((it) => !lists(record, it)).map(leaveOut) }
}

const sameMembers = (a: PoolRecord, b: PoolRecord): boolean =>
  isDeepStrictEqual(a.members.map(uuidOf), b.members.map(uuidOf))
const uuidOf = ({ uuid }: PoolMember): string => uuidText(uuid)

const leaveOut = <T extends Candidate>(candidate: T): LeftOut<T> => ({
  candidate,
  why: poolOf(candidate).standing === 'joining' ? 'unfinished' : 'removed',
})

function twice(candidates: readonly Candidate[]): string | undefined {
  for (const [n, one] of candidates.entries()) {
    const other = candidates.slice(0, n).find(({ header }) => header.uuid.equals(one.header.uuid))
    if (other)
      return `spares ${other.name} and ${named(one)} are copies of one spare: give the one that was in use last`
  }
  return undefined
}

function foreign(candidates: readonly Candidate[]): string | undefined {
  const [first] = candidates
  const stranger = candidates.find((it) => first && !poolOf(it).uuid.equals(poolOf(first).uuid))
  if (!first || !stranger) return undefined
  const { location } = stranger.header.notes.main
  return `spare ${named(stranger)} does not belong together with spare ${named(first)}: it was formatted for itself, for main ${location}; leave it out, or, if its content can go, add it with "nbd-remap spare add --force"`
}

function noneIsMember(candidates: readonly Candidate[]): string {
  const [first] = candidates
  if (!first) return 'there is no spare'
  const { standing, members } = poolOf(first)
  const others = members.filter(({ uuid }) => !uuid.equals(first.header.uuid)).map(({ location }) => location)
  const where = others.length === 0 ? '' : ` (last seen: ${others.join(', ')})`
  return standing === 'removed'
    ? `spare ${named(first)} was removed from its pool and holds nothing: give the spares that are left in it${where}`
    : `spare ${named(first)} was being added to a pool, which it holds nothing of yet: give the other spares${where}`
}

/**
 * A start raises the epoch of one member after the other, twice: first saying that it is under way, then that all know
 * it. So a member may be one behind only while all that are ahead still say "under way".
 */
function stale(members: readonly Candidate[]): string | undefined {
  const newest = Math.max(...members.map(({ header }) => header.ownerEpoch))
  const isUnderWay = members.every((it) => it.header.ownerEpoch < newest || poolOf(it).opening)
  const oldest = isUnderWay ? newest - 1 : newest
  const behind = members.find(({ header }) => header.ownerEpoch < oldest)
  if (!behind) return undefined
  return `spare ${named(behind)} is stale: the pool was served ${newest - behind.header.ownerEpoch} time(s) since this state of it, so it was put back from a copy; give the disk itself`
}

function unlike(members: readonly Candidate[]): string | undefined {
  const [first] = members
  const other = members.find(
    ({ header }) =>
      header.geometry.blockSize !== first?.header.geometry.blockSize ||
      // A move to another main tells one member after the other.
      (header.geometry.mainSize !== first.header.geometry.mainSize && movesOf(header) === movesOf(first.header)),
  )
  return other && `spare ${named(other)} has another block size or main disk than the others of its pool`
}

/** How often the pair has moved to another main disk, as this member knows. */
export const movesOf = ({ notes }: Header): number => notes.moves?.count ?? 0

/** How to get back a member that was not given. */
export const missingMessage = ({ uuid, location }: PoolMember): string =>
  `spare ${uuidText(uuid)} of the pool is missing, and blocks that moved to it are nowhere else: it was last seen at ${location === '' ? 'an unknown place' : location}; attach it and name its present place with --spare`

/** The list after a change: all members learn it, and those that do not are told from it by its number. */
export function changed(record: PoolRecord, change: Partial<Pick<PoolRecord, 'members' | 'removed'>>): PoolRecord {
  return { ...record, ...change, sequence: record.sequence + 1, standing: 'member', opening: false }
}
