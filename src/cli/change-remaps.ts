/** `nbd-remap add`, `remove` and `clear`: what an operator does to the remaps of a running server. */
import { Command, Option } from 'commander'
import type { ListFormat, ListRange, ParseOptions } from '../util/lists/list.js'
import { UsageError } from '../util/errors.js'
import { readList, runBatch, runLong } from './batch.js'
import { EXIT } from './exit.js'
import {
  controlOption,
  jsonOption,
  listFormatOption,
  parseLength,
  parseSector,
  statusesOption,
  unitOption,
} from './options.js'

interface ChangeOptions {
  readonly control: string
  readonly json?: boolean
}

interface ListOptions extends ChangeOptions {
  readonly from?: string
  readonly format?: ListFormat
  readonly unit: number
  readonly statuses: string
}

interface AddOptions extends ListOptions {
  readonly lost?: boolean
  readonly copy: boolean
  readonly skipRemapped?: boolean
}

const parsePlace = (text: string): string => {
  if (text !== 'auto' && text !== 'lost') parseSector(text)
  return text
}

const fromOption = (): Option => new Option('--from <file>', 'the ranges of this list; - reads standard input')

/** Ranges can stand in a list instead of on the command line. */
const addListOptions = (command: Command): Command =>
  command
    .addOption(controlOption())
    .addOption(jsonOption())
    .addOption(fromOption())
    .addOption(listFormatOption('of the list; guessed if absent'))
    .addOption(unitOption())
    .addOption(statusesOption())

export const addCommand = (): Command =>
  addListOptions(new Command('add'))
    .description('Remap ranges of a running server, with their content: all of them or none.')
    .argument('[main-sector]', 'the first sector, of 512 bytes', parseSector)
    .argument('[spare-sector]', 'its place on the spare, auto, or lost: the content is lost', parsePlace)
    .argument('[sectors]', 'how many', parseLength)
    .option('--lost', 'the content of the listed blocks is lost: do not read them, answer EIO until they are written')
    .option('--no-copy', 'do not copy the content: the blocks read as whatever the spare holds')
    .option('--skip-remapped', 'leave out what is remapped already, instead of refusing it all')
    .addHelpText(
      'after',
      `
Lists are in our own form (lines of MAIN_SECTOR SPARE_SECTOR|auto|lost SECTORS), block numbers as badblocks(8) prints
them, or map files of GNU ddrescue; # begins a comment. When main is an image that ddrescue made, --lost with its map
keeps the gaps from being read as data: they answer EIO until something is written there, which then stays on the spare.

Example:
  nbd-remap add --control /run/disk.qmp 2048 auto 16
  badblocks /dev/sdb | nbd-remap add --control /run/disk.qmp --from -
  nbd-remap add --control /run/disk.qmp --from rescue.map --lost`,
    )
    .action(add)

export const removeCommand = (): Command =>
  addListOptions(new Command('remove'))
    .description('Move ranges of a running server back to the main disk, if it takes them: all of them or none.')
    .argument('[main-sector]', 'the first sector, of 512 bytes', parseSector)
    .argument('[sectors]', 'how many', parseLength)
    .addHelpText(
      'after',
      `
What is written to the main disk is read again and compared. If the main disk still fails, or something is lost, nothing
is moved.

Example:
  nbd-remap remove --control /run/disk.qmp 2048 16`,
    )
    .action(remove)

export const clearCommand = (): Command =>
  new Command('clear')
    .description('Move everything back that the main disk takes.')
    .addOption(controlOption())
    .addOption(jsonOption())
    .addHelpText(
      'after',
      '\nExit codes: 0 done, 1 some of it stays remapped.\n\nExample:\n  nbd-remap clear --control /run/disk.qmp',
    )
    .action(clear)

async function add(
  mainSector: number | undefined,
  place: string | undefined,
  sectors: number | undefined,
  options: AddOptions,
): Promise<void> {
  const { control, lost = false, copy, skipRemapped = false } = options
  const ranges = await rangesOf({ mainSector, place, sectors }, options, lost)
  const settings = { copy, 'skip-remapped': skipRemapped }
  const answer = await runBatch<{ blocks: number; skipped: number }>(control, { ranges, from: options.from }, settings)
  const rest = answer.skipped === 0 ? '' : `, ${answer.skipped} left as they were`
  print(options, answer, `${answer.blocks} blocks remapped${rest}`)
}

async function remove(
  mainSector: number | undefined,
  sectors: number | undefined,
  options: ListOptions,
): Promise<void> {
  const { control } = options
  const ranges = await rangesOf({ mainSector, place: 'auto', sectors }, options, false)
  // Where they are is not asked, and what of them is lost says the server.
  const plain = ranges.flatMap(({ line, mainSector: first, sectors: count, lost }) =>
    lost ? [] : [{ line, mainSector: first, sectors: count }],
  )
  const answer = await runBatch<{ blocks: number; skipped: number }>(
    control,
    { ranges: plain, from: options.from },
    { operation: 'remove' },
  )
  print(options, answer, `${answer.blocks} blocks moved back`)
}

async function clear(options: ChangeOptions): Promise<void> {
  const answer = await runLong<{ blocks: number; kept: number }>(options.control, 'remap-clear', {})
  print(options, answer, `${answer.blocks} blocks moved back`)
  if (answer.kept === 0) return
  process.stderr.write(
    `nbd-remap: ${answer.kept} blocks stay remapped: the main disk does not take them, or they have lost sectors\n`,
  )
  process.exitCode = EXIT.failed
}

/** Of the arguments or of the list. @throws UsageError when there is neither, or both */
async function rangesOf(
  {
    mainSector,
    place,
    sectors,
  }: { mainSector: number | undefined; place: string | undefined; sectors: number | undefined },
  { from, format, unit, statuses }: ListOptions,
  lost: boolean,
): Promise<readonly ListRange[]> {
  if (from !== undefined) {
    if (mainSector !== undefined) throw new UsageError('give either sectors or --from, not both')
    const options: ParseOptions = { format, unit, statuses, lost }
    return readList(from, options)
  }
  if (mainSector === undefined || place === undefined || sectors === undefined)
    throw new UsageError(
      'give MAIN_SECTOR, SPARE_SECTOR (or auto, or lost) and SECTORS, or --from (add --help for help)',
    )
  if (lost) throw new UsageError('--lost goes with --from; for single sectors say lost in place of the spare sector')
  const { placeOf } = await import('../util/lists/own.js')
  return [{ line: 0, mainSector, sectors, ...placeOf(place, 0) }]
}

const print = ({ json }: ChangeOptions, answer: unknown, text: string): void => {
  process.stdout.write(`${json ? JSON.stringify(answer) : text}\n`)
}
