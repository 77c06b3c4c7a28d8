/**
 * One serving session: sockets, disks, NBD server and control socket, from start to clean stop. The sockets are claimed
 * first and the disks opened second, so that a start which fails has written nothing; clients that connect meanwhile
 * wait.
 */
import type { Socket } from 'node:net'
import type { HookChoice } from '../control/event-hook.js'
import { isWarning } from '../control/events.js'
import type { Facts } from '../control/messages.js'
import { controlOperations } from '../control/operations.js'
import { describeSpares } from '../control/spare-operations.js'
import { resolveLocation } from '../device/location.js'
import { openDisk, type DiskOpener, type OpenedDisk } from '../device/open.js'
import { SlowReads } from '../device/slow-reads.js'
import { formatNbdUri } from '../nbd/uri.js'
import type { RemapEventSink } from '../remap/events.js'
import { guarded, type GuardedDisk, type TimeoutPolicy } from '../remap/guard.js'
import { Healing } from '../remap/healing.js'
import { closeDisks, openDisks, type PairDisks } from '../remap/pair-disks.js'
import { formatPair, Pair } from '../remap/pair.js'
import type { ReadPolicy, SparePolicy } from '../remap/policy.js'
import { Replica } from '../remap/replica.js'
import { admitReplica, openReplica } from '../remap/replica-open.js'
import type { TableSettings } from '../remap/table-settings.js'
import type { Limits } from '../server/limits.js'
import type { BoundAddress } from '../server/listener.js'
import { NbdServer } from '../server/server.js'
import type { ServerTls } from '../server/starttls.js'
import { findContent } from '../spare/blank.js'
import { messageOf, RefusedError } from '../util/errors.js'
import type { Log } from '../util/log.js'
import { SECTOR_SIZE } from '../util/units.js'
import type { Reloaded } from './configuration.js'
import { ControlThread } from './control-thread.js'
import type { HttpChoice } from './http.js'
import type { FaultChoice, InjectedDisks } from './injected-disks.js'
import { clientErrors } from './client-errors.js'
import { listenForClients, type ClientAddresses, type ClientListeners } from './listen.js'
import { PairLostError, stopWithin } from './leave.js'
import type { ControlAddress } from './options.js'
import { packageVersion } from './package-version.js'
import { pairExport } from './pair-export.js'
import type { Readiness } from './readiness.js'
import { describeReloaded } from './reload.js'
import type { ReloadSignal } from './reload-signal.js'
import { rehearse } from './rehearsal.js'
import type { StandBy } from './standby.js'
import type { Stop } from './stop.js'
import { loadTls, type TlsChoice } from './tls.js'
import { WaitingRoom } from './waiting-room.js'
import { supervisedSockets } from './worker.js'

export interface SessionOptions {
  readonly main: string
  readonly spares: readonly string[]
  readonly name: string
  readonly tls: TlsChoice | undefined
  readonly control: readonly ControlAddress[]
  readonly http: HttpChoice | undefined
  readonly hook: HookChoice | undefined
  readonly create: boolean
  readonly blockSize: number | undefined
  /** Of main, from its start; all if absent. */
  readonly sectors: number | undefined
  readonly readOnly: boolean
  readonly acceptMain: boolean
  /** A machine of QEMU's may have main open: it is about to get this server instead. */
  readonly mainInUse: boolean
  readonly policy: ReadPolicy
  /** Without it a disk is waited for without a limit. */
  readonly ioTimeoutMs: number | undefined
  readonly onTimeout: TimeoutPolicy
  readonly stopTimeoutMs: number
  readonly slowReadMs: number
  /** How long to look for the next request before sleeping. */
  readonly pollMs: number
  /** 0: never. */
  readonly selfCheckMs: number
  readonly replica: string | undefined
  readonly replicaInSync: boolean
  readonly tableSettings: TableSettings
  readonly sparePolicy: SparePolicy
  readonly limits: Partial<Limits>
  /** Without it nothing can be injected, and nothing is in the way of requests. */
  readonly faults: FaultChoice | undefined
  readonly log: Log
}

