/**
 * Which of these disks belong together, and in which state are they? The decisions, from what was seen on each disk
 * (look.ts): spares make pools by their headers, and the main disk of a pool is found as a start would recognise it.
 * Nothing is ever written.
 */
import { choosePool, uuidText, type Candidate } from '../spare/membership.js'
import { mainMismatch } from '../spare/identity.js'
import type { Header, PoolMember } from '../spare/format.js'
import type { SlotSummary } from '../spare/slots.js'
import type { SeenDisk, SeenMainDisk, SeenSpare } from './look.js'

/** `duplicate`: a copy of a spare that is among them, too. `stale`: a copy of an earlier time. */
export type SpareStanding = 'member' | 'duplicate' | 'stale' | 'removed' | 'joining'

export interface ScannedSpare {
  readonly location: string
  readonly uuid: string
  readonly standing: SpareStanding
  readonly clean: boolean
  readonly inUse: boolean
  readonly blocks: SlotSummary
  /** What is wrong with its metadata; the next start repairs what can be repaired. */
  readonly problems: readonly string[]
}

/** `recognised`: by what the disk says of itself; `fingerprint`: by its content. */
export interface FoundMain {
  readonly location: string
  readonly by: 'recognised' | 'fingerprint'
}

/** `not-clean`: the last server died, or one is running where this machine cannot see it, or none has run since an import. */
export type PairState = 'clean' | 'in-use' | 'not-clean' | 'wrong'

export interface ScannedPair {
  readonly pool: string
  readonly state: PairState
  readonly spares: readonly ScannedSpare[]
  readonly missing: readonly { readonly uuid: string; readonly location: string }[]
  readonly mainSize: number
  readonly lastMain: string
  readonly main: FoundMain | undefined
  /** Why it cannot be started; empty: it can. */
  readonly problems: readonly string[]
  readonly command: readonly string[] | undefined
}

export interface ScanReport {
  readonly pairs: readonly ScannedPair[]
  /** Spares that cannot be believed. */
  readonly damaged: readonly { readonly location: string; readonly reason: string }[]
  /** Disks that are the spare or the main of nothing here. */
  readonly others: readonly string[]
  readonly skipped: readonly { readonly location: string; readonly reason: string }[]
}

export function report(seen: readonly SeenDisk[]): ScanReport {
  const of = <K extends SeenDisk['kind']>(kind: K) =>
    seen.filter((disk): disk is Extract<SeenDisk, { kind: K }> => disk.kind === kind)
  const mains = of('other')
  const pools = new Map<string, SeenSpare[]>()
  for (const spare of of('spare')) {
    const pool = uuidText(spare.header.notes.pool.uuid)
    pools.set(pool, [...(pools.get(pool) ?? []), spare])
  }
  const pairs = [...pools].map(([pool, spares]) => pairOf(pool, spares, mains))
  const taken = new Set(pairs.map(({ main }) => main?.location))
  return {
    pairs,
    damaged: of('damaged').map(({ location, reason }) => ({ location, reason })),
    others: mains.filter(({ location }) => !taken.has(location)).map(({ location }) => location),
    skipped: of('skipped').map(({ location, reason }) => ({ location, reason })),
  }
}

function pairOf(pool: string, spares: readonly SeenSpare[], mains: readonly SeenMainDisk[]): ScannedPair {
  const newest = newestOfEach(spares)
  const choice = choosePool(newest.map(asCandidate))
  const members = choice.kind === 'found' ? choice.members.map(({ spare }) => spare) : newest
  const missing = choice.kind === 'incomplete' ? choice.missing : []
  const first = members[0] ?? spares[0]
  if (!first) throw new RangeError('a pool without spares')
  const { main, problem } = findMain(members, first.header, mains)
  const problems = [
    ...(choice.kind === 'refused' ? [choice.reason] : []),
    ...missing.map(missingProblem),
    ...members.flatMap(({ location, lost }) => (lost === undefined ? [] : [`spare ${location} is damaged: ${lost}`])),
    ...(problem === undefined ? [] : [problem]),
  ]
  const locations = members.map(({ location }) => location)
  return {
    pool,
    state: stateOf(members, problems),
    spares: spares.map((spare) => scanned(spare, standingOf(spare, spares, newest, locations))),
    missing: missing.map(({ uuid, location }) => ({ uuid: uuidText(uuid), location })),
    mainSize: first.header.geometry.mainSize,
    lastMain: first.header.notes.main.location,
    main,
    problems,
    command: main && problems.length === 0 ? startCommand(main.location, locations) : undefined,
  }
}

