/**
 * `RemapServer`: `nbd-remap serve` as a scoped resource. It knows the server as any user does: by its command
 * line, its NBD socket and its control socket.
 */
import path from 'node:path'
import { QmpClient } from '../src/qmp/index.js'
import { DaemonProcess, logLine, stdoutLine, type Exit } from './process.js'
import { checkSocketPath } from './qmp-listener.js'

export interface RemapServerOptions {
  /** The program: a script for this Node.js, such as `dist/src/cli/main.js`. */
  readonly program: string
  /** For its sockets: an existing directory with a short path. */
  readonly directory: string
  /** File, block device or NBD URI. */
  readonly main: string
  readonly spare: string | readonly string[]
  /** A parent holds the listening socket and starts the server again when it dies. Default true. */
  readonly supervise?: boolean
  /** Where to serve NBD, as HOST:PORT (port 0: any); a unix socket in the directory when not given. */
  readonly listen?: string
  /** It waits until the server with the same sockets is gone or hangs, and takes its place. */
  readonly standby?: boolean
  /** More options of `nbd-remap serve`, such as `--create`. */
  readonly args?: readonly string[]
}

/** The one line on standard output. */
const URI_LINE = /^nbds?(\+unix)?:/
/** In the log. When there is nobody to stand by for, it serves at once. */
const STANDS_BY = /standing by for|^nbds?(\+unix)?:/m

export class RemapServer {
  readonly process: DaemonProcess
  /** Its unix socket, unless it listens elsewhere. */
  readonly socketPath: string
  readonly controlPath: string
  /** Empty while it stands by. */
  readonly uri: string

  private constructor(process: DaemonProcess, socketPath: string, controlPath: string, uri: string) {
    this.process = process
    this.socketPath = socketPath
    this.controlPath = controlPath
    this.uri = uri
  }

  /** Resolves when it accepts connections, or stands by. @throws LaunchError with the server's own words */
  static async start(options: RemapServerOptions): Promise<RemapServer> {
    const { program, directory, main, spare, supervise = true, listen, standby = false, args = [] } = options
    const socketPath = checkSocketPath(path.join(directory, 'remap.sock'))
    const controlPath = checkSocketPath(path.join(directory, 'remap.qmp'))
    const disks = ['--main', main, ...[spare].flat().flatMap((one) => ['--spare', one])]
    const nbd = listen === undefined ? ['--socket', socketPath] : ['--listen', listen]
    const daemon = await DaemonProcess.start({
      program: process.execPath,
      name: 'nbd-remap',
      args: [
        program,
        'serve',
        ...(supervise ? ['--supervise'] : []),
        ...disks,
        ...nbd,
        '--control',
        controlPath,
        ...(standby ? ['--standby'] : []),
        ...args,
      ],
      ready: standby ? logLine(STANDS_BY) : stdoutLine(URI_LINE),
    })
    const uri = standby ? '' : await daemon.waitForLine(URI_LINE, AbortSignal.timeout(0))
    return new RemapServer(daemon, socketPath, controlPath, uri)
  }

  /** A connection to the control socket of the worker that serves now. */
  control(): Promise<QmpClient> {
    return QmpClient.connect(this.controlPath)
  }

  /** Asks the control socket one question. */
  async ask<T>(command: string, args: Record<string, unknown> = {}): Promise<T> {
    const client = await this.control()
    try {
      return (await client.execute(command, args)) as T
    } finally {
      await client.close()
    }
  }

  /** Process id of the worker, which serves the disk and dies without the supervisor dying. */
  async workerPid(): Promise<number> {
    return (await this.ask<{ pid: number }>('query-status')).pid
  }

  /** SIGKILL to the supervisor and the worker at once: a power cut. */
  async killAll(): Promise<Exit> {
    this.process.killGroup()
    return this.process.exited
  }

  /** An orderly stop, which leaves the metadata clean. */
  stop(): Promise<Exit> {
    return this.process.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }
}
