/**
 * `serve --standby`: a server that waits until the one that has the disks is gone, or hangs, and then takes its place. It
 * touches no disk before its turn, and its turn comes only when the other can write no more: its processes are gone, or were
 * killed and are gone, or a command of the operator says that their machine is cut off.
 *
 * The surprise: the path of the NBD socket is taken over before the other is killed. QEMU reconnects in the moment in which
 * it loses its connection, and a second later if it finds nobody then.
 */
import { lockUri, type Unlock } from '../device/disk-lock.js'
import { isDiskInUse, overlap, samenessOf } from '../device/open.js'
import { thisMachine, type ServerProcess } from '../control/process-commands.js'
import { formatAddress, type QmpAddress } from '../qmp/index.js'
import { messageOf, RefusedError } from '../util/errors.js'
import type { Log } from '../util/log.js'
import { isSameProcess, processState, type ProcessState } from '../util/process-state.js'
import { ActiveServer, processesOf, type Sight } from './active-server.js'
import { fenceByCommand, killAll, untilFree } from './fence.js'
import { listenForClients, type ClientAddresses, type ClientListeners } from './listen.js'
import { BUSY_FACTOR, isWorthEnding, judgeSilence, SILENCE_TEXT } from './silence.js'
import type { Stop } from './stop.js'

export interface StandByOptions {
  /** The control socket of the server that has the disks. */
  readonly watches: QmpAddress
  /** How long it may be silent. */
  readonly timeoutMs: number
  /** Ends it in place of SIGKILL. */
  readonly fenceCommand: string | undefined
  /** Main and spares. */
  readonly main: string
  readonly spares: readonly string[]
  readonly log: Log
}

/** How it has come to be our turn. */
export interface Turn {
  /** Listens for NBD clients, and ends the other server if it is still there. @throws Error when a stop is wanted before that is done */
  takeOver(addresses: ClientAddresses, admit: Parameters<typeof listenForClients>[1]): Promise<ClientListeners>
}

const LOOKS_PER_LIMIT = 8
/** Its socket is closed before its process is gone. */
const GOING_MS = 10
/** A look and the pause after it; what takes longer was our own absence. */
const ROUND_LATE_MAX = 3

interface Active {
  readonly server: ServerProcess
  /** Of this machine; empty when it runs elsewhere. */
  readonly processes: readonly ProcessState[]
}

export class StandBy {
  readonly #options: StandByOptions
  readonly #stop: Stop
  readonly #log: Log
  readonly #sees: ActiveServer
  #unlock: Unlock | undefined
  #active: Active | undefined
  #silentMs = 0
  #lastMs = performance.now()
  #told: string | undefined

  constructor(options: StandByOptions, stop: Stop) {
    this.#options = options
    this.#stop = stop
    this.#log = options.log
    this.#sees = new ActiveServer(options.watches)
    void stop.requested.then(() => this.#sees.close())
  }

  /**
   * Resolves when it is our turn; with undefined when a stop is wanted instead.
   * @throws RefusedError when the server that answers has another disk, or is no nbd-remap
   */
  async turn(): Promise<Turn | undefined> {
    await this.#queue()
    try {
      while (!this.#stop.isRequested) {
        const sight = await this.#sees.look(this.#tickMs)
        const turn = await this.#consider(sight)
        if (turn) return turn
        await this.#sees.pause(sight.kind === 'nobody' && this.#active ? GOING_MS : this.#tickMs)
      }
      return undefined
    } finally {
      await this.#sees.close()
    }
  }

  /** We serve now, or will not any more: the next one may stand by. */
  async over(): Promise<void> {
    await this.#unlock?.()
    this.#unlock = undefined
  }

  get #tickMs(): number {
    return this.#options.timeoutMs / LOOKS_PER_LIMIT
  }

