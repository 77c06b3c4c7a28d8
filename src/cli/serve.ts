/** `nbd-remap serve`: options in, a running server out. What runs stands in session.ts, worker.ts and supervisor.ts. */
import { Command, Option } from 'commander'
import { READ_POLICY_DEFAULT, SPARE_POLICY_DEFAULT, type ExhaustedPolicy } from '../remap/policy.js'
import { settingsProblem, TABLE_SETTINGS_DEFAULT, type TableSettings } from '../remap/table-settings.js'
import type { Limits } from '../server/limits.js'
import type { ListenAddress } from '../server/listener.js'
import { UsageError } from '../util/errors.js'
import { Random } from '../util/random.js'
import { AdjustableLog, type Log, type LogLevel } from '../util/log.js'
import { LogFile } from '../util/log-file.js'
import { takeInheritedSockets } from './activation.js'
import { exitCodeOf, reportError } from './exit.js'
import type { ClientAddresses } from './listen.js'
import {
  addTableOptions,
  BLOCK_SIZE_HELP,
  DISK_HELP,
  mainOption,
  parseBlockSize,
  parseControlListen,
  parseCount,
  parseExportName,
  parseHostPort,
  parseHangTimeout,
  parseLength,
  parseLocation,
  parseSeconds,
  parseSelfCheck,
  parsePercent,
  parseSocketPath,
  sparesOption,
  type ControlAddress,
  type HostPort,
} from './options.js'
import { addHttpOptions, forgetToken, httpChoice, type HttpCommandOptions } from './http.js'
import { limitOption, limitsHelp } from './limits.js'
import type { Configuration } from './configuration.js'
import { addEventOptions, hookChoice, type EventCommandOptions } from './on-event.js'
import type { FaultChoice } from './injected-disks.js'
import { leave, PairLostError, UncleanStopError } from './leave.js'
import { Readiness } from './readiness.js'
import { ReloadSignal } from './reload-signal.js'
import { addStandByOptions, standByChoice, type StandByCommandOptions } from './standby-options.js'
import type { Reloading, SessionOptions } from './session.js'
import type { StandBy } from './standby.js'
import { Stop } from './stop.js'
import { addTlsOptions, tlsChoice, type TlsCommandOptions } from './tls.js'
import { isWorker, role } from './worker.js'

interface ServeCommandOptions
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

type ServeConfiguration = Configuration<ServeCommandOptions>

/** About what waking a sleeping processor and its client takes. */
const BUSY_POLL_DEFAULT_US = 100
const LISTEN_DEFAULT: HostPort = { host: '127.0.0.1', port: 10809 }

/** What commander itself cannot demand. */
function hereOrInFile(option: Option): Option {
  option.description += ' (required, here or in the file of --config)'
  return option.makeOptionMandatory(false)
}

const withoutTls = (): Command =>
  new Command('serve')
    .description('Serve a main disk over NBD; blocks that go bad move to the spares.')
    .addOption(hereOrInFile(mainOption()))
    .addOption(hereOrInFile(sparesOption('a disk that takes the bad blocks')))
    .option('--config <file>', 'take options from this file, too: lines of OPTION: VALUE; what stands here counts more')
    .option('--name <name>', 'export name; the default export name works, too', parseExportName, 'disk')
    .option('--create', 'format spares that are blank, and only those; beside others they are added to the pool')
    .option('--block-size <bytes>', `with --create: ${BLOCK_SIZE_HELP}`, parseBlockSize)
    .option('--sectors <n>', 'serve only so many sectors, of 512 bytes, from the start of main', parseLength)
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
    .option('--io-timeout <seconds>', 'give up what a disk has not answered by then', parseSeconds)
    .addOption(
      new Option('--on-timeout <policy>', 'what becomes of a write that was given up')
        .choices(['eio', 'remap'])
        .default('eio'),
    )
    .option('--stop-timeout <seconds>', 'stop uncleanly when a disk hangs for longer', parseSeconds, 60)
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

