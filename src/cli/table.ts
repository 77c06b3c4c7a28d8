/** `nbd-remap table`: size, load and settings of the remap table of a running server, which it also changes. */
import { Command } from 'commander'
import { ask, show, type ShowOptions } from './ask.js'
import { addTableOptions, controlOption, jsonOption, watchOption, type TableOptions } from './options.js'

type Table = Readonly<Record<string, number>>

export const tableCommand = (): Command =>
  addTableOptions(
    new Command('table')
      .description('Show the remap table of a running server, and change how eagerly it grows and shrinks.')
      .addOption(controlOption())
      .addOption(jsonOption())
      .addOption(watchOption()),
    '',
  )
    .addHelpText(
      'after',
      '\nExample:\n  nbd-remap table --control /run/disk.qmp\n  nbd-remap table --control /run/disk.qmp --grow-load 100',
    )
    .action(table)

async function table(options: ShowOptions & TableOptions): Promise<void> {
  const { minBuckets, growLoad, shrinkLoad } = options
  const settings = {
    ...(minBuckets === undefined ? {} : { 'min-buckets': minBuckets }),
    ...(growLoad === undefined ? {} : { 'grow-load': growLoad }),
    ...(shrinkLoad === undefined ? {} : { 'shrink-load': shrinkLoad }),
  }
  if (Object.keys(settings).length > 0) await ask(options.control, 'remap-table-set', settings)
  await show(options, () => ask<Table>(options.control, 'query-remap-table'), describe)
}

const describe = (answer: Table): string =>
  Object.entries(answer)
    .map(([name, value]) => `${name.padEnd(12)} ${value}\n`)
    .join('')