/** Has the configuration read again, as `Configuration.reload` does. */
export interface Reloading {
  readonly signal: ReloadSignal
  /** @throws Error with a sentence for people; then nothing has changed */
  reload(apply: (options: SessionOptions, changed: ReadonlySet<string>) => void): Reloaded
  /** Of the configuration file, when there is one. */
  readonly text: string | undefined
}

/** Listens itself, serves until it is told to stop, and resolves after a clean stop. @param standBy wait for our turn first */
export async function serveAlone(
  options: SessionOptions,
  addresses: ClientAddresses,
  readiness: Readiness,
  stop: Stop,
  reloading: Reloading,
  standBy?: StandBy,
): Promise<void> {
  const tls = loadTls(options.tls)
  const room = new WaitingRoom()
  let listener: ClientListeners | undefined
  let control: ControlThread | undefined
  try {
    if (standBy) {
      control = startControl(options)
      await rehearse()
      const turn = await standBy.turn()
      if (!turn) return
      listener = await turn.takeOver(addresses, room.admit)
    } else {
      listener = await listenForClients(addresses, room.admit, options.log)
      control = startControl(options)
    }
    const uri = uriOf(listener.address, options)
    const session = await Session.start(options, uri, stop, { control, tls, reloading })
    room.open(session.accept)
    if (!stop.isRequested) readiness.ready(uri)
    void stop.requested.then(() => {
      readiness.stopping()
    })
    await session.untilStopped()
  } finally {
    room.close()
    listener?.close()
    await control?.close()
  }
}

/** Serves the connections that the supervisor hands over. */
export async function serveAsWorker(options: SessionOptions, stop: Stop, reloading: Reloading): Promise<void> {
  const room = new WaitingRoom()
  const supervisor = supervisedSockets(room.admit, () => {
    stop.request('the supervisor is gone')
  })
  const control = startControl(options)
  try {
    if (supervisor.isStandby) await rehearse()
    await Promise.race([supervisor.turn, stop.requested])
    if (stop.isRequested) return
    void stop.requested.then(supervisor.stopping.bind(supervisor))
    const uri = uriOf(supervisor.address, options)
    const parts = { control, tls: loadTls(options.tls), reloading, onReloaded: supervisor.reloaded.bind(supervisor) }
    const session = await Session.start(options, uri, stop, parts)
    room.open(session.accept)
    supervisor.ready(uri)
    await session.untilStopped()
  } finally {
    room.close()
    supervisor.disconnect()
    await control?.close()
  }
}

/** It boots while there is other work to do. */
const startControl = ({ control, http, hook, log }: SessionOptions): ControlThread | undefined =>
  control.length > 0 || http || hook ? new ControlThread(log) : undefined

interface SessionParts {
  readonly control: ControlThread | undefined
  readonly tls: ServerTls | undefined
  readonly reloading: Reloading
  /** Another text of the configuration file is in force. */
  readonly onReloaded?: (text: string) => void
}

class Session {
  #options: SessionOptions
  readonly #stop: Stop
  readonly #pair: Pair
  readonly #healing: Healing
  readonly #server: NbdServer

  private constructor(options: SessionOptions, stop: Stop, pair: Pair, healing: Healing, server: NbdServer) {
    this.#options = options
    this.#stop = stop
    this.#pair = pair
    this.#healing = healing
    this.#server = server
  }

