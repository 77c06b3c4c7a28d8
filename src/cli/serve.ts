/** `nbd-remap serve`: options in, a running server out. What runs stands in session.ts, worker.ts and supervisor.ts. */
import { statSync } from 'node:fs'
import { Command } from 'commander'
import { READ_POLICY_DEFAULT } from '../remap/policy.js'
import { settingsProblem, TABLE_SETTINGS_DEFAULT, type TableSettings } from '../remap/table-settings.js'
import type { ListenAddress } from '../server/listener.js'
import { UsageError } from '../util/errors.js'
import { Random } from '../util/random.js'
import { AdjustableLog, type Log, type LogLevel } from '../util/log.js'
import { LogFile } from '../util/log-file.js'
import { takeInheritedSockets } from './activation.js'
import type { Configuration } from './configuration.js'
import { exitCodeOf, reportError } from './exit.js'
import { forgetToken, httpChoice } from './http.js'
import type { FaultChoice } from './injected-disks.js'
import { leave, PairLostError, UncleanStopError } from './leave.js'
import { limitsHelp } from './limits.js'
import type { ClientAddresses } from './listen.js'
import { hookChoice } from './on-event.js'
import type { HostPort } from './options.js'
import { Readiness } from './readiness.js'
import { ReloadSignal } from './reload-signal.js'
import { addServeOptions, type ServeCommandOptions } from './serve-options.js'
import type { Reloading, SessionOptions } from './session.js'
import type { StandBy } from './standby.js'
import { standByChoice } from './standby-options.js'
import { Stop } from './stop.js'
import { tlsChoice } from './tls.js'
import { isWorker, role } from './worker.js'

type ServeConfiguration = Configuration<ServeCommandOptions>

const LISTEN_DEFAULT: HostPort = { host: '127.0.0.1', port: 10809 }

export const serveCommand = (): Command =>
  addServeOptions(new Command('serve'))
    .description('Serve a main disk over NBD; blocks that go bad move to the spares.')
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

/** A log is appended to whatever is there. @throws UsageError when that is one of the disks */
function refuseDisk(logFile: string, { main, spare, replica = '' }: ServeCommandOptions): void {
  const place = inodeOf(logFile)
  const disk = [main, ...spare, replica].find((location) => place !== undefined && inodeOf(location) === place)
  if (disk !== undefined) throw new UsageError(`--log-file ${logFile} is the disk ${disk}: give another file`)
}

function inodeOf(path: string): string | undefined {
  try {
    const { dev, ino } = statSync(path, { bigint: true })
    return `${dev}:${ino}`
  } catch {
    return undefined
  }
}

function logOf(options: ServeCommandOptions): AdjustableLog {
  if (options.logFile === undefined) return new AdjustableLog(levelOf(options))
  refuseDisk(options.logFile, options)
  const file = new LogFile(options.logFile)
  return new AdjustableLog(levelOf(options), (line) => {
    file.append(line)
  })
}
