/**
 * Where devices that were created by name are found: a folder of its owner alone, with the control socket, the NBD socket,
 * the log and the lock of each. A device is there if its control socket answers; nothing else is kept that could be stale.
 * The lock is held by the server for as long as it lives, and by `create` until then, so that of two there is one.
 */
import { lstatSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { messageOf, UsageError } from '../../util/errors.js'
import { SOCKET_PATH_BYTES_MAX } from '../options.js'

const VARIABLE = 'NBD_REMAP_RUNTIME_DIR'

export interface DevicePaths {
  readonly name: string
  readonly control: string
  readonly socket: string
  readonly log: string
  readonly lock: string
}

const CONTROL_SUFFIX = '.qmp'
const LOG_SUFFIX = '.log'

export function runtimeDirectory(): string {
  const { [VARIABLE]: own, XDG_RUNTIME_DIR: xdg } = process.env
  if (own !== undefined && own !== '') return own
  return join(xdg === undefined || xdg === '' ? '/run' : xdg, 'nbd-remap')
}

/** Makes the folder if need be. @throws Error when it is not there for its owner alone */
export function claimRuntimeDirectory(): void {
  const folder = runtimeDirectory()
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const { uid, mode } = lstatSync(folder)
    if (uid !== process.getuid?.() || (mode & 0o022) !== 0)
      throw new Error('it belongs to somebody else, or others may write to it')
  } catch (error) {
    throw new Error(`cannot use ${folder} for devices: ${messageOf(error)}; name another folder with ${VARIABLE}`, {
      cause: error,
    })
  }
}

/** What device-mapper allows in a name without changing it. */
const NAME = /^[A-Za-z0-9#+:=@_][A-Za-z0-9#+\-.:=@_]*$/

/** @throws UsageError */
export function devicePaths(name: string): DevicePaths {
  if (!NAME.test(name)) {
    throw new UsageError(
      `'${name}' is no name for a device: it may have letters, digits and the characters # + - . : = @ _`,
    )
  }
  const at = (suffix: string): string => join(runtimeDirectory(), name + suffix)
  const paths = { name, control: at(CONTROL_SUFFIX), socket: at('.sock'), log: at(LOG_SUFFIX), lock: at('.lock') }
  if (Buffer.byteLength(paths.socket) > SOCKET_PATH_BYTES_MAX) {
    throw new UsageError(
      `the path of a socket has ${SOCKET_PATH_BYTES_MAX} bytes at most, and ${paths.socket} has more: take a shorter ` +
        `name, or a folder with a shorter path (${VARIABLE})`,
    )
  }
  return paths
}

/** Of all control sockets in the folder, whether a server is behind them or not. */
export const controlledDevices = (): DevicePaths[] => devicesWith(CONTROL_SUFFIX)
/** Of all logs in the folder, also of devices that are no more. */
export const loggedDevices = (): DevicePaths[] => devicesWith(LOG_SUFFIX)

function devicesWith(suffix: string): DevicePaths[] {
  const names = filesIn(runtimeDirectory()).filter((file) => file.endsWith(suffix))
  return names
    .map((file) => file.slice(0, -suffix.length))
    .filter((name) => NAME.test(name))
    .sort()
    .map(devicePaths)
}

function filesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
