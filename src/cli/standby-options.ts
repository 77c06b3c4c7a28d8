/** The options of `serve` for a server that stands by. */
import { Option, type Command } from 'commander'
import { parseAddress, type QmpAddress } from '../qmp/transport.js'
import { UsageError } from '../util/errors.js'
import { parseSeconds, parseSocketPath, type ControlAddress } from './options.js'

export interface StandByCommandOptions {
  readonly standby?: QmpAddress | true
  readonly standbyTimeout: number
  readonly fenceCommand?: string
  readonly readOnly?: boolean
}

export interface StandByChoice {
  readonly watches: QmpAddress
  readonly timeoutMs: number
  readonly fenceCommand: string | undefined
}

export const addStandByOptions = (command: Command): Command =>
  command
    .addOption(
      new Option(
        '--standby [address]',
        'wait until the server with this control socket (default: that of --control) is gone or hangs, end it, and take its place',
      ).argParser(parseWatched),
    )
    .option('--standby-timeout <seconds>', 'with --standby: so long may the other server not answer', parseSeconds, 2)
    .option(
      '--fence-command <command>',
      'with --standby: this shell command ends the other server, in place of SIGKILL; exit code 0 says that it can write no more',
    )

function parseWatched(text: string): QmpAddress {
  const address = parseAddress(text)
  return typeof address === 'string' ? parseSocketPath(address) : address
}

/** @throws UsageError */
export function standByChoice(
  { standby, standbyTimeout, fenceCommand, readOnly }: StandByCommandOptions,
  [control]: readonly ControlAddress[],
): StandByChoice | undefined {
  if (standby === undefined) {
    if (fenceCommand !== undefined) throw new UsageError('--fence-command goes with --standby')
    return undefined
  }
  if (readOnly)
    throw new UsageError('--standby does not go with --read-only: any number of such servers can run at once')
  const watches = standby === true ? control && ('path' in control ? control.path : control) : standby
  if (watches === undefined)
    throw new UsageError('--standby needs the control socket of the other server: give --control, or --standby ADDRESS')
  return { watches, timeoutMs: standbyTimeout * 1000, fenceCommand }
}
