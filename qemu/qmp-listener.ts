/**
 * A socket that QEMU dials to offer its monitor. The other way round there is a moment at which QEMU's socket exists but
 * nobody listens on it yet; this way the connection itself says that the monitor is there.
 */

import { once } from 'node:events'
import { chmod } from 'node:fs/promises'
import net from 'node:net'
import { QmpClient } from '../src/qmp/index.js'
import { claimSocketPath } from '../src/util/socket-path.js'
import type { DaemonProcess } from './process.js'

/** `sun_path` of unix(7), less the byte that ends it. */
const UNIX_PATH_BYTES_MAX = 107

/** @throws RangeError, since the kernel would say no more than EINVAL */
export function checkSocketPath(path: string): string {
  const length = Buffer.byteLength(path)
  if (length <= UNIX_PATH_BYTES_MAX) return path
  throw new RangeError(`socket path ${path} has ${length} bytes, ${UNIX_PATH_BYTES_MAX} is the longest possible`)
}

export class QmpListener {
  readonly path: string
  readonly #server: net.Server
  readonly #connection: Promise<net.Socket>

  private constructor(path: string, server: net.Server) {
    this.path = path
    this.#server = server
    this.#connection = once(server, 'connection').then(([socket]) => socket as net.Socket)
  }

  /** @throws SocketPathError when somebody listens there already, RangeError when the path is too long */
  static async open(path: string): Promise<QmpListener> {
    await claimSocketPath(path)
    const server = net.createServer().listen(checkSocketPath(path))
    const listener = new QmpListener(path, server)
    await once(server, 'listening')
    await chmod(path, 0o600)
    return listener
  }

  /**
   * The client of `daemon`, once that has dialled and sent its greeting.
   * @throws LaunchError when the daemon ends first or takes longer than `timeoutMs`
   */
  client(daemon: DaemonProcess, timeoutMs: number): Promise<QmpClient> {
    return daemon.until(
      'its QMP monitor greeted',
      async (signal) => {
        const socket = await this.#connection
        return QmpClient.attach(socket, `${daemon.name}'s monitor`, { signal, oob: true, connectTimeoutMs: timeoutMs })
      },
      timeoutMs,
    )
  }

  close(): void {
    this.#server.close()
  }
}
