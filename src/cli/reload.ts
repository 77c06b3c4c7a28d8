/** `nbd-remap reload`: has a running server read its configuration file again. */
import { Command } from 'commander'
import type { Reloaded } from './configuration.js'
import { ask, type ShowOptions } from './ask.js'
import { controlOption, jsonOption } from './options.js'

export const reloadCommand = (): Command =>
  new Command('reload')
    .description('Have a running server read its configuration file again, without dropping clients.')
    .addOption(controlOption())
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
SIGHUP does the same, and tells the log. What cannot be changed until a restart is named. A file with a mistake changes
nothing.

Example:
  nbd-remap reload --control /run/disk.qmp`,
    )
    .action(async ({ control, json }: Pick<ShowOptions, 'control' | 'json'>) => {
      const reloaded = await ask<Reloaded>(control, 'reload')
      process.stdout.write(json ? `${JSON.stringify(reloaded)}\n` : `${describeReloaded(reloaded)}\n`)
    })

export function describeReloaded({ changed, 'needs-restart': restart }: Reloaded): string {
  const parts = [
    changed.length === 0 ? 'nothing changed' : `changed: ${changed.join(', ')}`,
    ...(restart.length === 0 ? [] : [`not until a restart: ${restart.join(', ')}`]),
  ]
  return parts.join('; ')
}
