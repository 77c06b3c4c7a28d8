/**
 * One serving session: sockets, disks, NBD server and control socket, from start to clean stop. The sockets are claimed
 * first and the disks opened second, so that a start which fails has written nothing; clients that connect meanwhile
 * wait.
 */
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { CONTROL_EVENTS } from '../control/events.js'
import { controlCommands } from '../control/commands.js'
import { openDisk, type OpenedDisk } from '../device/open.js'
import { formatNbdUri } from '../nbd/uri.js'
import { qmpVersion, QmpMonitor } from '../qmp/monitor.js'
import type { RemapEventSink } from '../remap/events.js'
import { formatPair, Pair, type PairDisks } from '../remap/pair.js'
import type { ReadPolicy } from '../remap/policy.js'
import { Listener, type BoundAddress } from '../server/listener.js'
import { NbdServer } from '../server/server.js'
import { findContent } from '../spare/blank.js'
import type { Log } from '../util/log.js'
import { claimSocketPath } from '../util/socket-path.js'
import { packageVersion } from './package-version.js'
import { supervisedSockets } from './supervisor.js'

export interface SessionOptions {
  readonly main: string
  readonly spare: string
  readonly name: string
  readonly address: { readonly path: string } | { readonly host: string; readonly port: number }
  readonly control: string | undefined
  readonly create: boolean
  readonly blockSize: number | undefined
  readonly readOnly: boolean
  readonly acceptMain: boolean
  readonly policy: ReadPolicy
  readonly log: Log
}

/** Connections that arrive before the server can take them. */
class WaitingRoom {
  #server: NbdServer | undefined
  readonly #waiting: Socket[] = []

  readonly admit = (socket: Socket): void => {
    if (this.#server) this.#server.accept(socket)
    else this.#waiting.push(socket)
  }

  open(server: NbdServer): void {
    this.#server = server
    for (const socket of this.#waiting.splice(0)) server.accept(socket)
  }

  close(): void {
    for (const socket of this.#waiting.splice(0)) socket.destroy()
  }
}

/** Listens itself, serves until it is told to stop, and resolves after a clean stop. */
export async function serveAlone(options: SessionOptions): Promise<void> {
  const room = new WaitingRoom()
  const listener = await Listener.open(options.address, room.admit, options.log)
  try {
    const uri = uriOf(listener.address, options.name)
    const session = await Session.start(options, uri, room)
    process.stdout.write(`${uri}\n`)
    await session.untilStopped()
  } finally {
    room.close()
    listener.close()
  }
}

/** Serves the connections that the supervisor hands over. */
export async function serveAsWorker(options: SessionOptions): Promise<void> {
  const room = new WaitingRoom()
  const supervisor = supervisedSockets(room.admit)
  const isOrphan = await Promise.race([supervisor.turn.then(() => false), supervisor.orphaned.then(() => true)])
  if (isOrphan) return
  const uri = uriOf(supervisor.address, options.name)
  const session = await Session.start(options, uri, room)
  supervisor.orphaned.then(
    () => {
      options.log.warn('the supervisor is gone: stopping')
      session.stop()
    },
    () => undefined,
  )
  supervisor.ready(uri)
  await session.untilStopped()
  supervisor.disconnect()
}

class Session {
  readonly #options: SessionOptions
  readonly #pair: Pair
  readonly #server: NbdServer
  readonly #monitor: QmpMonitor
  readonly #stopped: Promise<void>
  readonly stop: () => void

  private constructor(options: SessionOptions, uri: string, pair: Pair, hub: EventHub) {
    this.#options = options
    this.#pair = pair
    let stop = (): void => undefined
    this.#stopped = new Promise<void>((resolve) => {
      stop = resolve
    })
    this.stop = stop
    this.#server = newServer(options, pair, hub)
    this.#monitor = new QmpMonitor({
      version: qmpVersion('nbd-remap', packageVersion()),
      events: CONTROL_EVENTS,
      log: options.log,
      commands: controlCommands({
        target: pair.target,
        policy: options.policy,
        version: packageVersion(),
        exportName: options.name,
        uri,
        startedAt: new Date(),
        nbdClients: () => this.#server.clients,
        quit: this.stop,
      }),
    })
    hub.connect(this.#monitor)
  }

  static async start(options: SessionOptions, uri: string, room: WaitingRoom): Promise<Session> {
    if (options.control !== undefined) await claimSocketPath(options.control)
    const hub = new EventHub()
    const disks = await openDisks(options)
    try {
      if (options.create) await createIfBlank(disks, options)
      const { policy, acceptMain, log } = options
      const pair = await Pair.open(disks, { policy, acceptMain, log, emit: hub.emit })
      const session = new Session(options, uri, pair, hub)
      if (options.control !== undefined) await session.#monitor.listen({ path: options.control })
      room.open(session.#server)
      return session
    } catch (error) {
      await disks.main.device.close()
      await disks.spare.device.close()
      throw error
    }
  }

  /** Serves until `stop` is called or a signal arrives; then finishes what is in flight and marks the metadata clean. */
  async untilStopped(): Promise<void> {
    await Promise.race([this.#stopped, once(process, 'SIGTERM'), once(process, 'SIGINT')])
    this.#options.log.info('stopping')
    await this.#server.close()
    await this.#pair.close()
    await this.#monitor.close()
    this.#options.log.info('stopped')
  }
}

/** Events happen before there is a monitor to tell them to: repairs at the start, for example. */
class EventHub {
  #monitor: QmpMonitor | undefined
  readonly emit: RemapEventSink = (event, data) => {
    this.#monitor?.emit(event, { ...data })
  }

  connect(monitor: QmpMonitor): void {
    this.#monitor = monitor
  }

  client(
    event: 'CLIENT_CONNECTED' | 'CLIENT_DISCONNECTED',
    client: { id: number; address: string; exportName: string },
  ): void {
    this.#monitor?.emit(event, { id: client.id, address: client.address, 'export-name': client.exportName })
  }
}

function newServer(options: SessionOptions, pair: Pair, hub: EventHub): NbdServer {
  const { target } = pair
  return new NbdServer({
    exports: [
      { name: options.name, description: `${target.name}, remapped`, device: target, readOnly: options.readOnly },
    ],
    log: options.log,
    onClientConnected: (client) => {
      hub.client('CLIENT_CONNECTED', client)
    },
    onClientDisconnected: (client) => {
      hub.client('CLIENT_DISCONNECTED', client)
    },
  })
}

async function openDisks({ main, spare, readOnly, log }: SessionOptions): Promise<PairDisks> {
  const openedMain = await openDisk(main, { readOnly, log })
  try {
    return { main: openedMain, spare: await openDisk(spare, { readOnly, log }) }
  } catch (error) {
    await openedMain.device.close()
    throw error
  }
}

async function createIfBlank(disks: PairDisks, options: SessionOptions): Promise<void> {
  if (!(await isBlank(disks.spare))) return
  const { blockSize, log } = options
  await formatPair(disks, { force: false, log, ...(blockSize === undefined ? {} : { blockSize }) })
  log.info(`${options.spare} was blank and is formatted now`)
}

const isBlank = async (disk: OpenedDisk): Promise<boolean> => (await findContent(disk.device)) === undefined

function uriOf(bound: BoundAddress, exportName: string): string {
  const address = 'path' in bound ? { transport: 'unix' as const, ...bound } : { transport: 'tcp' as const, ...bound }
  return formatNbdUri({ address, exportName, tls: false })
}