  static async start(given: SessionOptions, uri: string, stop: Stop, parts: SessionParts): Promise<Session> {
    const { control } = parts
    const { log } = given
    const options = { ...given, log: control?.log ?? log }
    await control?.listen(options)
    const injected = await injectedDisks(options, control)
    const emit = emitter(log, control, injected)
    const { pair, slowReads } = await openPair(options, emit, injected)
    const healing = new Healing(pair.target, { ...options, slowReads, emit })
    const server = newServer(options, pair, parts)
    const session = new Session(options, stop, pair, healing, server)
    injected?.begin(pair, () => {
      server.dropClients()
    })
    const quit = (): void => {
      stop.request('told to quit')
    }
    const reload = (): Reloaded => session.#reload(parts)
    const operations = controlOperations({
      pair,
      policy: options.policy,
      scrub: healing.scrub,
      metadata: healing.metadata,
      faults: injected?.injection,
      reload,
      quit,
    })
    const present = { clients: () => server.clients, spares: () => describeSpares(pair) }
    control?.open(factsOf(options, uri, pair), operations, present)
    healing.begin()
    parts.reloading.signal.heed(() => {
      session.#reloadForSignal(parts)
    })
    return session
  }

  #reload({ reloading, onReloaded }: SessionParts): Reloaded {
    const reloaded = reloading.reload(this.#apply)
    if (reloading.text !== undefined) onReloaded?.(reloading.text)
    this.#options.log.info(`configuration reloaded: ${describeReloaded(reloaded)}`)
    return reloaded
  }

  #reloadForSignal(parts: SessionParts): void {
    try {
      this.#reload(parts)
    } catch (error) {
      this.#options.log.error(`the configuration is not reloaded: ${messageOf(error)}`)
    }
  }

  /** The policy is shared by all who go by it, so it is changed in place. */
  readonly #apply = (options: SessionOptions, changed: ReadonlySet<string>): void => {
    const { target } = this.#pair
    if ([...changed].some((name) => name.startsWith('table'))) target.configureTable(options.tableSettings)
    Object.assign(this.#options.policy, options.policy)
    target.setSparePolicy(options.sparePolicy)
    this.#healing.slowReadMs = options.slowReadMs
    if (changed.has('limit')) this.#server.setLimits(options.limits)
    this.#options = { ...options, policy: this.#options.policy }
  }

  readonly accept = (socket: Socket): void => {
    this.#server.accept(socket)
  }

  /** Serves until a stop is wanted; then finishes what is in flight and marks the metadata clean. */
  async untilStopped(): Promise<void> {
    const lost = this.#pair.lost.then((reason) => {
      throw new PairLostError(`${reason}; this one has stopped serving it and has written nothing since`)
    })
    await Promise.race([lost, this.#stopInGoodOrder()])
  }

  async #stopInGoodOrder(): Promise<void> {
    const reason = await this.#stop.requested
    this.#options.log.info(`stopping: ${reason}`)
    await stopWithin(this.#options.stopTimeoutMs, this.#close())
    this.#options.log.info('stopped')
  }

  async #close(): Promise<void> {
    await this.#pair.target.suspension.resume()
    await this.#server.close()
    await this.#healing.close()
    await this.#pair.close()
  }
}

/** @param log the plain one: what is told to the control thread as an event need not be told as a line, too */
function emitter(log: Log, control: ControlThread | undefined, injected: InjectedDisks | undefined): RemapEventSink {
  return (event, data) => {
    if (event === 'SPARE_ADDED') injected?.refresh()
    if (isWarning(event)) log.warn(`${event} ${JSON.stringify(data)}`)
    control?.emit(event, data)
  }
}

/** Bytes. */
const servedSize = ({ sectors }: SessionOptions, { target }: Pair): number =>
  sectors === undefined ? target.size : sectors * SECTOR_SIZE

function factsOf(options: SessionOptions, uri: string, pair: Pair): Facts {
  const { name } = options
  const { target } = pair
  const { main, pool } = target
  return {
    version: packageVersion(),
    exportName: name,
    uri,
    startedAt: new Date(),
    readOnly: target.readOnly,
    blockSize: pool.blockSize,
    size: servedSize(options, pair),
    main: { name: main.name, location: resolveLocation(options.main), size: main.size },
    statistics: target.statistics.memory,
    errors: target.errors.counts.memory,
  }
}

