/** The options of `nbd-remap serve` on the command line and in the file of `--config`, in the order of its help. */
import { Option, type Command } from 'commander'
import { READ_POLICY_DEFAULT, SPARE_POLICY_DEFAULT, type ExhaustedPolicy } from '../remap/policy.js'
import type { Limits } from '../server/limits.js'
import { addHttpOptions, type HttpCommandOptions } from './http.js'
import { limitOption } from './limits.js'
import { addEventOptions, type EventCommandOptions } from './on-event.js'
import {
  addTableOptions,
  BLOCK_SIZE_HELP,
  DISK_HELP,
  mainOption,
  parseBlockSize,
  parseControlListen,
  parseCount,
  parseExportName,
  parseHangTimeout,
  parseHostPort,
  parseLength,
  parseLocation,
  parsePercent,
  parseSeconds,
  parseSelfCheck,
  parseSocketPath,
  sparesOption,
  type ControlAddress,
  type HostPort,
} from './options.js'
import { addStandByOptions, type StandByCommandOptions } from './standby-options.js'
import { addTlsOptions, type TlsCommandOptions } from './tls.js'

export interface ServeCommandOptions
  extends TlsCommandOptions, HttpCommandOptions, EventCommandOptions, StandByCommandOptions {
  readonly config?: string
  readonly main: string
  readonly spare: string[]
  readonly name: string
  readonly create?: boolean
  readonly blockSize?: number
  readonly sectors?: number
  readonly socket?: string
  readonly listen?: HostPort
  readonly control?: readonly ControlAddress[]
  readonly readOnly?: boolean
  readonly onReadError: 'eio' | 'zero'
  readonly readRetries: number
  readonly slowRead: number
  readonly busyPoll: number
  readonly selfCheck: number
  readonly ioTimeout?: number
  readonly onTimeout: 'eio' | 'remap'
  readonly stopTimeout: number
  readonly replica?: string
  readonly replicaInSync?: boolean
  readonly onExhausted: ExhaustedPolicy
  readonly spareLow: number
  readonly acceptMain?: boolean
  readonly mainInUse?: boolean
  readonly supervise?: boolean
  readonly hangTimeout: number
  readonly tableMinBuckets?: number
  readonly tableGrowLoad?: number
  readonly tableShrinkLoad?: number
  readonly limit?: Partial<Limits>
  readonly faultInjection?: boolean
  readonly faults?: string
  readonly faultSeed?: string
  readonly logFile?: string
  readonly verbose?: boolean
}

/** About what waking a sleeping processor and its client takes. */
const BUSY_POLL_DEFAULT_US = 100

const PARTS: readonly ((command: Command) => Command)[] = [
  addPairOptions,
  addAddressOptions,
  addHealingOptions,
  addHangOptions,
  addSpareOptions,
  addRunOptions,
  addStandByOptions,
  addTlsOptions,
  addHttpOptions,
  addEventOptions,
  (command) => addTableOptions(command, 'table-'),
  addOtherOptions,
]

export const addServeOptions = (command: Command): Command => PARTS.reduce((all, add) => add(all), command)

/** What commander itself cannot demand. */
function hereOrInFile(option: Option): Option {
  option.description += ' (required, here or in the file of --config)'
  return option.makeOptionMandatory(false)
}

function addPairOptions(command: Command): Command {
  return command
    .addOption(hereOrInFile(mainOption()))
    .addOption(hereOrInFile(sparesOption('a disk that takes the bad blocks')))
    .option('--config <file>', 'take options from this file, too: lines of OPTION: VALUE; what stands here counts more')
    .option('--name <name>', 'export name; the default export name works, too', parseExportName, 'disk')
    .option('--create', 'format spares that are blank, and only those; beside others they are added to the pool')
    .option('--block-size <bytes>', `with --create: ${BLOCK_SIZE_HELP}`, parseBlockSize)
    .option('--sectors <n>', 'serve only so many sectors, of 512 bytes, from the start of main', parseLength)
}

function addAddressOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--socket <path>', 'serve on this unix socket').argParser(parseSocketPath).conflicts('listen'),
    )
    .addOption(
      new Option(
        '--listen <host:port>',
        'serve on this TCP address (default: 127.0.0.1:10809); who can connect can read and write, unless --tls asks for more',
      ).argParser(parseHostPort),
    )
    .option(
      '--control <address>',
      'control socket (QMP) for status, remaps and other commands: a path, or HOST:PORT of this machine; may be repeated',
      (text: string, previous: readonly ControlAddress[] | undefined) => [
        ...(previous ?? []),
        parseControlListen(text),
      ],
    )
    .option('--read-only', 'serve without write access; the spares are left untouched')
}

function addHealingOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--on-read-error <policy>', 'what a sector reads as whose content is lost')
        .choices(['eio', 'zero'])
        .default('eio'),
    )
    .option('--read-retries <n>', 'how often a failed read is tried again', parseCount(0), READ_POLICY_DEFAULT.retries)
    .addOption(
      new Option('--replica <replica>', `a copy of what is served, to heal what main loses: ${DISK_HELP}`).argParser(
        parseLocation,
      ),
    )
    .option('--replica-in-sync', 'something else writes to the replica what is written here, so all of it is current')
    .option('--slow-read <seconds>', 'a block whose reads take longer is weak, and moves to the spare', parseSeconds, 2)
    .option(
      '--self-check <seconds>',
      'check the metadata on the spares so often, and repair it; 0: never',
      parseSelfCheck,
      86_400,
    )
}

function addHangOptions(command: Command): Command {
  return command
    .option('--io-timeout <seconds>', 'give up what a disk has not answered by then', parseSeconds)
    .addOption(
      new Option('--on-timeout <policy>', 'what becomes of a write that was given up')
        .choices(['eio', 'remap'])
        .default('eio'),
    )
    .option('--stop-timeout <seconds>', 'stop uncleanly when a disk hangs for longer', parseSeconds, 60)
}

function addSpareOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        '--on-exhausted <policy>',
        'a write to a bad block when no spare block is left: eio, it fails; pause, it gets ENOSPC and QEMU pauses the machine',
      )
        .choices(['eio', 'pause'])
        .default(SPARE_POLICY_DEFAULT.onExhausted),
    )
    .option(
      '--spare-low <percent>',
      'warn when less than so many percent of the spare blocks are free',
      parsePercent,
      SPARE_POLICY_DEFAULT.lowShare * 100,
    )
}

function addRunOptions(command: Command): Command {
  return command
    .option(
      '--busy-poll <us>',
      'after a small request, look for the next one for so long before going to sleep; 0: never',
      parseCount(0),
      BUSY_POLL_DEFAULT_US,
    )
    .option('--accept-main', 'serve a main that does not look like the one the spare belongs to')
    .option(
      '--main-in-use',
      'start although a running QEMU machine has main open, which is to get this server instead (attach-vm --control)',
    )
    .option('--supervise', 'hold the listening socket and restart the server when it dies')
    .option(
      '--hang-timeout <seconds>',
      'with --supervise: so long may the server not answer; then it is killed and restarted, unless it waits for a disk; 0: never',
      parseHangTimeout,
      2,
    )
}

function addOtherOptions(command: Command): Command {
  return command
    .addOption(limitOption())
    .option('--fault-injection', 'for tests: let inject-error make the disks fail (nbd-remap inject)')
    .option('--faults <file>', 'the same, with these rules from the first request on: JSON or YAML, see docs/FAULTS.md')
    .option(
      '--fault-seed <seed>',
      'the same, and what is drawn is drawn from this seed, so that the run can be repeated',
    )
    .option('--log-file <path>', 'log to this file; of 8 MiB it is renamed to PATH.1, and a new one begun')
    .option('--verbose', 'log more')
}
