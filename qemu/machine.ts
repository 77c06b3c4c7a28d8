/**
 * `Machine`: a QEMU virtual machine as a scoped resource, with virtio-blk disks over NBD or from a file, the guest agent's
 * port, and a monitor of its own. `kill` is a power cut, `quit` lets QEMU flush what the guest has written.
 *
 * The serial console goes to a file that QEMU writes itself: with a reader in between, a guest whose console nobody reads
 * in time would stand still in printk.
 */

import { open, stat } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { QmpConnectionError, type QmpClient } from '../src/qmp/index.js'
import { claimSocketPath } from '../src/util/socket-path.js'
import { Guest } from './guest.js'
import { DaemonProcess, LaunchError, READY_TIMEOUT_MS, type Exit } from './process.js'
import { checkSocketPath, QmpListener } from './qmp-listener.js'
import { RING_BYTES_MAX } from './ring.js'

export const QUIT_TIMEOUT_MS = 10_000
export const BOOT_TIMEOUT_MS = 60_000

/** A disk that an NBD server provides. */
export interface NbdSource {
  /** The server's unix socket. */
  readonly path: string
  /** The default export when not given. */
  readonly exportName?: string
  /** How long requests wait for a lost connection to come back before they fail. Without it, it never comes back. */
  readonly reconnectDelaySeconds?: number
  /** How long QEMU's start waits for the server to listen. */
  readonly openTimeoutSeconds?: number
}

export interface MachineDrive {
  /** Name of the block node, and with `disk-` before it the id of the virtio-blk device. */
  readonly nodeName: string
  readonly source: { readonly nbd: NbdSource } | { readonly file: string }
  /** More properties of the virtio-blk device, such as `{ werror: 'stop' }`. */
  readonly device?: Readonly<Record<string, string>>
}

export interface MachineOptions {
  /** For sockets and the console log: an existing directory with a short path, used by one machine at a time. */
  readonly directory: string
  readonly kernel: string
  readonly initrd: string
  /** The kernel's command line. */
  readonly append?: string
  readonly cpu?: string
  /** In this order the guest sees them as vda, vdb, ... */
  readonly drives?: readonly MachineDrive[]
  readonly memoryMiB?: number
  readonly cpus?: number
  /** KVM only when asked for: on some hosts it opens and then hangs. */
  readonly accelerator?: 'tcg' | 'kvm'
  /** More arguments for QEMU. */
  readonly args?: readonly string[]
}

interface Paths {
  readonly consoleLog: string
  readonly agentSocket: string
  readonly monitorSocket: string
}

export class Machine {
  readonly process: DaemonProcess
  readonly qmp: QmpClient
  /** Where the guest's agent can be reached: see `Guest`. One client at a time. */
  readonly agentSocket: string
  /** A second QMP monitor, for people and the console; nothing here uses it. One client at a time. */
  readonly monitorSocket: string
  /** Everything that the guest has printed on its serial console, over all starts in this directory. */
  readonly consoleLogPath: string
  readonly #consoleStart: number

  private constructor(process: DaemonProcess, qmp: QmpClient, paths: Paths, consoleStart: number) {
    this.process = process
    this.qmp = qmp
    this.agentSocket = paths.agentSocket
    this.monitorSocket = paths.monitorSocket
    this.consoleLogPath = paths.consoleLog
    this.#consoleStart = consoleStart
  }

  /**
   * Resolves when the machine runs and its monitor answers; the guest still has to boot (`guest()`).
   * @throws LaunchError with QEMU's own words, for example when an NBD server is not there
   * @throws SocketPathError when another machine runs in the directory
   * @throws ProgramNotFoundError, RangeError (the directory's path is too long for sockets)
   */
  static async start(options: MachineOptions): Promise<Machine> {
    const paths = pathsIn(options.directory)
    // QEMU would silently take the sockets away from a machine that runs in the same directory.
    await claimSocketPath(paths.monitorSocket)
    const consoleStart = await sizeOf(paths.consoleLog)
    const listener = await QmpListener.open(path.join(options.directory, 'qemu.qmp'))
    try {
      const args = machineArgs(options, paths, listener.path)
      const daemon = await DaemonProcess.start({ program: 'qemu-system-x86_64', args })
      try {
        // A server that is still to come holds up the greeting.
        const waitsMs = Math.max(0, ...(options.drives ?? []).map(openTimeoutMs))
        const qmp = await listener.client(daemon, READY_TIMEOUT_MS + waitsMs)
        return new Machine(daemon, qmp, paths, consoleStart)
      } catch (error) {
        await daemon.kill('SIGKILL')
        throw await withConsole(error, paths.consoleLog, consoleStart)
      }
    } finally {
      listener.close()
    }
  }

  /** Resolves when QEMU is gone, for whatever reason. */
  get exited(): Promise<Exit> {
    return this.process.exited
  }

