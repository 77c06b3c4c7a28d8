/**
 * Puts the disk of a running machine behind nbd-remap. The order loses nothing: the server is ready and QEMU is connected to
 * it before the machine stands still; then QEMU finishes and flushes what is in flight, the file is flushed, and only then
 * the device gets its new node. At every moment one side alone writes to the disk, and whenever this program dies the
 * machine is whole, with the old disk or the new one.
 */
import { statSync } from 'node:fs'
import { open } from 'node:fs/promises'
import path from 'node:path'
import { formatNbdUri, isNbdUri, parseNbdUri, type NbdUri } from '../../src/nbd/uri.js'
import type { QmpClient } from '../../src/qmp/index.js'
import { UsageError } from '../../src/util/errors.js'
import { disksOf, findDisk, isMadeUp, queryBlock, type MachineDisk } from './disk.js'
import { AttachRefusedError } from './errors.js'
import { mirror } from './mirror.js'
import * as parts from './parts.js'
import { putAway } from './put-away.js'
import { whilePaused } from './pause.js'
import { describeSource, isExportOf, type Source } from './source.js'
import { Steering } from './steering.js'
import { UndoList } from './undo.js'

/** A server that was started for the machine. */
export interface StartedServer {
  readonly status: parts.ServerStatus
  /** Ends it. */
  stop(): Promise<void>
}

export interface AttachOptions {
  readonly qmp: QmpClient
  readonly device: string
  /** A server that runs, or how to start one for a main disk. In a rehearsal none is started, only shown. */
  readonly server:
    | { readonly kind: 'running'; readonly uri: NbdUri | undefined; readonly control: QmpClient | undefined }
    | {
        readonly kind: 'start'
        start(main: string): Promise<StartedServer>
        /** Where it will be. */
        readonly uri: NbdUri
        show(main: string): string
      }
  /** The machine's disk, where QEMU's own name for it does not do; with `copy`, the disk that is copied to. */
  readonly main: string | undefined
  /** Copy what is on the disk to the export first: the server has another main disk. */
  readonly copy: boolean
  /** The operator answers for it that both are one disk. */
  readonly sameContent: boolean
  readonly nodeName: string
  readonly reconnectDelaySeconds: number
  readonly discard: 'unmap' | 'ignore'
  readonly telling: parts.Telling
  /** For a rehearsal: takes each line of QMP. */
  readonly print?: ((line: string) => void) | undefined
  /** Fires when it is to be given up and taken back. */
  readonly signal: AbortSignal
}

export interface Attached {
  readonly device: string
  readonly node: string
  readonly uri: string
  readonly pausedMs: number
  /** What was left undone that does no harm. */
  readonly notes: readonly string[]
}

/**
 * @throws AttachRefusedError when it would lose something; nothing was changed
 * @throws AttachError when a step failed; it says what was taken back
 */
export async function attach(options: AttachOptions): Promise<Attached> {
  const steering = new Steering(options.qmp, options.print)
  const undo = new UndoList()
  try {
    return await carryOut(steering, undo, await findDisk(steering, options.device), options)
  } catch (error) {
    throw await parts.undone(error, undo, steering)
  }
}

async function carryOut(
  steering: Steering,
  undo: UndoList,
  disk: MachineDisk,
  options: AttachOptions,
): Promise<Attached> {
  const { telling, signal, copy, sameContent } = options
  const main = copy || sameContent ? options.main : mainOf(disk, options.main)
  const uri = await readyServer(undo, disk, main, options)
  signal.throwIfAborted()
  const nodeName = await parts.freeNodeName(steering, options.nodeName)
  telling.step(`connecting the machine to ${formatNbdUri(uri)}`)
  await parts.addNode(steering, undo, parts.exportNode(uri, disk, { ...options, nodeName }))
  await parts.checkSize(steering, nodeName, disk.size)
  signal.throwIfAborted()
  let pausedMs = 0
  let former = disk.nodeName
  if (copy) {
    await mirror(steering, { from: disk.nodeName, to: nodeName, telling, signal })
  } else {
    former = await keepMadeUp(steering, undo, disk)
    pausedMs = await handOver(steering, undo, disk, { nodeName, main: disk.readOnly ? undefined : main, signal })
  }
  undo.clear()
  const notes = await putAway(steering, former)
  return { device: disk.label, node: nodeName, uri: formatNbdUri(uri), pausedMs: Math.round(pausedMs), notes }
}

// --- The server ------------------------------------------------------------------------------------------------------

/** The disk of the machine, which the server has to have as its main. @returns a path from the root, or an NBD URI */
function mainOf({ source, label }: MachineDisk, given: string | undefined): string {
  if (source.kind === 'other') {
    throw new AttachRefusedError(
      `${label} is ${describeSource(source)}, and nbd-remap serves plain bytes only: copy it to the export of a server with --copy`,
    )
  }
  const own = describeSource(source)
  const isRelative = source.kind === 'file' && !path.isAbsolute(own)
  if (given === undefined) {
    if (!isRelative) return own
    throw new AttachRefusedError(
      `QEMU calls the disk of ${label} '${own}', which is a path from the folder that QEMU was started in: say with --main where it is`,
    )
  }
  const main = isNbdUri(given) ? formatNbdUri(parseNbdUri(given)) : path.resolve(given)
  if (isRelative ? path.basename(own) === path.basename(main) : isSameDisk(source, main)) return main
  throw new AttachRefusedError(`the disk of ${label} is ${own}, and not ${given}`)
}