const startCommand = (main: string, spares: readonly string[]): string[] => [
  ...['nbd-remap', 'serve', '--main', main],
  ...spares.flatMap((spare) => ['--spare', spare]),
]

const asCandidate = (spare: SeenSpare): Candidate & { readonly spare: SeenSpare } => ({
  name: spare.location,
  header: spare.header,
  spare,
})

const missingProblem = ({ uuid, location }: PoolMember): string =>
  `spare ${uuidText(uuid)} is missing${location === '' ? '' : `, last seen at ${location}`}`

/** Of copies of one spare the one that was in use last. */
function newestOfEach(spares: readonly SeenSpare[]): SeenSpare[] {
  const newest = new Map<string, SeenSpare>()
  for (const spare of spares) {
    const uuid = uuidText(spare.header.uuid)
    const other = newest.get(uuid)
    if (!other || isNewer(spare, other)) newest.set(uuid, spare)
  }
  return [...newest.values()]
}

const isNewer = (a: SeenSpare, b: SeenSpare): boolean =>
  a.header.sequence > b.header.sequence || (a.header.sequence === b.header.sequence && a.inUse && !b.inUse)

function standingOf(
  spare: SeenSpare,
  all: readonly SeenSpare[],
  newest: readonly SeenSpare[],
  members: readonly string[],
): SpareStanding {
  const { standing } = spare.header.notes.pool
  if (!newest.includes(spare)) {
    const other = all.find((it) => newest.includes(it) && it.header.uuid.equals(spare.header.uuid))
    return other?.header.sequence === spare.header.sequence ? 'duplicate' : 'stale'
  }
  if (members.includes(spare.location))
    return standing === 'joining' ? 'joining' : isBehind(spare, newest) ? 'stale' : 'member'
  return standing === 'joining' ? 'joining' : 'removed'
}

/** Members of a pool that was opened completely have one epoch; while it is being opened it may be one lower. */
const isBehind = ({ header }: SeenSpare, newest: readonly SeenSpare[]): boolean =>
  newest.some((other) => other.header.ownerEpoch > header.ownerEpoch + 1)

function scanned(spare: SeenSpare, standing: SpareStanding): ScannedSpare {
  const { location, header, inUse, blocks, problems } = spare
  return { location, uuid: uuidText(header.uuid), standing, clean: header.clean, inUse, blocks, problems }
}

function stateOf(members: readonly SeenSpare[], problems: readonly string[]): PairState {
  if (members.some(({ inUse }) => inUse)) return 'in-use'
  if (problems.length > 0) return 'wrong'
  return members.every(({ header }) => header.clean) ? 'clean' : 'not-clean'
}

/** As a start would recognise it, among the disks that are no spare. */
function findMain(
  members: readonly SeenSpare[],
  header: Header,
  disks: readonly SeenMainDisk[],
): { main?: FoundMain; problem?: string } {
  const { geometry, notes } = header
  const recorded = {
    ...notes.main,
    size: geometry.mainSize,
    clean: members.every((spare) => spare.header.clean),
    remaps: members.reduce((sum, { blocks }) => sum + blocks.remapped + blocks.retired, 0),
  }
  const refusals = new Map(disks.map((disk) => [disk, mainMismatch(recorded, disk.main)]))
  const right = disks.filter((disk) => refusals.get(disk) === undefined)
  const recognised = right.find(({ main }) => main.id === recorded.id)
  if (recognised) return { main: { location: recognised.location, by: 'recognised' } }
  const [first, ...more] = right
  if (first && more.length === 0) return { main: { location: first.location, by: 'fingerprint' } }
  if (first) {
    const names = right.map(({ location }) => location).join(' and ')
    return { problem: `${names} both look like its main disk: leave out the one that is a copy` }
  }
  const refused = disks.find(({ main, location }) => main.id === recorded.id || location === recorded.location)
  const reason = refused && refusals.get(refused)
  return {
    problem:
      refused && reason !== undefined
        ? `main ${refused.location} is not as it should be: ${reason}`
        : `its main disk of ${geometry.mainSize} bytes is not among them, last seen at ${recorded.location}`,
  }
}
