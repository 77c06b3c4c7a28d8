/** `nbd-remap health`: how well a running pair is, for people, as JSON, or as the check of a monitoring system. */
import { Command } from 'commander'
import type { HealthReply } from '../control/health-commands.js'
import { messageOf } from '../util/errors.js'
import { ask, show, type ShowOptions } from './ask.js'
import { controlOption, jsonOption, watchOption } from './options.js'

interface HealthOptions extends ShowOptions {
  readonly check?: boolean
}

/** Of the plug-ins of Nagios, and of what came after it. */
const CHECK_EXIT = { ok: 0, warning: 1, critical: 2, unknown: 3 } as const

export const healthCommand = (): Command =>
  new Command('health')
    .description('Show how well a running pair is, from 0 to 100, and why.')
    .addOption(controlOption())
    .addOption(jsonOption())
    .addOption(watchOption())
    .option('--check', 'one line and an exit code for Nagios: 0 ok, 1 warning, 2 critical, 3 unknown')
    .addHelpText(
      'after',
      `
With --check the exit codes are those of Nagios, also when no server answers (3).

Example:
  nbd-remap health --control /run/disk.qmp
  nbd-remap health --control /run/disk.qmp --check`,
    )
    .action(health)

async function health(options: HealthOptions): Promise<void> {
  const question = (): Promise<HealthReply> => ask<HealthReply>(options.control, 'query-health')
  if (!options.check) {
    await show(options, question, describe)
    return
  }
  try {
    const reply = await question()
    process.stdout.write(options.json ? `${JSON.stringify(reply)}\n` : checkLine(reply))
    process.exitCode = CHECK_EXIT[reply.status]
  } catch (error) {
    process.stdout.write(`NBD-REMAP UNKNOWN - ${messageOf(error)}\n`)
    process.exitCode = CHECK_EXIT.unknown
  }
}

function describe({ score, status, trend, reasons, ...rest }: HealthReply): string {
  const daysLeft = rest['days-left']
  const lines = [
    `health:   ${score} of 100, ${status}, ${trend === 'steady' ? 'steady' : `${trend} than an hour ago (${rest['score-before']})`}`,
    ...reasons.map(({ points, text }) => `  -${String(points).padEnd(3)} ${text}`),
    ...(daysLeft === undefined
      ? []
      : [`left:     ${daysLeft.toFixed(1)} days, at ${rest['failed-blocks-per-day'].toFixed(1)} blocks a day`]),
  ]
  return `${lines.join('\n')}\n`
}

/** After the bar: for graphs, as value;warning;critical;least;most. */
const checkLine = ({ score, status, reasons }: HealthReply): string =>
  `NBD-REMAP ${status.toUpperCase()} - ${[`score ${score}`, ...reasons.map(({ text }) => text)].join(', ')} | score=${score};80:;50:;0;100\n`
