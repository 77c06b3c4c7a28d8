/** `nbd-remap stats`: the counters of a running server. */
import { Command } from 'commander'
import { ask } from './ask.js'
import { controlOption, jsonOption } from './options.js'

interface StatsCommandOptions {
  readonly control: string
  readonly json?: boolean
}

export const statsCommand = (): Command =>
  new Command('stats')
    .description('Show the counters of a running server since its start.')
    .addOption(controlOption())
    .addOption(jsonOption())
    .addHelpText('after', '\nExample:\n  nbd-remap stats --control /run/disk.qmp --json')
    .action(stats)

async function stats(options: StatsCommandOptions): Promise<void> {
  const answer = await ask<Record<string, number>>(options.control, 'query-stats')
  const lines = Object.entries(answer).map(([name, value]) => `${name.padEnd(20)} ${value}`)
  process.stdout.write(options.json ? `${JSON.stringify(answer)}\n` : `${lines.join('\n')}\n`)
}
