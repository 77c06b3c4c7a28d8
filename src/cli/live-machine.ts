/** What `attach-vm` and `detach-vm` do: connections, the server in the background, progress and words around qemu/attach. */
import { closeSync, existsSync, openSync, readSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { attach, type AttachOptions } from '../../qemu/attach/attach.js'
import { detach } from '../../qemu/attach/detach.js'
import { findDisk } from '../../qemu/attach/disk.js'
import { serverStatus, type Telling } from '../../qemu/attach/parts.js'
import type { StartedServer } from '../../qemu/attach/server.js'
import { isNbdUri, resolveLocation } from '../device/location.js'
import { parseNbdUri, type NbdUri } from '../nbd/uri.js'
import { parseAddress, QmpClient, QmpConnectionError, QmpTimeoutError } from '../qmp/index.js'
import { messageOf, RefusedError, UsageError } from '../util/errors.js'
import { TOKEN_VARIABLE, withServer } from './ask.js'
import type { AttachVmOptions, DetachVmOptions } from './attach-vm.js'
import { serveArguments, startInBackground } from './dmsetup/background.js'
import { removeDevice } from './dmsetup/remove.js'
import { devicePaths, type DevicePaths } from './dmsetup/runtime-directory.js'
import { EXIT } from './exit.js'
import { ProgressLine } from './progress-line.js'

export async function attachVm(options: AttachVmOptions, serveOptions: readonly string[]): Promise<void> {
  checkUsage(options, serveOptions)
  await interruptible(async (signal, telling) => {
    await using qmp = await connectMonitor(options.qmp)
    const attachTo = async (server: AttachOptions['server']): Promise<void> => {
      const attached = await attach({
        ...options,
        ...{ qmp, server, signal, telling, nodeName: `${options.device}-remapped` },
        main: options.main,
        copy: options.copy === true,
        sameContent: options.sameContent === true,
        reconnectDelaySeconds: options.reconnectDelay,
        print: options.dryRun ? printLine : undefined,
      })
      if (options.dryRun) return
      const control = options.control ?? (options.spare && pathsOf(options).control)
      const { device, uri, node, pausedMs, notes } = attached
      report(options.json, { device, node, uri, control, 'paused-ms': pausedMs, notes }, [
        `${device} is served by nbd-remap now (${uri}); the machine stood still for ${pausedMs} ms`,
        ...(control === undefined ? [] : [`control socket: ${control}`]),
      ])
    }
    const uri = options.uri === undefined ? undefined : parseNbdUri(options.uri)
    if (options.spare) await attachTo(newServer(options, serveOptions))
    else if (options.control === undefined) await attachTo({ kind: 'running', uri, control: undefined })
    else await withServer(options.control, (control) => attachTo({ kind: 'running', uri, control }))
  })
}

function checkUsage({ spare, control, uri, create, name, copy, main }: AttachVmOptions, more: readonly string[]): void {
  if (spare && (control !== undefined || uri !== undefined)) {
    throw new UsageError('--spare starts a server, and --control and --uri use one that runs: give one or the other')
  }
  if (!spare && control === undefined && uri === undefined) {
    throw new UsageError('say with --spare what to start a server with, or with --control which one to use')
  }
  if (!spare && (create || name !== undefined || more.length > 0)) {
    throw new UsageError('--create, --name and options after -- are for a server that is started with --spare')
  }
  if (spare && copy && main === undefined)
    throw new UsageError('--copy with --spare needs the disk to copy to (--main)')
}

export async function detachVm(options: DetachVmOptions): Promise<void> {
  await interruptible(async (signal, telling) => {
    await using qmp = await connectMonitor(options.qmp)
    const mirrorTo = options.mirrorTo === undefined ? undefined : resolveLocation(options.mirrorTo)
    using target = mirrorTo === undefined || options.dryRun ? undefined : await prepareTarget(mirrorTo, qmp, options)
    await withServer(options.control, async (control) => {
      const detached = await detach({
        ...{ qmp, control, mirrorTo, signal, telling, device: options.device, discard: options.discard },
        clear: options.clear === true,
        keepServer: options.keepServer === true,
        blockdev: options.blockdev ?? {},
        print: options.dryRun ? printLine : undefined,
      })
      target?.keep()
      if (options.dryRun) return
      const { device, node, disk, pausedMs, serverStopped, notes } = detached
      const json = { device, node, disk, 'paused-ms': pausedMs, 'server-stopped': serverStopped, notes }
      report(options.json, json, [
        `${device} uses ${disk} itself now; the machine stood still for ${pausedMs} ms`,
        serverStopped ? 'the server was told to stop' : 'the server still runs',
      ])
    })
  })
}

const printLine = (line: string): void => {
  process.stdout.write(`${line}\n`)
}

function report(
  json: boolean | undefined,
  answer: Readonly<Record<string, unknown>> & { readonly notes: readonly string[] },
  lines: readonly string[],
): void {
  if (json) printLine(JSON.stringify(answer))
  else for (const line of [...lines, ...answer.notes.map((note) => `note: ${note}`)]) printLine(line)
}

/** Ctrl-C gives up what is under way, which is then taken back. */
async function interruptible(work: (signal: AbortSignal, telling: Telling) => Promise<void>): Promise<void> {
  const controller = new AbortController()
  const onSignal = (): void => {
    controller.abort(new Error('interrupted'))
  }
  for (const signal of SIGNALS) process.on(signal, onSignal)
  const line = new ProgressLine()
  const telling: Telling = {
    step: (text) => {
      line.show(`${text} ...`)
    },
    progress: (what, done, total) => {
      line.showBytes(what, done, total)
    },
  }
  try {
    await work(controller.signal, telling)
  } finally {
    line.end()
    for (const signal of SIGNALS) process.off(signal, onSignal)
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM'] as const

/** @throws Error with a sentence for people */
async function connectMonitor(address: string): Promise<QmpClient> {
  try {
    return await QmpClient.connect(parseAddress(address, process.env[TOKEN_VARIABLE]))
  } catch (error) {
    if (!(error instanceof QmpConnectionError || error instanceof QmpTimeoutError)) throw error
    throw new Error(`QEMU cannot be asked: ${messageOf(error)}`, { cause: error })
  }
}

// --- The server that is started --------------------------------------------------------------------------------------

/** Characters that a name may not have are not needed to tell devices apart. */
const pathsOf = ({ name, device }: AttachVmOptions): DevicePaths =>
  devicePaths(name ?? device.replaceAll(/[^A-Za-z0-9+:=@_.-]/g, '_').replace(/^[.-]/, '_'))

function newServer(options: AttachVmOptions, serveOptions: readonly string[]): AttachOptions['server'] {
  const paths = pathsOf(options)
  const args = (main: string): string[] => [
    ...['--supervise', '--on-exhausted', 'pause', '--main', main],
    // What is copied to is nobody's disk yet.
    ...(options.copy || isNbdUri(main) ? [] : ['--main-in-use']),
    ...(options.spare ?? []).flatMap((spare) => ['--spare', resolveLocation(spare)]),
    ...(options.create ? ['--create'] : []),
    ...serveOptions,
  ]
  const uri: NbdUri = { address: { transport: 'unix', path: paths.socket }, exportName: paths.name, tls: false }
  return {
    kind: 'start',
    uri,
    show: (main) => ['nbd-remap', ...serveArguments(paths, args(resolveLocation(main)))].join(' '),
    start: (main) => startServer(paths, args(resolveLocation(main))),
  }
}

/** @throws ServerFailedError */
async function startServer(paths: DevicePaths, args: readonly string[]): Promise<StartedServer> {
  const started = await startInBackground(paths, args)
  if (!('uri' in started)) throw serverFailed(started)
  return {
    status: await withServer(paths.control, serverStatus),
    stop: () => removeDevice(paths.name, true),
  }
}

function serverFailed({ said, exitCode }: { readonly said: string; readonly exitCode: number | null }): Error {
  const message = said.trim().replace(/^nbd-remap: /, '')
  if (exitCode === EXIT.refused) return new RefusedError(message)
  return exitCode === EXIT.usage ? new UsageError(message) : new Error(message)
}

// --- The disk that gets a copy ---------------------------------------------------------------------------------------

/** A file that was made for the copy goes again unless it is kept. */
interface Target extends Disposable {
  keep(): void
}

/** Makes a file of the right size where there is none. @throws RefusedError when there is something on the disk */
async function prepareTarget(
  target: string,
  qmp: QmpClient,
  { device, force }: DetachVmOptions,
): Promise<Target | undefined> {
  const { size } = await findDisk(qmp, device)
  if (isNbdUri(target)) return undefined
  if (!existsSync(target)) return newFile(target, size)
  if (force || isBlank(target)) return undefined
  throw new RefusedError(`${target} is not blank: what is on it would be overwritten (--force does that)`)
}

function newFile(path: string, size: number): Target {
  writeFileSync(path, '', { flag: 'wx', mode: 0o600 })
  truncateSync(path, size)
  let isKept = false
  return {
    keep: () => (isKept = true),
    [Symbol.dispose]: () => {
      if (!isKept) rmSync(path)
    },
  }
}

const SAMPLE_BYTES = 1024 * 1024

/** As far as its first MiB says. */
function isBlank(path: string): boolean {
  if (!statSync(path).isFile() && !statSync(path).isBlockDevice()) throw new UsageError(`${path} is no disk`)
  const buffer = Buffer.alloc(SAMPLE_BYTES)
  const fd = openSync(path, 'r')
  try {
    const length = readSync(fd, buffer, 0, SAMPLE_BYTES, 0)
    return buffer.subarray(0, length).every((byte) => byte === 0)
  } finally {
    closeSync(fd)
  }
}
