/** `nbd-remap stats`: the counters of a running server, and how long its requests take. */
import { Command } from 'commander'
import type { StatisticsReply } from '../control/statistics-commands.js'
import { UsageError } from '../util/errors.js'
import { ask, show, type ShowOptions } from './ask.js'
import { controlOption, jsonOption, watchOption } from './options.js'

interface StatsOptions extends ShowOptions {
  readonly reset?: boolean
  readonly lifetime?: boolean
}

export const statsCommand = (): Command =>
  new Command('stats')
    .description('Show the counters and latencies of a running server, or let them begin anew.')
    .addOption(controlOption())
    .addOption(jsonOption())
    .addOption(watchOption())
    .option('--reset', 'let the counters since the start, and the latencies, begin anew')
    .option('--lifetime', 'with --reset: the counters since the pair was formatted, and the history of errors, too')
    .addHelpText(
      'after',
      `
The first column counts from the start or the last --reset, the second one from when the pair was formatted.

Example:
  nbd-remap stats --control /run/disk.qmp --json
  nbd-remap stats --control /run/disk.qmp --reset`,
    )
    .action(stats)

async function stats(options: StatsOptions): Promise<void> {
  if (options.lifetime && !options.reset) throw new UsageError('--lifetime goes with --reset')
  if (options.reset) await ask(options.control, 'reset-stats', { lifetime: options.lifetime ?? false })
  else await show(options, () => ask<StatisticsReply>(options.control, 'query-stats'), describe)
}

function describe({ latency, lifetime, ...counters }: StatisticsReply): string {
  const all: Readonly<Record<string, number>> = lifetime
  const row = (name: string, now: string | number, ever: string | number): string =>
    `${name.padEnd(20)} ${String(now).padStart(16)} ${String(ever).padStart(16)}`.trimEnd()
  const head = row('counter', 'since start', 'lifetime')
  const lines = Object.entries(counters).map(([name, value]) => row(name, value, all[name] ?? ''))
  return `${[head, ...lines, '', ...latencyTable(latency)].join('\n')}\n`
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