function isSameDisk(source: Source, location: string): boolean {
  if (source.kind === 'other') return false
  if (source.kind === 'nbd')
    return isNbdUri(location) && formatNbdUri(source.uri) === formatNbdUri(parseNbdUri(location))
  return !isNbdUri(location) && isSameFile(source.path, location)
}

function isSameFile(a: string, b: string): boolean {
  try {
    const [one, other] = [statSync(a), statSync(b)]
    return one.isBlockDevice() ? one.rdev === other.rdev : one.dev === other.dev && one.ino === other.ino
  } catch {
    return path.resolve(a) === path.resolve(b)
  }
}

async function readyServer(
  undo: UndoList,
  disk: MachineDisk,
  main: string | undefined,
  options: AttachOptions,
): Promise<NbdUri> {
  const { server, print, telling } = options
  if (server.kind === 'start') {
    if (main === undefined)
      throw new UsageError('--copy needs a server that runs (--control), or a disk to copy to (--main)')
    if (print) {
      print(`# ${server.show(main)}`)
      return server.uri
    }
    telling.step(`starting a server for ${main}`)
    const started = await server.start(main)
    undo.push('stop the server that was started', () => started.stop())
    return checkedServer(disk, main, started.status, options)
  }
  if (server.control) return checkedServer(disk, main, await parts.serverStatus(server.control), options, server.uri)
  if (server.uri === undefined) throw new UsageError('say which server: --control, --uri or --spare')
  if (!options.copy && !options.sameContent) {
    throw new AttachRefusedError(
      'without its control socket nobody knows which disk the server has: say --control, or answer for it with --same-content',
    )
  }
  return server.uri
}

/** @throws AttachRefusedError when the machine would see something else through the server than without it */
function checkedServer(
  disk: MachineDisk,
  main: string | undefined,
  status: parts.ServerStatus,
  { copy, sameContent }: AttachOptions,
  uri?: NbdUri,
): NbdUri {
  const served = uri ?? parts.exportOf(status)
  if (disk.source.kind === 'nbd' && isExportOf(disk.source.uri, parts.exportOf(status))) {
    throw new AttachRefusedError(`${disk.label} is behind this server already`)
  }
  if (status.suspended)
    throw new AttachRefusedError('the server is suspended: resume it first (nbd-remap dmsetup resume)')
  if (status['read-only'] && !disk.readOnly) {
    throw new AttachRefusedError('the server serves read-only, and the machine writes to its disk')
  }
  if (copy || sameContent || main === undefined) return served
  if (status.remaps > 0) {
    throw new AttachRefusedError(
      `the server has ${status.remaps} remapped blocks, of which the machine, which uses the disk without it, knows nothing: what it reads would change under it`,
    )
  }
  const { location } = status.main
  const isSame = isNbdUri(location) || isNbdUri(main) ? isSameUri(location, main) : isSameFile(location, main)
  if (isSame) return served
  throw new AttachRefusedError(
    `the disk of ${disk.label} is ${main}, and the server's main disk is ${location}: copy the one to the other with --copy, or say with --same-content that they are the same`,
  )
}

const isSameUri = (a: string, b: string): boolean =>
  isNbdUri(a) && isNbdUri(b) && formatNbdUri(parseNbdUri(a)) === formatNbdUri(parseNbdUri(b))

// --- The machine -----------------------------------------------------------------------------------------------------

interface HandOver {
  readonly nodeName: string
  /** The file to flush, when it is one on this machine and was written to. */
  readonly main: string | undefined
  readonly signal: AbortSignal
}

/** @returns for how many milliseconds the machine stood still */
async function handOver(
  steering: Steering,
  undo: UndoList,
  disk: MachineDisk,
  { nodeName, main, signal }: HandOver,
): Promise<number> {
  // Opened before the machine stands still: it sees each write that the kernel fails to bring to the disk since then, also
  // those whose error QEMU would not tell.
  const file = main === undefined || isNbdUri(main) || steering.isRehearsal ? undefined : await openToFlush(main)
  try {
    // Most of it now, while the machine runs.
    await file?.datasync()
    return await whilePaused(steering, undo, async () => {
      await file?.datasync()
      signal.throwIfAborted()
      await parts.exchange(steering, undo, disk, nodeName)
      await verify(steering, disk, nodeName)
    })
  } finally {
    await file?.close()
  }
}

/** A disk of this machine's QEMU need not be one of ours: another host, or a file that only root may open. */
async function openToFlush(main: string) {
  try {
    return await open(main, 'r')
  } catch {
    return undefined
  }
}

const KEEPER = 'nbd-remap-keeps'

/**
 * A node whose name QEMU made up would be gone at once when nothing uses it, and nothing could be taken back.
 * @returns the node to delete in the end
 */
async function keepMadeUp(steering: Steering, undo: UndoList, { nodeName }: MachineDisk): Promise<string> {
  if (!isMadeUp(nodeName)) return nodeName
  const keeper = await parts.freeNodeName(steering, KEEPER)
  await parts.addNode(steering, undo, { driver: 'raw', 'node-name': keeper, file: nodeName })
  return keeper
}

async function verify(steering: Steering, { label, qomPath }: MachineDisk, nodeName: string): Promise<void> {
  if (steering.isRehearsal) return
  const now = disksOf(await queryBlock(steering)).find((disk) => disk.qomPath === qomPath)?.nodeName
  if (now !== nodeName)
    throw new Error(`QEMU says that ${label} uses the block node ${now ?? '(none)'}, not ${nodeName}`)
}
