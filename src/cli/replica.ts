/** `nbd-remap replica`: what a running server takes from its replica, and the word that it is identical again. */
import { Command } from 'commander'
import { formatBytes } from '../util/units.js'
import { ask, show, type ShowOptions } from './ask.js'
import { controlOption, jsonOption } from './options.js'

interface ReplicaInfo {
  readonly replica?: {
    readonly name: string
    readonly state: 'identical' | 'in-sync' | 'stale'
    readonly 'changed-bytes': number
    readonly 'healed-blocks': number
  }
}

interface ReplicaCommandOptions extends ShowOptions {
  readonly declare?: boolean
}

export const replicaCommand = (): Command =>
  new Command('replica')
    .description('Show the replica of a running server, or declare that it is identical again.')
    .addOption(controlOption())
    .addOption(jsonOption())
    .option('--declare', 'the replica holds what is served, as of now: say it after copying, while nothing is written')
    .addHelpText('after', '\nExample:\n  nbd-remap replica --control /run/disk.qmp --declare')
    .action(replica)

async function replica(options: ReplicaCommandOptions): Promise<void> {
  if (options.declare) await ask(options.control, 'replica-declare')
  await show(options, () => ask<ReplicaInfo>(options.control, 'query-replica'), describe)
}

const MEANINGS = {
  identical: 'what was not changed since is taken from it',
  'in-sync': 'all is taken from it',
  stale: 'nothing is taken from it',
}

function describe({ replica: info }: ReplicaInfo): string {
  if (!info) return 'replica:  none\n'
  return `replica:  ${info.name}
state:    ${info.state}: ${MEANINGS[info.state]}
changed:  ${formatBytes(info['changed-bytes'])}
healed:   ${info['healed-blocks']} blocks
`
}