function newServer(options: SessionOptions, pair: Pair, { control, tls }: SessionParts): NbdServer {
  const server = new NbdServer({
    limits: options.limits,
    pollMs: options.pollMs,
    exports: [pairExport(pair.target, options.name, servedSize(options, pair))],
    log: options.log,
    ...(tls && { tls }),
    onClientConnected: (client) => {
      control?.tellClients('CLIENT_CONNECTED', client, server.clients)
    },
    onClientError: clientErrors((data) => control?.emitOfServer('CLIENT_ERROR', data)),
    onClientDisconnected: (client) => {
      control?.tellClients('CLIENT_DISCONNECTED', client, server.clients)
    },
  })
  return server
}

async function injectedDisks(
  { faults, log }: SessionOptions,
  control: ControlThread | undefined,
): Promise<InjectedDisks | undefined> {
  if (!faults) return undefined
  const { InjectedDisks } = await import('./injected-disks.js')
  return InjectedDisks.create(faults, log, (entry) => control?.emitOfServer('FAULT_INJECTED', entry))
}

async function openPair(
  options: SessionOptions,
  emit: RemapEventSink,
  injected: InjectedDisks | undefined,
): Promise<{ pair: Pair; slowReads: SlowReads }> {
  const openSpare = spareOpener(options, emit, injected)
  const opened = await openDisks(options, {
    mainMayHang: options.ioTimeoutMs !== undefined,
    openSpare,
    mainReadOnly: options.readOnly,
    mainBesideQemu: options.mainInUse,
    spareReadOnly: options.readOnly,
    log: options.log,
  })
  try {
    refuseShortMain(options, opened)
  } catch (error) {
    await closeDisks(opened)
    throw error
  }
  let formatted: { pair: Pair; blank: OpenedDisk[] } | undefined
  const faulted = await withFaults(opened, injected)
  const main = guardedDisk('main', faulted, options, (event, data) => {
    formatted?.pair.target.errors.observe(event, data)
    emit(event, data)
  })
  const slowReads = new SlowReads(main.device, options.slowReadMs)
  const disks = { ...opened, main: { ...main, device: slowReads } }
  let replica: OpenedDisk | undefined
  try {
    replica = await openReplicaOf(disks, options, emit, injected)
    formatted = await openFormatted(disks, replica, options, emit, openSpare)
  } catch (error) {
    await closeDisks(disks)
    await replica?.device.close()
    throw error
  }
  await complete(formatted.pair, formatted.blank, options)
  return { pair: formatted.pair, slowReads }
}

/** Of main. @throws UsageError; then all disks are closed */
async function withFaults({ main, spares }: PairDisks, injected: InjectedDisks | undefined): Promise<OpenedDisk> {
  if (!injected) return main
  try {
    return await injected.wrap('main', main)
  } catch (error) {
    for (const { device } of spares) await device.close()
    throw error
  }
}

function refuseShortMain({ sectors }: SessionOptions, { main: { device } }: PairDisks): void {
  const all = Math.floor(device.size / SECTOR_SIZE)
  if (sectors !== undefined && sectors > all) {
    throw new RefusedError(`main ${device.name} has ${all} sectors, so ${sectors} of it cannot be served`)
  }
}

const OWNER_CHECK_MS = 2000

/** @returns beside the pair the disks that are to be added to it */
async function openFormatted(
  disks: PairDisks,
  replica: OpenedDisk | undefined,
  options: SessionOptions,
  emit: RemapEventSink,
  openSpare: DiskOpener,
): Promise<{ pair: Pair; blank: OpenedDisk[] }> {
  const blank = options.create ? await createIfBlank(disks, options) : []
  const { main } = disks
  const spares = disks.spares.filter((disk) => !blank.includes(disk))
  const { policy, sparePolicy, tableSettings, acceptMain, log, replicaInSync } = options
  const state = replicaInSync ? 'in-sync' : 'stale'
  const copy = replica && new Replica(replica.device, replica.identity.id, state, log)
  const ownerCheckMs = OWNER_CHECK_MS
  const common = { policy, spares: sparePolicy, openSpare, tableSettings, acceptMain, log, emit }
  const pairOptions = { ...common, replica: copy, ownerCheckMs }
  const pair = await Pair.open({ ...disks, spares }, pairOptions)
  warnOfBlockSize(options, pair)
  const { table } = pair.target
  const names = spares.map(({ device }) => device.name).join(', ')
  log.info(
    `main=${main.device.name}, spare=${names}: ${table.count} remaps in a hash table of ${table.buckets} buckets ` +
      `(initial size=${table.buckets})`,
  )
  return { pair, blank }
}