export const serveCommand = (): Command =>
  addTableOptions(addEventOptions(addHttpOptions(addTlsOptions(addStandByOptions(withoutTls())))), 'table-')
    .addOption(limitOption())
    .option('--fault-injection', 'for tests: let inject-error make the disks fail (nbd-remap inject)')
    .option('--faults <file>', 'the same, with these rules from the first request on: JSON or YAML, see docs/FAULTS.md')
    .option(
      '--fault-seed <seed>',
      'the same, and what is drawn is drawn from this seed, so that the run can be repeated',
    )
    .option('--log-file <path>', 'log to this file; of 8 MiB it is renamed to PATH.1, and a new one begun')
    .option('--verbose', 'log more')
    .addHelpText(
      'after',
      `
Prints one line on standard output, the NBD URI to connect to, once it accepts connections. SIGTERM and SIGINT stop it
cleanly. QEMU keeps running across a restart when it connects with reconnect-delay. Started with listening sockets
(LISTEN_FDS, by systemd or libnbd) it serves those, and prints nothing:
nbdinfo -- [ nbd-remap serve --main main.img --spare spare.img ].

${limitsHelp()}

Example:
  nbd-remap serve --main /dev/sdb --spare spare.img --create --socket /run/disk.sock --control /run/disk.qmp --supervise
  qemu-system-x86_64 ... -drive file=nbd+unix:///disk?socket=/run/disk.sock,file.reconnect-delay=30,format=raw,if=virtio`,
    )
    .action(serve)

/** The supervisor loads nothing of the server, so that the worker's start is not held up. */
async function serve(given: { readonly config?: string }, command: Command): Promise<void> {
  try {
    await run(await configurationOf(given.config, command))
  } catch (error) {
    if (!(error instanceof UncleanStopError || error instanceof PairLostError)) throw error
    reportError(error)
    leave(exitCodeOf(error))
  }
}

/** A worker has the text that its supervisor has read. */
async function configurationOf(path: string | undefined, command: Command): Promise<ServeConfiguration> {
  const { Configuration } = await import('./configuration.js')
  return Configuration.open(command, path, isWorker() ? role().configuration : undefined)
}

async function run(configuration: ServeConfiguration): Promise<void> {
  const { options } = configuration
  const log = logOf(options)
  const signal = new ReloadSignal(configuration.hasFile)
  const inherited = takeInheritedSockets(options.socket !== undefined || options.listen !== undefined)
  const session = sessionOptions(options, log)
  const reloading: Reloading = {
    signal,
    reload: (apply) => reload(configuration, apply, log),
    get text() {
      return configuration.text
    },
  }
  const stop = Stop.onSignals()
  if (isWorker() || !options.supervise) forgetToken()
  if (isWorker()) {
    const { serveAsWorker } = await import('./session.js')
    await serveAsWorker(session, stop, reloading)
    return
  }
  const addresses = clientAddresses(options, inherited)
  const standBy = await standingBy(options, session, stop, inherited)
  const prints = inherited.length === 0
  const readiness = new Readiness({ prints, log: session.log, onReady: () => void standBy?.over() })
  if (standBy) readiness.standingBy()
  if (options.supervise) {
    const { supervise } = await import('./supervisor.js')
    const settings = { hangTimeoutMs: options.hangTimeout * 1000, configuration: { text: configuration.text, signal } }
    await supervise(addresses, readiness, stop, session.log, settings, standBy)
  } else {
    const { serveAlone } = await import('./session.js')
    await serveAlone(session, addresses, readiness, stop, reloading, standBy)
  }
}

/** @throws UsageError */
async function standingBy(
  options: ServeCommandOptions,
  session: SessionOptions,
  stop: Stop,
  inherited: readonly ListenAddress[],
): Promise<StandBy | undefined> {
  const choice = standByChoice(options, session.control)
  if (!choice) return undefined
  if (inherited.length > 0)
    throw new UsageError(
      '--standby does not go with sockets that are passed in (LISTEN_FDS): give --socket or --listen',
    )
  const { StandBy } = await import('./standby.js')
  return new StandBy({ ...choice, main: session.main, spares: session.spares, log: session.log }, stop)
}

