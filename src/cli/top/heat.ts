/**
 * Where on the disk the remaps are, and where the errors were, as strips of characters: the more of its part is remapped, or the
 * more errors were there, the denser one is.
 */
import type { ErrorRegionsReply } from '../../control/error-commands.js'

/** From nothing to all of it. */
const DENSITIES = '.:-=+*#@'

export const HEAT_LEGEND = `${DENSITIES[0] ?? ''} none, ${DENSITIES.slice(1, -1)} some, ${DENSITIES.at(-1) ?? ''} all`

export interface RemappedRange {
  readonly 'main-sector': number
  readonly sectors: number
}

/** How many sectors of each of `cells` equal parts of the disk are remapped. */
export function sectorsPerCell(ranges: Iterable<RemappedRange>, diskSectors: number, cells: number): Float64Array {
  const found = new Float64Array(cells)
  const width = diskSectors / cells
  for (const { 'main-sector': first, sectors } of ranges) {
    const end = Math.min(first + sectors, diskSectors)
    for (let cell = Math.floor(first / width); cell < cells && cell * width < end; cell++) {
      const shared = Math.min(end, (cell + 1) * width) - Math.max(first, cell * width)
      found[cell] = (found[cell] ?? 0) + Math.max(0, shared)
    }
  }
  return found
}

/** One remapped sector shows; each further step stands for many times more. */
export function heatStrip(found: Float64Array, diskSectors: number): string {
  const width = diskSectors / found.length
  return [...found].map((sectors) => DENSITIES[densityOf(sectors, width)] ?? '').join('')
}

function densityOf(sectors: number, width: number): number {
  if (sectors <= 0) return 0
  const steps = DENSITIES.length - 1
  if (sectors >= width) return steps
  const share = Math.log(1 + sectors) / Math.log(1 + width)
  return Math.min(steps - 1, Math.max(1, Math.ceil(share * (steps - 1))))
}

/** The densest one stands for so many errors, and more: each density for twice as many as the one before. */
const ERRORS_DENSEST = 2 ** (DENSITIES.length - 2)

export const ERROR_LEGEND = `${DENSITIES[1] ?? ''} 1 ... ${DENSITIES.at(-1) ?? ''} ${ERRORS_DENSEST}+`

/** Where there is room for each of them. */
export const ERROR_LEGEND_LONG = Array.from(DENSITIES)
  .map((sign, n) => `${sign} ${n === 0 ? 'none' : 2 ** (n - 1)}`)
  .join(', ')
  .concat(' or more')

/** How many errors and late requests there were in each of `cells` equal parts of the disk; a region in several shows in each. */
export function errorsPerCell(
  { regions, 'region-sectors': length }: Pick<ErrorRegionsReply, 'regions' | 'region-sectors'>,
  diskSectors: number,
  cells: number,
): Float64Array {
  const found = new Float64Array(cells)
  const width = diskSectors / cells
  for (const region of regions) {
    const first = region['main-sector']
    const end = Math.min(first + length, diskSectors)
    for (let cell = Math.floor(first / width); cell < cells && cell * width < end; cell++) {
      found[cell] = (found[cell] ?? 0) + errorsOf(region)
    }
  }
  return found
}

const errorsOf = (region: ErrorRegionsReply['regions'][number]): number =>
  region['read-errors'] + region['write-errors'] + region['spare-errors'] + region['slow-reads'] + region.timeouts

export const errorStrip = (found: Float64Array): string =>
  [...found]
    .map((errors) => (errors < 1 ? 0 : Math.min(DENSITIES.length - 1, 1 + Math.floor(Math.log2(errors)))))
    .map((density) => DENSITIES[density] ?? '')
    .join('')
