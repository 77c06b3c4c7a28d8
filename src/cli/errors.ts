/** `nbd-remap errors`: which blocks of the main disk have failed or were late, how often, and where they are. */
import { Command, Option } from 'commander'
import type { ErrorHistoryReply, ErrorRegionsReply } from '../control/error-commands.js'
import type { ServerStatus } from '../control/commands.js'
import { ask, show, withServer, type ShowOptions } from './ask.js'
import { controlOption, jsonOption, parseCount, parseSector, watchOption } from './options.js'

interface ErrorsOptions extends ShowOptions {
  readonly csv?: boolean
  readonly map?: boolean
  readonly worst?: boolean
  readonly fromSector?: number
  readonly limit?: number
}

const LIST_ONLY = ['csv', 'worst', 'limit', 'fromSector']

export const errorsCommand = (): Command =>
  new Command('errors')
    .description(
      'List the blocks of the main disk that failed or were late, with how often and when, or draw where they are.',
    )
    .addOption(controlOption())
    .addOption(jsonOption())
    .addOption(new Option('--csv', 'print a line of names, and a line for each block').conflicts('json'))
    .addOption(
      new Option('--map', 'draw the disk: where the errors are, and below where the remaps are').conflicts(LIST_ONLY),
    )
    .addOption(watchOption())
    .option('--worst', 'the block with the most errors first, instead of in the order of the disk')
    .option('--from-sector <sector>', 'leave out what lies before', parseSector)
    .option('--limit <n>', 'blocks to list at most (default: 1000)', parseCount(1))
    .addHelpText(
      'after',
      `
Sectors have 512 bytes. "recovered" counts the errors after which all content was there nonetheless. The outcome is what became
of the block when it was last heard of: "remapped" and "lost" blocks are on the spare, "recovered" ones stay where they are, of
"reported" ones the client got the error, and "late" ones took their time. nbd-remap stats --reset --lifetime lets it all begin
anew. With --map, --json prints the regions of the disk.

Example:
  nbd-remap errors --control /run/disk.qmp --worst --limit 10
  nbd-remap errors --control /run/disk.qmp --csv > errors.csv
  nbd-remap errors --control /run/disk.qmp --map`,
    )
    .action(errors)

async function errors(options: ErrorsOptions): Promise<void> {
  if (options.map) await showMap(options)
  else await showList(options)
}

interface Listed {
  readonly history: ErrorHistoryReply
  readonly regions: ErrorRegionsReply
}

async function showList(options: ErrorsOptions): Promise<void> {
  const { control, json, csv } = options
  const page = {
    ...(options.fromSector === undefined ? {} : { 'from-sector': options.fromSector }),
    ...(options.limit === undefined ? {} : { limit: options.limit }),
    ...(options.worst === undefined ? {} : { order: 'worst' }),
  }
  const history = (): Promise<ErrorHistoryReply> => ask(control, 'query-error-history', page)
  if (json || csv) {
    await show(options, history, csvOf)
    return
  }
  const regions = (): Promise<ErrorRegionsReply> => ask(control, 'query-error-regions')
  await show(options, async (): Promise<Listed> => ({ history: await history(), regions: await regions() }), describe)
}

const COUNTS = [
  'read-errors',
  'write-errors',
  'spare-errors',
  'recovered',
  'slow-reads',
  'timeouts',
  'lost-sectors',
] as const
const COLUMNS = ['main-sector', 'sectors', ...COUNTS, 'outcome', 'first', 'last'] as const

const csvOf = ({ blocks }: ErrorHistoryReply): string =>
  [COLUMNS, ...blocks.map((block) => COLUMNS.map((column) => block[column]))]
    .map((row) => `${row.join(',')}\n`)
    .join('')

function describe({ history: { blocks, total, dropped }, regions: { totals } }: Listed): string {
  const row = (...cells: readonly (string | number)[]): string =>
    cells.map((cell) => String(cell).padStart(12)).join(' ')
  const rows = blocks.map(
    (block) => row(block['main-sector'], ...COUNTS.map((count) => block[count]), block.outcome) + `  ${block.last}`,
  )
  const head = `${row('main sector', ...COUNTS, 'outcome')}  last`
  const sum = row('in all', ...COUNTS.map((count) => totals[count]))
  const more = blocks.length < total ? [`(${blocks.length} of ${total} blocks: see --limit and --from-sector)`] : []
  const lost = dropped > 0 ? [`(${dropped} more blocks had errors, too many to remember each: see --map)`] : []
  return `${[head, ...rows, sum, ...more, ...lost].join('\n')}\n`
}

async function showMap(options: ErrorsOptions): Promise<void> {
  const { control } = options
  if (options.json) {
    await show(options, () => ask<ErrorRegionsReply>(control, 'query-error-regions'), String)
    return
  }
  const [{ askForRanges }, { mapOf }] = await Promise.all([import('./top/ranges.js'), import('./top/map.js')])
  await show(
    options,
    () =>
      withServer(control, async (client) => {
        const status = (await client.execute('query-status')) as ServerStatus
        const regions = (await client.execute('query-error-regions')) as ErrorRegionsReply
        return { main: status.main, regions, remaps: await askForRanges(client) }
      }),
    mapOf,
  )
}
