/** `nbd-remap status`: how a running server does, for people or as JSON. */
import { Command } from 'commander'
import { formatBytes } from '../util/units.js'
import { describeSpare, type SpareStatus } from './spare-status.js'
import { ask, show, type ShowOptions } from './ask.js'
import { controlOption, jsonOption, watchOption } from './options.js'

interface Status {
  readonly 'data-plane': 'running' | 'stalled'
  readonly pid: number
  readonly version: string
  readonly 'started-at': string
  readonly 'read-only': boolean
  readonly uri: string
  readonly 'block-size': number
  readonly main: { readonly name: string; readonly size: number }
  readonly spares: readonly SpareStatus[]
  readonly remaps: number
  readonly clients: readonly { readonly id: number; readonly address: string; readonly 'requests-in-flight': number }[]
}

export const statusCommand = (): Command =>
  new Command('status')
    .description('Show the disk pair, the remaps and the clients of a running server.')
    .addOption(controlOption())
    .addOption(jsonOption())
    .addOption(watchOption())
    .addHelpText('after', '\nExample:\n  nbd-remap status --control /run/disk.qmp --watch 1')
    .action((options: ShowOptions) => show(options, () => ask<Status>(options.control, 'query-status'), describe))

function describe(status: Status): string {
  const { main, spares } = status
  const lines = [
    `server:   nbd-remap ${status.version}, pid ${status.pid}, since ${status['started-at']}`,
    ...(status['data-plane'] === 'stalled' ? ['STALLED:  a disk hangs; what follows is what was known before'] : []),
    `export:   ${status.uri}${status['read-only'] ? ' (read-only)' : ''}`,
    `main:     ${main.name}, ${formatBytes(main.size)}`,
    ...spares.map((spare) => `spare:    ${describeSpare(spare, status['block-size'])}`),
    `remaps:   ${status.remaps}`,
    `clients:  ${status.clients.length}`,
    ...status.clients.map((client) => `  ${client.id}: ${client.address}, ${client['requests-in-flight']} in flight`),
  ]
  return `${lines.join('\n')}\n`
}
