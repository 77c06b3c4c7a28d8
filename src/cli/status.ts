/** `nbd-remap status`: how a running server does, for people, scripts and spreadsheets. */
import { Command, Option } from 'commander'
import { show, type ShowOptions } from './ask.js'
import { controlOption, jsonOption, watchOption } from './options.js'
import { askStatus, type StatusDocument } from './status-document.js'
import { CSV_HEAD, csvRow, describeStatus, summarize } from './status-text.js'

interface StatusCommandOptions extends ShowOptions {
  readonly csv?: boolean
  readonly summary?: boolean
}

export const statusCommand = (): Command =>
  new Command('status')
    .description('Show the disk pair, the remaps, errors, latencies and clients of a running server.')
    .addOption(controlOption())
    .addOption(jsonOption())
    .addOption(new Option('--csv', 'print a line of names and a line of values').conflicts(['json', 'summary']))
    .addOption(new Option('--summary', 'print one line').conflicts('json'))
    .addOption(watchOption())
    .addHelpText(
      'after',
      `
docs/status.schema.json is the JSON schema of what --json prints. With --watch, --csv prints the names once; later versions
add columns at the end.

Example:
  nbd-remap status --control /run/disk.qmp --watch 1
  nbd-remap status --control /run/disk.qmp --csv --watch 60 >> disk.csv`,
    )
    .action((options: StatusCommandOptions) => show(options, () => askStatus(options.control), describer(options)))

function describer({ csv, summary }: StatusCommandOptions): (status: StatusDocument) => string {
  if (summary) return summarize
  if (!csv) return describeStatus
  let head = CSV_HEAD
  return (status) => {
    const text = head + csvRow(status)
    head = ''
    return text
  }
}
