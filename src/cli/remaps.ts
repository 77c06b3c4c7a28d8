/** `nbd-remap remaps`: the list of remapped ranges of a running server. */
import { Command } from 'commander'
import { ask, show, type ShowOptions } from './ask.js'
import type { ListFormat } from '../util/lists/list.js'
import {
  controlOption,
  jsonOption,
  listFormatOption,
  parseCount,
  parseSector,
  unitOption,
  watchOption,
} from './options.js'

interface Remaps {
  readonly remaps: readonly {
    readonly 'main-sector': number
    readonly 'spare-sector': number
    readonly sectors: number
    readonly spare: string
    readonly state: string
  }[]
  readonly total: number
}

interface RemapsCommandOptions extends ShowOptions {
  readonly fromSector?: number
  readonly limit?: number
  readonly format?: ListFormat
  readonly unit: number
}

export const remapsCommand = (): Command =>
  new Command('remaps')
    .description('List the remaps of a running server, neighbours joined, in sectors of 512 bytes.')
    .addOption(controlOption())
    .addOption(jsonOption())
    .addOption(watchOption())
    .option('--from-sector <sector>', 'leave out what lies before', parseSector)
    .option('--limit <n>', 'ranges to list at most (default: 1000)', parseCount(1))
    .addOption(
      listFormatOption('print all of them in a form that nbd-remap add --from reads').conflicts([
        'json',
        'watch',
        'limit',
        'fromSector',
      ]),
    )
    .addOption(unitOption())
    .addHelpText(
      'after',
      `
Example:
  nbd-remap remaps --control /run/disk.qmp --json
  nbd-remap remaps --control /run/disk.qmp --format own > remaps.txt`,
    )
    .action(remaps)

async function remaps(options: RemapsCommandOptions): Promise<void> {
  if (options.format !== undefined) {
    const { exportRemaps } = await import('./export-remaps.js')
    await exportRemaps(options.control, { format: options.format, unit: options.unit })
    return
  }
  const range = {
    ...(options.fromSector === undefined ? {} : { 'from-sector': options.fromSector }),
    ...(options.limit === undefined ? {} : { limit: options.limit }),
  }
  await show(options, () => ask<Remaps>(options.control, 'query-remaps', range), describe)
}

function describe({ remaps: ranges, total }: Remaps): string {
  const row = (...cells: (string | number)[]): string => cells.map((cell) => String(cell).padStart(14)).join('')
  const isPool = new Set(ranges.map(({ spare }) => spare)).size > 1
  const rows = ranges.map(
    (range) =>
      row(range['main-sector'], range['spare-sector'], range.sectors, range.state) + (isPool ? `  ${range.spare}` : ''),
  )
  const rest = ranges.length < total ? [`(${ranges.length} of ${total} ranges: see --limit and --from-sector)`] : []
  return `${[row('main sector', 'spare sector', 'sectors', 'state') + (isPool ? '  spare' : ''), ...rows, ...rest].join('\n')}\n`
}
