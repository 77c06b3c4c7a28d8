/** `ControlPlane`: the parts of the control thread, put together. */
import { controlCommands } from '../control/commands.js'
import { DataPlane } from '../control/data-plane.js'
import { EventHook, type HookChoice } from '../control/event-hook.js'
import { CONTROL_EVENTS } from '../control/events.js'
import { HealthWatch, type WatchedHealth } from '../control/health-watch.js'
import { HttpServer, type Liveness } from '../control/http-server.js'
import type { Question } from '../control/messages.js'
import { metricsText } from '../control/metrics.js'
import type { JsonObject } from '../qmp/message.js'
import { qmpVersion, QmpMonitor } from '../qmp/monitor.js'
import { formatAddress } from '../qmp/transport.js'
import type { Log } from '../util/log.js'
import { ControlSocket } from './control-socket.js'
import type { HttpChoice } from './http.js'
import { listenHttp } from './http-socket.js'
import type { ControlAddress } from './options.js'
import { packageVersion } from './package-version.js'
import { supervisorPid } from './worker.js'

/** Where and by whom the server can be asked. */
export interface ControlAccess {
  readonly control: readonly ControlAddress[]
  readonly http: HttpChoice | undefined
  readonly hook: HookChoice | undefined
}

/** The health is looked at so often, and soon after a fault. */
const LOOK_MS = 10_000
const LOOK_SOON_MS = 200
const FAULTS: ReadonlySet<string> = new Set([
  'IO_ERROR',
  'IO_TIMEOUT',
  'REMAP_ADDED',
  'REMAP_BATCH',
  'SPARE_LOW',
  'SPARE_EXHAUSTED',
  'SPARE_ADDED',
  'SPARE_REMOVED',
])

export class ControlPlane {
  readonly dataPlane: DataPlane
  readonly #log: Log
  readonly #monitor: QmpMonitor
  readonly #watch: HealthWatch
  readonly #events = new Map<string, number>()
  readonly #sockets: ControlSocket[] = []
  #http: HttpServer | undefined
  #hook: EventHook | undefined
  #timer: NodeJS.Timeout | undefined
  #soon: NodeJS.Timeout | undefined

  constructor(send: (question: Question) => void, log: Log) {
    this.#log = log
    const emit = (event: string, data: JsonObject): void => {
      this.#emit(event, data)
    }
    this.dataPlane = new DataPlane(send, emit)
    this.#watch = new HealthWatch((event, data) => {
      const text = `${event} ${JSON.stringify(data)}`
      log.warn(text)
      this.dataPlane.log.add('warn', text, event)
      emit(event, data)
    })
    this.#monitor = new QmpMonitor({
      version: qmpVersion('nbd-remap', packageVersion()),
      commands: controlCommands(this.dataPlane, () => this.#look(), log, supervisorPid()),
      events: CONTROL_EVENTS,
      log,
    })
  }

  /** @throws Error with a sentence for people: what cannot be had */
  async listen({ control, http, hook }: ControlAccess): Promise<void> {
    if (hook) this.#hook = new EventHook(hook, this.#log)
    for (const address of control) {
      const socket = await ControlSocket.listen(address, this.#log)
      this.#sockets.push(socket)
      socket.open(this.#monitor)
      if ('host' in socket.address) this.#log.info(`control socket on ${formatAddress(socket.address)}`)
    }
    if (http) await this.#listenHttp(http)
    void this.#watchHealth()
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    clearTimeout(this.#soon)
    this.#hook?.close()
    for (const socket of this.#sockets) socket.close()
    this.dataPlane.log.release()
    await this.#monitor.close()
    this.#http?.close()
  }

  async #listenHttp({ address, token, hostNames }: HttpChoice): Promise<void> {
    const subject = { metrics: () => this.#metrics(), liveness: () => this.#liveness() }
    this.#http = new HttpServer({ subject, monitor: this.#monitor, token, hostNames, log: this.#log })
    const bound = await listenHttp(this.#http, address, this.#log)
    this.#log.info(`HTTP on http://${formatAddress(bound)}`)
  }

  #emit(event: string, data: JsonObject): void {
    this.#events.set(event, (this.#events.get(event) ?? 0) + 1)
    this.#monitor.emit(event, data)
    this.#hook?.offer(event, data)
    if (!FAULTS.has(event)) return
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined
      void this.#look()
    }, LOOK_SOON_MS).unref()
  }

  async #watchHealth(): Promise<void> {
    await this.#look()
    this.#timer = setInterval(() => void this.#look(), LOOK_MS).unref()
  }

  async #look(): Promise<WatchedHealth> {
    const statistics = await this.dataPlane.statistics()
    await this.dataPlane.state()
    const lostBlocks = this.dataPlane.spares.reduce((sum, spare) => sum + spare['lost-blocks'], 0)
    return this.#watch.look({ statistics, lostBlocks, isStalled: this.dataPlane.hangs }, performance.now())
  }

  async #metrics(): Promise<string | undefined> {
    const { dataPlane } = this
    if (!dataPlane.isOpen) return undefined
    const health = await this.#look()
    return metricsText({
      facts: await dataPlane.facts,
      statistics: await dataPlane.statistics(),
      spares: dataPlane.spares,
      clients: dataPlane.clients,
      health,
      isStalled: dataPlane.hangs,
      events: this.#events,
      controlClients: this.#monitor.clientCount,
    })
  }

  async #liveness(): Promise<Liveness> {
    if (!this.dataPlane.isOpen) return { isAlive: false, status: 'starting' }
    const { score, status: health } = await this.#look()
    const status = this.dataPlane.hangs ? 'stalled' : 'running'
    return { isAlive: status === 'running' && health !== 'critical', status, health, score }
  }
}