  /** Only one stands by at a time: two that take over at once would take the socket from each other. */
  async #queue(): Promise<void> {
    while (!this.#stop.isRequested && !this.#unlock) {
      try {
        this.#unlock = await lockUri(`standby ${formatAddress(this.#options.watches)}`)
      } catch (error) {
        if (!(error instanceof RefusedError)) throw error
        this.#tell('another server stands by already: this one waits until its turn is over')
        await this.#sees.pause(this.#tickMs)
      }
    }
  }

  async #consider(sight: Sight): Promise<Turn | undefined> {
    if (this.#stop.isRequested) return undefined
    this.#count(sight)
    if (sight.kind === 'alive') {
      this.#know(sight.server)
      return undefined
    }
    if (sight.kind === 'stranger')
      throw new RefusedError(
        `${formatAddress(this.#options.watches)} is no nbd-remap that can be watched: ${sight.reason}`,
      )
    if (this.#isGone(sight)) return this.#isAnyoneThere() ? undefined : this.#turn([], 'it is gone')
    if (!this.#active || this.#silentMs < this.#options.timeoutMs) return undefined
    return this.#judge(this.#active)
  }

  #count(sight: Sight): void {
    const nowMs = performance.now()
    const roundMs = Math.min(nowMs - this.#lastMs, this.#tickMs * ROUND_LATE_MAX)
    this.#lastMs = nowMs
    this.#silentMs = sight.kind === 'alive' ? 0 : this.#silentMs + roundMs
  }

  #know(server: ServerProcess): void {
    const isHere = server.machine === thisMachine()
    const isNew = this.#active?.server.pid !== server.pid
    if (isNew && isHere && server.main !== undefined) this.#refuseOther(server.main)
    this.#active = { server, processes: isHere ? processesOf(server) : [] }
    if (isNew || this.#told !== undefined) this.#log.info(`standing by for ${nameOf(server)}`)
    this.#told = undefined
  }

  /** @throws RefusedError */
  #refuseOther(main: string): void {
    const [mine, its] = [samenessOf(this.#options.main), samenessOf(main)]
    if (mine === undefined || its === undefined || overlap(mine, its)) return
    const where = formatAddress(this.#options.watches)
    throw new RefusedError(
      `the server at ${where} has main ${main} and not ${this.#options.main}: it is not the one to stand by for`,
    )
  }

  /** Nobody listens, and whoever did has ended. */
  #isGone(sight: Sight): boolean {
    if (sight.kind !== 'nobody') return false
    if (!this.#active) return true
    const { processes, server } = this.#active
    return server.machine === thisMachine() && !processes.some(isSameProcess)
  }

  #isAnyoneThere(): boolean {
    const disk = [this.#options.main, ...this.#options.spares].find(isDiskInUse)
    if (disk !== undefined)
      this.#tell(`${disk} is in use, and nobody answers at ${formatAddress(this.#options.watches)}`)
    return disk !== undefined
  }

  /** It has been silent for too long. */
  async #judge({ server, processes }: Active): Promise<Turn | undefined> {
    const { timeoutMs: limitMs, fenceCommand } = this.#options
    if (processes.length === 0) {
      if (fenceCommand !== undefined) return this.#fenceByCommand(server, [])
      this.#tell(
        `${nameOf(server)} does not answer, and this one does not take over: it runs on another machine, and only --fence-command can end it there`,
      )
      return undefined
    }
    const before = processes.at(-1)
    if (!before) return undefined
    const silence = judgeSilence(before, processState(before.pid), { silentMs: this.#silentMs, limitMs })
    if (!isWorthEnding(silence) && silence !== 'gone') {
      this.#tell(`${nameOf(server)} does not answer: ${SILENCE_TEXT[silence]}; it is left alone`)
      return undefined
    }
    if (this.#isLeftToSupervisor(processes)) return undefined
    if (fenceCommand !== undefined) return this.#fenceByCommand(server, processes)
    return this.#turn(processes, SILENCE_TEXT[silence])
  }

  /** A supervisor that lives starts its worker again, if it can. */
  #isLeftToSupervisor([first, ...more]: readonly ProcessState[]): boolean {
    if (!first || more.length === 0 || this.#silentMs > this.#options.timeoutMs * BUSY_FACTOR) return false
    const supervisor = processState(first.pid)
    return supervisor?.started === first.started && supervisor.state !== 'T'
  }

  async #fenceByCommand(server: ServerProcess, processes: readonly ProcessState[]): Promise<Turn | undefined> {
    const { fenceCommand = '' } = this.#options
    this.#log.warn(`${nameOf(server)} does not answer: running the command of --fence-command`)
    try {
      await fenceByCommand(fenceCommand, { NBD_REMAP_PID: String(server.pid), NBD_REMAP_MACHINE: server.machine })
      return this.#turn(processes, 'the command of --fence-command says that it is cut off')
    } catch (error) {
      this.#log.error(`${messageOf(error)}: this server does not take over`)
      this.#silentMs = 0
      return undefined
    }
  }

  #turn(processes: readonly ProcessState[], why: string): Turn {
    const { main, spares, fenceCommand } = this.#options
    if (this.#active) this.#log.warn(`taking over from ${nameOf(this.#active.server)}: ${why}`)
    const isKilled = processes.length > 0 && fenceCommand === undefined
    const end = async (): Promise<void> => {
      if (isKilled) killAll(processes)
      await untilFree(processes, [main, ...spares], this.#stop, this.#log)
    }
    return {
      takeOver: async (addresses, admit) => {
        const [first, ...more] = addresses
        const isPathTaken = isKilled && 'path' in first
        if (!isPathTaken) await end()
        const taken: ClientAddresses = isPathTaken ? [{ ...first, replaces: true }, ...more] : addresses
        const listeners = await listenForClients(taken, admit, this.#log)
        try {
          if (isPathTaken) await end()
        } catch (error) {
          listeners.close()
          throw error
        }
        return listeners
      },
    }
  }

  /** Once, until there is something else to tell. */
  #tell(text: string): void {
    if (this.#told === text) return
    this.#told = text
    this.#log.warn(text)
  }
}

const nameOf = ({ pid, 'supervisor-pid': supervisor }: ServerProcess): string =>
  `server ${pid}${supervisor === undefined ? '' : ` of supervisor ${supervisor}`}`
