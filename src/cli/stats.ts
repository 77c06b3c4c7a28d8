/** `nbd-remap stats`: the counters of a running server. */
import { Command } from 'commander'
import { ask, show, type ShowOptions } from './ask.js'
import { controlOption, jsonOption, watchOption } from './options.js'

export const statsCommand = (): Command =>
  new Command('stats')
    .description('Show the counters of a running server since its start.')
    .addOption(controlOption())
    .addOption(jsonOption())
    .addOption(watchOption())
    .addHelpText('after', '\nExample:\n  nbd-remap stats --control /run/disk.qmp --json')
    .action((options: ShowOptions) =>
      show(options, () => ask<Record<string, number>>(options.control, 'query-stats'), describe),
    )

const describe = (answer: Readonly<Record<string, number>>): string =>
  Object.entries(answer)
    .map(([name, value]) => `${name.padEnd(20)} ${value}\n`)
    .join('')
