/** `nbd-remap stats`: the counters of a running server, and how long its requests take. */
import { Command } from 'commander'
import type { StatisticsReply } from '../control/statistics-commands.js'
import { ask, show, type ShowOptions } from './ask.js'
import { controlOption, jsonOption, watchOption } from './options.js'

export const statsCommand = (): Command =>
  new Command('stats')
    .description('Show the counters and latencies of a running server since its start.')
    .addOption(controlOption())
    .addOption(jsonOption())
    .addOption(watchOption())
    .addHelpText('after', '\nExample:\n  nbd-remap stats --control /run/disk.qmp --json')
    .action((options: ShowOptions) =>
      show(options, () => ask<StatisticsReply>(options.control, 'query-stats'), describe),
    )

function describe({ latency, ...counters }: StatisticsReply): string {
  const lines = Object.entries(counters).map(([name, value]) => `${name.padEnd(20)} ${value}`)
  return `${[...lines, '', ...latencyTable(latency)].join('\n')}\n`
}

const FIGURES = ['mean', 'p50', 'p90', 'p99', 'p999', 'max'] as const

/** In microseconds. */
function latencyTable(latencies: StatisticsReply['latency']): string[] {
  const head = ['microseconds', 'count', ...FIGURES]
  const rows = latencies.map((it) => [
    it.operation,
    it.count,
    ...FIGURES.map((figure) => it[`${figure}-us`].toFixed(1)),
  ])
  return [head, ...rows].map((row) => row.map((cell, n) => String(cell)[n === 0 ? 'padEnd' : 'padStart'](13)).join(''))
}
