/**
 * The map files of GNU ddrescue (its manual, chapter "Mapfile structure"): a line with the position, status and pass of
 * ddrescue, then one line for each area of the disk, with position and size in bytes and a status:
 *
 *   ?  not tried    *  not trimmed    /  not scraped    -  bad    +  finished
 */
import { SECTOR_SIZE } from '../units.js'
import { dataLines, ListError, type DataLine } from './lines.js'
import type { ListRange, ListSource, ParseOptions } from './list.js'

const AREA_STATUSES = '?*/-+'
const RUN_STATUSES = '?*/-FG+'
/** What is known to be bad, or lies beside it and could not be read in one piece. */
export const STATUSES_DEFAULT = '-*/'

/** The areas with one of `statuses`, widened to sectors. @throws ListError */
export function parseDdrescue(text: string, { statuses, lost }: ParseOptions): ListRange[] {
  const [statusLine, ...areas] = dataLines(text)
  if (statusLine) checkStatusLine(statusLine)
  const ranges: ListRange[] = []
  let end = 0
  for (const area of areas) {
    const { position, size, status } = areaOf(area)
    if (position < end) throw new ListError(area.line, `the area at ${position} begins before the one above it ends`)
    end = position + size
    if (statuses.includes(status))
      append(ranges, Math.floor(position / SECTOR_SIZE), Math.ceil(end / SECTOR_SIZE), area.line, lost)
  }
  return ranges
}

/** Areas that share a sector are one range. */
function append(ranges: ListRange[], first: number, end: number, line: number, lost: boolean): void {
  const last = ranges.at(-1)
  if (last && first <= last.mainSector + last.sectors)
    ranges[ranges.length - 1] = { ...last, sectors: end - last.mainSector }
  else ranges.push({ line, mainSector: first, sectors: end - first, ...(lost && { lost }) })
}

function checkStatusLine({ fields, line }: DataLine): void {
  const [position = '', status = ''] = fields
  byteCount(position, 'current position', line)
  if (fields.length > 3 || !isOneOf(RUN_STATUSES, status))
    throw new ListError(
      line,
      'is not the first line of a ddrescue map, which has its current position, status and pass',
    )
}

function areaOf({ fields, line }: DataLine): { position: number; size: number; status: string } {
  const [position = '', size = '', status = ''] = fields
  if (fields.length !== 3 || !isOneOf(AREA_STATUSES, status))
    throw new ListError(line, `is not an area of a ddrescue map: position, size, and one of ${AREA_STATUSES}`)
  const area = { position: byteCount(position, 'position', line), size: byteCount(size, 'size', line), status }
  if (area.size === 0) throw new ListError(line, 'the size of the area is 0')
  if (!Number.isSafeInteger(area.position + area.size)) throw new ListError(line, 'the area lies on no disk')
  return area
}

const isOneOf = (statuses: string, status: string): boolean => status.length === 1 && statuses.includes(status)

/** Hexadecimal behind 0x, octal behind 0, else decimal, as in C. */
function byteCount(text: string, what: string, line: number): number {
  const isOctal = /^0[0-7]+$/.test(text)
  const number = /^(0x[0-9a-f]+|0|[1-9]\d*)$/i.test(text) ? Number(text) : isOctal ? parseInt(text, 8) : NaN
  if (Number.isSafeInteger(number)) return number
  throw new ListError(line, `${what} ${JSON.stringify(text.slice(0, 40))} is not a number of bytes`)
}

/** Remapped areas are bad, all others finished. */
export function* printDdrescue({ size, remaps }: ListSource): Generator<string> {
  yield '# Mapfile. Created by nbd-remap\n# current_pos  current_status  current_pass\n0x00000000     +               1\n'
  yield '#      pos        size  status\n'
  let at = 0
  let bad = 0
  for (const { mainSector, sectors } of remaps) {
    const start = mainSector * SECTOR_SIZE
    const end = Math.min(size, start + sectors * SECTOR_SIZE)
    if (start > at + bad) {
      if (bad > 0) yield area(at, bad, '-')
      yield area(at + bad, start - at - bad, '+')
      at = start
      bad = 0
    }
    bad = end - at
  }
  if (bad > 0) yield area(at, bad, '-')
  if (at + bad < size) yield area(at + bad, size - at - bad, '+')
}

const hex = (bytes: number): string => `0x${bytes.toString(16).toUpperCase().padStart(8, '0')}`
const area = (position: number, size: number, status: string): string => `${hex(position)}  ${hex(size)}  ${status}\n`
