/** Our server and its peers as processes, each with its usual options and a unix socket of its own. */
import path from 'node:path'
import { DaemonProcess, socketAccepts, stdoutLine } from '../../qemu/index.js'
import { packageRoot } from '../../src/cli/package-version.js'
import { formatNbdUri } from '../../src/nbd/uri.js'
import type { ServerName } from './job.js'

export interface BenchServer extends AsyncDisposable {
  readonly name: ServerName
  readonly pid: number
  readonly uri: string
  /** Only ours has one. */
  readonly controlPath?: string
  /** The file to write back between two runs, so that no run pays for the writes of another. */
  readonly image?: string
}

export const unixUri = (socket: string, exportName = ''): string =>
  formatNbdUri({ address: { transport: 'unix', path: socket }, exportName, tls: false })

/** `nbd-remap serve`, the remapper in the path. `main` is a file or an NBD URI, `spare` a blank file. */
export async function startNbdRemap(
  directory: string,
  main: string,
  spare: string,
  options: readonly string[] = [],
): Promise<BenchServer> {
  const [socket, control] = [path.join(directory, 'remap.sock'), path.join(directory, 'remap.qmp')]
  const program = path.join(packageRoot(), 'dist/src/cli/bin.cjs')
  const disks = ['--main', main, '--spare', spare, '--create']
  const process_ = await DaemonProcess.start({
    program: process.execPath,
    name: 'nbd-remap',
    args: [program, 'serve', ...disks, '--socket', socket, '--control', control, ...options],
    ready: stdoutLine(/^nbd\+unix:/),
  })
  return asServer('nbd-remap', process_, { uri: unixUri(socket), controlPath: control, ...imageOf(main) })
}

/** @param plugin nbdkit's name of it, and its parameters, of which `file=` is an image */
export async function startNbdkit(
  directory: string,
  plugin: readonly string[],
  { name = 'nbdkit', options = [] as readonly string[] } = {},
): Promise<BenchServer> {
  const socket = path.join(directory, `${name}.sock`)
  const process_ = await DaemonProcess.start({
    program: 'nbdkit',
    args: ['--foreground', '--unix', socket, ...options, ...plugin],
    ready: socketAccepts(socket),
  })
  const file = plugin.find((parameter) => parameter.startsWith('file='))?.slice('file='.length)
  return asServer('nbdkit', process_, { uri: unixUri(socket), ...imageOf(file) })
}

/** `-t` serves more than one client in turn, `-e 8` eight at once. */
export async function startQemuNbd(directory: string, image: string): Promise<BenchServer> {
  const socket = path.join(directory, 'qemu-nbd.sock')
  const process_ = await DaemonProcess.start({
    program: 'qemu-nbd',
    args: ['-k', socket, '-f', 'raw', '--cache', 'writeback', '-e', '8', '-t', image],
    ready: socketAccepts(socket),
  })
  return asServer('qemu-nbd', process_, { uri: unixUri(socket), image })
}

const imageOf = (main: string | undefined): { image?: string } =>
  main !== undefined && path.isAbsolute(main) ? { image: main } : {}

function asServer(
  name: ServerName,
  daemon: DaemonProcess,
  rest: { readonly uri: string; readonly controlPath?: string; readonly image?: string },
): BenchServer {
  return { name, pid: daemon.pid, ...rest, [Symbol.asyncDispose]: () => daemon[Symbol.asyncDispose]() }
}