function reload(
  configuration: ServeConfiguration,
  apply: Parameters<Reloading['reload']>[0],
  log: AdjustableLog,
): ReturnType<Reloading['reload']> {
  if (!configuration.hasFile) throw new UsageError('serve was started without --config: there is nothing to reload')
  return configuration.reload((options, changed) => {
    apply(sessionOptions(options, log), changed)
    log.least = levelOf(options)
  })
}

const levelOf = ({ verbose }: ServeCommandOptions): LogLevel => (verbose ? 'debug' : 'info')

function clientAddresses(
  { socket, listen }: ServeCommandOptions,
  inherited: readonly ListenAddress[],
): ClientAddresses {
  const [first, ...more] = inherited
  if (first) return [first, ...more]
  return [socket === undefined ? (listen ?? LISTEN_DEFAULT) : { path: socket }]
}

/** @throws UsageError */
function tableSettings(options: ServeCommandOptions): TableSettings {
  const settings = {
    bucketsMin: options.tableMinBuckets ?? TABLE_SETTINGS_DEFAULT.bucketsMin,
    growLoad: options.tableGrowLoad ?? TABLE_SETTINGS_DEFAULT.growLoad,
    shrinkLoad: options.tableShrinkLoad ?? TABLE_SETTINGS_DEFAULT.shrinkLoad,
  }
  const problem = settingsProblem(settings)
  if (problem !== undefined) throw new UsageError(problem)
  return settings
}

function sessionOptions(options: ServeCommandOptions, log: Log): SessionOptions {
  if (options.blockSize !== undefined && !options.create)
    throw new UsageError('--block-size goes with --create: a formatted spare keeps the block size that it has')
  if (options.replicaInSync && options.replica === undefined)
    throw new UsageError('--replica-in-sync goes with --replica')
  if (options.create && options.readOnly)
    throw new UsageError('--create does not go with --read-only, which writes nothing')
  return {
    main: options.main,
    spares: options.spare,
    name: options.name,
    tls: tlsChoice(options),
    control: options.control ?? [],
    http: httpChoice(options),
    hook: hookChoice(options),
    create: options.create ?? false,
    blockSize: options.blockSize,
    sectors: options.sectors,
    readOnly: options.readOnly ?? false,
    acceptMain: options.acceptMain ?? false,
    mainInUse: options.mainInUse ?? false,
    ioTimeoutMs: options.ioTimeout === undefined ? undefined : options.ioTimeout * 1000,
    onTimeout: options.onTimeout,
    slowReadMs: options.slowRead * 1000,
    pollMs: options.busyPoll / 1000,
    selfCheckMs: options.selfCheck * 1000,
    replica: options.replica,
    replicaInSync: options.replicaInSync ?? false,
    stopTimeoutMs: options.stopTimeout * 1000,
    tableSettings: tableSettings(options),
    policy: { ...READ_POLICY_DEFAULT, retries: options.readRetries, onReadError: options.onReadError },
    sparePolicy: { onExhausted: options.onExhausted, lowShare: options.spareLow / 100 },
    limits: options.limit ?? {},
    faults: faultChoice(options),
    log,
  }
}

function faultChoice({ faultInjection, faults: file, faultSeed: seed }: ServeCommandOptions): FaultChoice | undefined {
  return faultInjection || file !== undefined || seed !== undefined ? { file, seed, drawnSeed: drawnSeed() } : undefined
}

/** A restarted worker has the disks of the one before it, and so the same faults. */
const drawnSeed = (): string => (isWorker() ? role().faultSeed : new Random().seed)

function logOf(options: ServeCommandOptions): AdjustableLog {
  if (options.logFile === undefined) return new AdjustableLog(levelOf(options))
  const file = new LogFile(options.logFile)
  return new AdjustableLog(levelOf(options), (line) => {
    file.append(line)
  })
}
