/** `nbd-remap log`: what a server has logged, or all those of the runtime directory; what dmesg is for a kernel target. */
import { Command, InvalidArgumentError, Option } from 'commander'
import { controlOption, jsonOption, parseCount } from './options.js'

export interface LogOptions {
  readonly control?: string
  readonly follow?: boolean
  readonly level: 'info' | 'warn' | 'error'
  readonly grep?: RegExp
  readonly lines?: number
  readonly json?: boolean
}

const parsePattern = (text: string): RegExp => {
  try {
    return new RegExp(text)
  } catch {
    throw new InvalidArgumentError('It must be a regular expression of JavaScript.')
  }
}

export const logCommand = (): Command =>
  new Command('log')
    .description('Show what a server has logged, with its events.')
    .argument('[name]', 'a device of dmsetup create; all of them if neither it nor --control is given')
    .addOption(controlOption().makeOptionMandatory(false))
    .option('-w, --follow', 'wait for more, until the servers are gone or Ctrl-C')
    .addOption(
      new Option('--level <level>', 'this level, and what is worse').choices(['info', 'warn', 'error']).default('info'),
    )
    .option('--grep <pattern>', 'only messages in which this regular expression is found', parsePattern)
    .option('--lines <n>', 'only the last so many', parseCount(1))
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
A server keeps its last 10000 lines and events. Of a device whose server is gone, its log file is shown. With --json each line
is an object with the members time, level, message, and device or event where there is one.

Example:
  nbd-remap log disk --level warn
  nbd-remap log --control /run/disk.qmp --follow --grep 'Adaptive hash table'`,
    )
    .action(async (name: string | undefined, options: LogOptions) => {
      const { showLog } = await import('./show-log.js')
      await showLog(name, options)
    })
