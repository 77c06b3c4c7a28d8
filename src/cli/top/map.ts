/** The whole disk on paper: row by row where the errors were, and below where the remaps are. */
import type { ErrorRegionsReply } from '../../control/error-commands.js'
import { formatBytes, SECTOR_SIZE } from '../../util/units.js'
import { ERROR_LEGEND_LONG, errorsPerCell, errorStrip, HEAT_LEGEND, heatStrip, sectorsPerCell } from './heat.js'
import type { Ranges } from './ranges.js'

export interface Mapped {
  readonly main: { readonly name: string; readonly size: number }
  readonly regions: ErrorRegionsReply
  readonly remaps: Ranges
}

const COLUMNS = 64
/** As many cells as there are regions: each shows by itself. */
const ROWS = 4

export function mapOf({ main, regions, remaps: { ranges, total } }: Mapped): string {
  const cells = COLUMNS * ROWS
  const sectors = Math.ceil(main.size / SECTOR_SIZE)
  const errors = errorStrip(errorsPerCell(regions, sectors, cells))
  const remaps = heatStrip(sectorsPerCell(ranges, sectors, cells), sectors)
  const lines = [
    `${main.name}, ${formatBytes(main.size)}, ${formatBytes(main.size / cells)} a character, counted by the first sector of its row`,
    `errors: ${ERROR_LEGEND_LONG}`,
    `remaps: ${ranges.length < total ? `only the first ${ranges.length} ranges` : HEAT_LEGEND}`,
  ]
  for (let row = 0; row < ROWS; row++) {
    const [start, end] = [row * COLUMNS, (row + 1) * COLUMNS]
    lines.push(`${String(Math.floor((row * sectors) / ROWS)).padStart(14)} errors [${errors.slice(start, end)}]`)
    lines.push(`${''.padStart(14)} remaps [${remaps.slice(start, end)}]`)
  }
  return `${lines.join('\n')}\n`
}
