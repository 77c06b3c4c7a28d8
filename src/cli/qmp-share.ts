/** `nbd-remap qmp-share`: one QMP monitor for several clients, over unix sockets, TCP and WebSockets, with a recording. */
import { Command, InvalidArgumentError, Option } from 'commander'
import { parseAddress } from '../qmp/transport.js'
import {
  isLoopback,
  jsonOption,
  parseControlListen,
  parseSocketPath,
  type ControlAddress,
  type HostPort,
} from './options.js'

/** A WebSocket is served at `urlPath`. */
export type ShareAddress = ControlAddress | (HostPort & { readonly urlPath: string })

export interface QmpShareOptions {
  readonly listen: readonly ShareAddress[]
  readonly reconnect?: boolean
  readonly record?: string
  readonly json?: boolean
}

export const qmpShareCommand = (): Command =>
  new Command('qmp-share')
    .description('Let several clients use one QMP monitor, which serves one at a time.')
    .argument('<address>', 'the monitor: its path, HOST:PORT, or ws://HOST:PORT/PATH', parseMonitor)
    .addOption(
      new Option(
        '--listen <address>',
        'where clients connect: a path, HOST:PORT, or ws://HOST:PORT/PATH; several are possible',
      )
        .argParser((text: string, previous: readonly ShareAddress[] | undefined) => [
          ...(previous ?? []),
          parseShareListen(text),
        ])
        .makeOptionMandatory(),
    )
    .option('--reconnect', 'wait for a monitor that is not there, or goes away, as often as it does')
    .option('--record <file>', 'write every message to this file, one line of JSON each, after what it has')
    .addOption(jsonOption())
    .addHelpText(
      'after',
      `
Each client gets the greeting of the monitor, its own replies, and all events. Commands take turns. A client that does not read
loses events, and is told how many with EVENTS_DROPPED; the others lose none. With --reconnect clients stay when the monitor goes:
commands fail meanwhile, and the events CONNECTION_LOST and CONNECTION_RESTORED say what was missed. Sockets are for their owner
and this machine alone, since whoever connects may give any command.

Exit codes: 0 stopped by a signal, 1 the monitor could not be reached or went away, or an address cannot be had.

Example:
  nbd-remap qmp-share vm.qmp --listen shared.qmp --listen ws://127.0.0.1:9001/qmp --record vm.jsonl --reconnect`,
    )
    .action(async (address: string, options: QmpShareOptions) => {
      const { shareMonitor } = await import('./share-monitor.js')
      await shareMonitor(address, options)
    })

function parseMonitor(text: string): string {
  const address = parseAddress(text)
  return typeof address === 'string' ? parseSocketPath(address) : text
}

export function parseShareListen(text: string): ShareAddress {
  if (!/^wss?:/i.test(text)) return parseControlListen(text)
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol !== 'ws:')
    throw new InvalidArgumentError('It must be ws://HOST:PORT/PATH; TLS is for a proxy in front.')
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
  if (!isLoopback(host)) {
    throw new InvalidArgumentError(
      `Everybody who can connect to ${host} could give commands: only a loopback address is possible, such as 127.0.0.1.`,
    )
  }
  return { host, port: url.port === '' ? 80 : Number(url.port), urlPath: url.pathname }
}