/** @returns those that are to be added to the others, which are formatted already */
async function createIfBlank(disks: PairDisks, options: SessionOptions): Promise<OpenedDisk[]> {
  const blank: OpenedDisk[] = []
  for (const disk of disks.spares) if (await isBlank(disk)) blank.push(disk)
  if (blank.length === 0 || blank.length < disks.spares.length) return blank
  const { blockSize, log } = options
  await formatPair(disks, { force: false, log, ...(blockSize === undefined ? {} : { blockSize }) })
  log.info(`${options.spares.join(', ')}: blank, and formatted now`)
  return []
}

/** Admits the replica and adds the blank spares. Takes over all disks: when it throws, they are closed as they should be. */
async function complete(pair: Pair, blank: readonly OpenedDisk[], { log }: SessionOptions): Promise<void> {
  const left = [...blank]
  try {
    await admitReplica(pair.target, log)
    for (let disk = left.shift(); disk; disk = left.shift()) await pair.addOpened(disk, false)
  } catch (error) {
    for (const { device } of left) await device.close()
    await pair.close()
    throw error
  }
}

async function openReplicaOf(
  disks: PairDisks,
  options: SessionOptions,
  emit: RemapEventSink,
  injected: InjectedDisks | undefined,
): Promise<OpenedDisk | undefined> {
  const { replica, ioTimeoutMs, log } = options
  if (replica === undefined) return undefined
  const opened = await openReplica(replica, disks, { mayHang: ioTimeoutMs !== undefined, log })
  return guardedDisk('replica', (await injected?.wrap('replica', opened)) ?? opened, options, emit)
}

const spareOpener =
  (options: SessionOptions, emit: RemapEventSink, injected: InjectedDisks | undefined): DiskOpener =>
  async (location, opening) => {
    const opened = await openDisk(location, { ...opening, mayHang: options.ioTimeoutMs !== undefined })
    return guardedDisk('spare', (await injected?.wrap('spare', opened)) ?? opened, options, emit)
  }

function guardedDisk(
  disk: GuardedDisk,
  opened: OpenedDisk,
  { ioTimeoutMs, onTimeout, log }: SessionOptions,
  emit: RemapEventSink,
): OpenedDisk {
  if (ioTimeoutMs === undefined) return opened
  return guarded(opened, { disk, timeoutMs: ioTimeoutMs, onTimeout, emit, log })
}

function warnOfBlockSize({ blockSize: wanted, spares, log }: SessionOptions, { target }: Pair): void {
  const { blockSize } = target.pool
  if (wanted === undefined || wanted === blockSize) return
  log.warn(
    `${spares.join(', ')}: formatted already, with blocks of ${blockSize} bytes: --block-size ${wanted} has no effect`,
  )
}

const isBlank = async (disk: OpenedDisk): Promise<boolean> => (await findContent(disk.device)) === undefined

function uriOf(bound: BoundAddress, { name, tls }: SessionOptions): string {
  const address = 'path' in bound ? { transport: 'unix' as const, ...bound } : { transport: 'tcp' as const, ...bound }
  const uri = formatNbdUri({ address, exportName: name, tls: tls?.required ?? false })
  // A socket that was passed in and has no path: how to reach it knows who made it.
  return 'path' in bound && bound.path === '' ? uri.replace(/\?.*$/, '') : uri
}
