/** Where a rule is: its words and the shape of a disk in, an `Area` out. The same seed draws the same places. Pure. */
import { STATUSES_DEFAULT } from '../util/lists/ddrescue.js'
import { parseList, type ListRange } from '../util/lists/list.js'
import { messageOf } from '../util/errors.js'
import type { Random } from '../util/random.js'
import { RangeSet } from '../util/range-set.js'
import { SECTOR_SIZE } from '../util/units.js'
import { Area, type ByteRange } from './area.js'
import { FaultRuleError, parseSectors, parseWithin, type SectorRange } from './parse.js'
import type { FaultRule } from './vocabulary.js'

/** What a rule needs to know of a disk. */
export interface DiskShape {
  /** For messages: `main`, `spare 0`. */
  readonly title: string
  /** Bytes. */
  readonly size: number
  /** The part of the disk that the rule is for, in bytes. */
  readonly part: readonly ByteRange[]
}

/** Ranges of one rule: 16 bytes each, and a tenth of a second to draw. */
export const PLACES_MAX = 1_000_000
const CLUSTER_SECTORS_DEFAULT = 8
const MAP_UNIT_DEFAULT = 1024

/** @throws FaultRuleError when there is no such place */
export function placeOf(rule: FaultRule, disk: DiskShape, random: Random): Area {
  const bounds = boundsOf(rule, disk)
  const named = namedRanges(rule, disk)
  if (named) return cutTo(named, bounds, rule, disk)
  const drawn = drawnRanges(rule, bounds, random)
  return drawn ?? bytesOf(disk, bounds)
}

/** The sectors that the rule can be about: of its part of the disk, within what it says. */
export function boundsOf(rule: FaultRule, disk: DiskShape): RangeSet {
  const [first, end] = rule.within === undefined ? [0, Infinity] : parseWithin(rule.within, nameOf(rule))
  const bounds = new RangeSet()
  for (const range of disk.part) {
    const from = Math.max(first, Math.floor(range.start / SECTOR_SIZE))
    const to = Math.min(end, Math.ceil(range.end / SECTOR_SIZE))
    if (from < to) bounds.append(from, to)
  }
  if (bounds.size > 0) return bounds
  throw new FaultRuleError(nameOf(rule), `${nameOf(rule)}: 'within' is not on ${disk.title}`, 'within')
}

const nameOf = ({ id }: FaultRule): string => id ?? 'rule'

function namedRanges(rule: FaultRule, disk: DiskShape): readonly SectorRange[] | undefined {
  if (rule.sector !== undefined) return [[rule.sector, rule.sector + (rule.count ?? 1)]]
  if (rule.sectors !== undefined) return parseSectors(rule.sectors, nameOf(rule))
  if (rule.map !== undefined) return mapRanges(rule, rule.map, disk)
  return undefined
}

/** What the text of a rule's map says. @throws Error that tells the line */
export function listedRanges(rule: FaultRule, map: string): ListRange[] {
  const unit = rule['map-unit'] ?? MAP_UNIT_DEFAULT
  const statuses = rule['map-statuses'] ?? STATUSES_DEFAULT
  return parseList(map, { format: rule['map-format'], unit, statuses, lost: false })
}

function mapRanges(rule: FaultRule, map: string, disk: DiskShape): readonly SectorRange[] {
  let ranges: ListRange[]
  try {
    ranges = listedRanges(rule, map)
  } catch (error) {
    throw new FaultRuleError(nameOf(rule), `${nameOf(rule)}: 'map', ${messageOf(error)}`, 'map')
  }
  if (ranges.length === 0) throw new FaultRuleError(nameOf(rule), `${nameOf(rule)}: 'map' names no sector`, 'map')
  const beyond = ranges.find(({ mainSector }) => mainSector * SECTOR_SIZE >= disk.size)
  if (beyond) throw beyondEnd(rule, beyond.mainSector, disk, `'map', line ${beyond.line}: `)
  return ranges.map(({ mainSector, sectors }) => [mainSector, mainSector + sectors])
}

function beyondEnd(rule: FaultRule, sector: number, disk: DiskShape, where = ''): FaultRuleError {
  const sectors = Math.ceil(disk.size / SECTOR_SIZE)
  return new FaultRuleError(
    nameOf(rule),
    `${nameOf(rule)}: ${where}sector ${sector} is beyond the end of ${disk.title}, which has ${sectors}`,
  )
}

function cutTo(named: readonly SectorRange[], bounds: RangeSet, rule: FaultRule, disk: DiskShape): Area {
  const beyond = named.find(([first]) => first * SECTOR_SIZE >= disk.size)
  if (beyond) throw beyondEnd(rule, beyond[0], disk)
  const area = Area.of(named.map(([first, end]) => bytesOfRange(disk, first, end)))
  for (const { start, end } of gapsOf(bounds)) area.remove(start * SECTOR_SIZE, end * SECTOR_SIZE)
  if (!area.isEmpty || named.length === 0) return area
  throw new FaultRuleError(nameOf(rule), `${nameOf(rule)}: none of its sectors is in that part of ${disk.title}`)
}

function* gapsOf(bounds: RangeSet): Generator<ByteRange> {
  let end = 0
  for (const piece of bounds.pieces()) {
    if (piece.start > end) yield { start: end, end: piece.start }
    ;({ end } = piece)
  }
  yield { start: end, end: Infinity }
}

function drawnRanges(rule: FaultRule, bounds: RangeSet, random: Random): Area | undefined {
  const single = rule['random-sectors']
  if (single !== undefined) return draw(rule, bounds, single, 1, random)
  const length = rule['cluster-sectors'] ?? CLUSTER_SECTORS_DEFAULT
  const cells = Math.ceil(bounds.size / length)
  if (rule.clusters !== undefined) return draw(rule, bounds, rule.clusters, length, random)
  if (rule.percent !== undefined) return draw(rule, bounds, Math.ceil((cells * rule.percent) / 100), length, random)
  return undefined
}

function draw(rule: FaultRule, bounds: RangeSet, count: number, length: number, random: Random): Area {
  const cells = Math.ceil(bounds.size / length)
  if (count > cells)
    throw new FaultRuleError(nameOf(rule), `${nameOf(rule)}: there are ${cells} places to draw ${count} from`)
  if (count > PLACES_MAX)
    throw new FaultRuleError(
      nameOf(rule),
      `${nameOf(rule)}: ${count} places are too many, ${PLACES_MAX} is the limit: take a larger 'cluster-sectors'`,
    )
  const ranges: ByteRange[] = []
  for (const cell of random.sample(count, cells)) {
    const from = cell * length
    for (const { start, end } of bounds.part(from, Math.min(from + length, bounds.size)).pieces())
      ranges.push({ start: start * SECTOR_SIZE, end: end * SECTOR_SIZE })
  }
  return Area.of(ranges)
}

const bytesOfRange = ({ size }: DiskShape, first: number, end: number): ByteRange => ({
  start: first * SECTOR_SIZE,
  end: Math.min(size, end * SECTOR_SIZE),
})

function bytesOf(disk: DiskShape, bounds: RangeSet): Area {
  return Area.of([...bounds.pieces()].map(({ start, end }) => bytesOfRange(disk, start, end)))
}
