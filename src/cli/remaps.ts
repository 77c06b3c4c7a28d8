/** `nbd-remap remaps`: the list of remapped ranges of a running server. */
import { Command } from 'commander'
import { ask } from './ask.js'
import { controlOption, jsonOption, parseBytes } from './options.js'

interface Remaps {
  readonly remaps: readonly {
    readonly 'main-sector': number
    readonly 'spare-sector': number
    readonly sectors: number
    readonly state: string
  }[]
  readonly total: number
}

interface RemapsCommandOptions {
  readonly control: string
  readonly json?: boolean
  readonly fromSector?: number
  readonly limit?: number
}

export const remapsCommand = (): Command =>
  new Command('remaps')
    .description('List the remaps of a running server, neighbours joined, in sectors of 512 bytes.')
    .addOption(controlOption())
    .addOption(jsonOption())
    .option('--from-sector <sector>', 'leave out what lies before', parseBytes)
    .option('--limit <n>', 'ranges to list at most (default: 1000)', parseBytes)
    .addHelpText('after', '\nExample:\n  nbd-remap remaps --control /run/disk.qmp --json')
    .action(remaps)

async function remaps(options: RemapsCommandOptions): Promise<void> {
  const answer = await ask<Remaps>(options.control, 'query-remaps', {
    ...(options.fromSector === undefined ? {} : { 'from-sector': options.fromSector }),
    ...(options.limit === undefined ? {} : { limit: options.limit }),
  })
  process.stdout.write(options.json ? `${JSON.stringify(answer)}\n` : describe(answer))
}

function describe({ remaps: ranges, total }: Remaps): string {
  const row = (...cells: (string | number)[]): string => cells.map((cell) => String(cell).padStart(14)).join('')
  const rows = ranges.map((range) => row(range['main-sector'], range['spare-sector'], range.sectors, range.state))
  const rest = ranges.length < total ? [`... ${total - ranges.length} more (--limit)`] : []
  return `${[row('main sector', 'spare sector', 'sectors', 'state'), ...rows, ...rest].join('\n')}\n`
}