  /**
   * A connection to the guest's agent, once the guest has booted. Close it before asking for another.
   * @throws LaunchError with the end of the console, when the guest does not come up in time or QEMU ends
   */
  async guest(timeoutMs = BOOT_TIMEOUT_MS): Promise<Guest> {
    try {
      return await this.process.until(
        "the guest's agent answered",
        (signal) => Guest.connect(this.agentSocket, { timeoutMs, signal }),
        timeoutMs,
      )
    } catch (error) {
      throw await withConsole(error, this.consoleLogPath, this.#consoleStart)
    }
  }

  /** The end of what the guest has printed on its console since this start, at most `RING_BYTES_MAX`. */
  consoleLog(): Promise<string> {
    return tail(this.consoleLogPath, this.#consoleStart)
  }

  /**
   * Ends QEMU in good order: requests in flight finish, disks are flushed. What the guest holds in memory is lost.
   * @throws LaunchError when QEMU does not end in time, as when the server behind a disk hangs
   */
  async quit(timeoutMs = QUIT_TIMEOUT_MS): Promise<Exit> {
    try {
      await this.qmp.execute('quit', {}, { timeoutMs })
    } catch (error) {
      // QEMU may hang up before it answers, or be gone already.
      if (!(error instanceof QmpConnectionError)) throw error
    }
    const exit = await Promise.race([this.exited, delay(timeoutMs, undefined, { ref: false })])
    if (exit === undefined) throw this.process.error(`QEMU did not end within ${timeoutMs} ms after quit`)
    await this.qmp.close()
    return exit
  }

  /** SIGKILL: the host loses power. Nothing is flushed. */
  async kill(): Promise<Exit> {
    await this.process.kill('SIGKILL')
    await this.qmp.close()
    return this.exited
  }

  /** `quit` if that works, else `kill`. */
  async close(): Promise<Exit> {
    try {
      return await this.quit()
    } catch {
      return await this.kill()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

function pathsIn(directory: string): Paths {
  return {
    consoleLog: path.join(directory, 'console.log'),
    agentSocket: checkSocketPath(path.join(directory, 'agent.sock')),
    monitorSocket: checkSocketPath(path.join(directory, 'monitor.qmp')),
  }
}

/** Our own monitor comes last, so that its greeting says that all the rest is up. */
function machineArgs(options: MachineOptions, paths: Paths, qmpPath: string): string[] {
  const { kernel, initrd, append = '', cpu, drives = [], memoryMiB = 256, cpus = 1, accelerator = 'tcg' } = options
  const socket = (id: string, file: string): string => `socket,id=${id},path=${escapeCommas(file)}`
  return [
    ['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot'],
    ['-M', 'pc', '-accel', accelerator, '-m', `${memoryMiB}M`, '-smp', String(cpus)],
    cpu === undefined ? [] : ['-cpu', cpu],
    ['-kernel', kernel, '-initrd', initrd, '-append', append],
    ['-chardev', `file,id=console,append=on,path=${escapeCommas(paths.consoleLog)}`, '-serial', 'chardev:console'],
    ['-chardev', `${socket('agent', paths.agentSocket)},server=on,wait=off`, '-device', 'virtio-serial-pci'],
    ['-device', 'virtserialport,chardev=agent,name=nbd-remap.agent.0'],
    drives.flatMap(driveArgs),
    options.args ?? [],
    [
      '-chardev',
      `${socket('monitor', paths.monitorSocket)},server=on,wait=off`,
      '-mon',
      'chardev=monitor,mode=control',
    ],
    ['-chardev', socket('qmp', qmpPath), '-mon', 'chardev=qmp,mode=control'],
  ].flat()
}

function driveArgs({ nodeName, source, device = {} }: MachineDrive): string[] {
  const node = 'nbd' in source ? nbdNode(source.nbd) : { driver: 'file', filename: path.resolve(source.file) }
  return [
    '-blockdev',
    JSON.stringify({ ...node, 'node-name': nodeName, discard: 'unmap' }),
    '-device',
    JSON.stringify({ driver: 'virtio-blk-pci', drive: nodeName, id: `disk-${nodeName}`, ...device }),
  ]
}

function nbdNode({ path, exportName, reconnectDelaySeconds, openTimeoutSeconds }: NbdSource): object {
  return {
    driver: 'nbd',
    server: { type: 'unix', path },
    export: exportName,
    'reconnect-delay': reconnectDelaySeconds,
    'open-timeout': openTimeoutSeconds,
  }
}

const openTimeoutMs = ({ source }: MachineDrive): number =>
  'nbd' in source ? 1000 * (source.nbd.openTimeoutSeconds ?? 0) : 0

const escapeCommas = (text: string): string => text.replaceAll(',', ',,')

async function sizeOf(file: string): Promise<number> {
  try {
    return (await stat(file)).size
  } catch {
    return 0
  }
}

/** The end of `file`, but nothing from before `start`. */
async function tail(file: string, start: number): Promise<string> {
  const handle = await open(file, 'r')
  try {
    const { size } = await handle.stat()
    const from = Math.max(start, size - RING_BYTES_MAX)
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(Math.max(0, size - from)), { position: from })
    return buffer.toString('utf8', 0, bytesRead)
  } finally {
    await handle.close()
  }
}

/** A failed boot is explained by the console more often than by QEMU. */
async function withConsole(error: unknown, file: string, start: number): Promise<unknown> {
  if (!(error instanceof LaunchError)) return error
  const text = await tail(file, start).catch(() => '')
  const log = `${error.log}\nconsole: ${text.trim() === '' ? '(empty)' : text}`
  return new LaunchError(error.reason, error.commandLine, error.exit, log, { cause: error })
}
