/**
 * Puts the disk of a running machine behind nbd-remap. The order loses nothing: the server is ready and QEMU is connected to
 * it before the machine stands still; then QEMU finishes and flushes what is in flight, the file is flushed, and only then
 * the device gets its new node. At every moment one side alone writes to the disk, and whenever this program dies the
 * machine is whole, with the old disk or the new one.
 */
import { open } from 'node:fs/promises'
import { formatNbdUri, isNbdUri } from '../../src/nbd/uri.js'
import type { QmpClient } from '../../src/qmp/index.js'
import { disksOf, findDisk, isMadeUp, queryBlock, type MachineDisk } from './disk.js'
import { mirror } from './mirror.js'
import * as parts from './parts.js'
import { putAway } from './put-away.js'
import { whilePaused } from './pause.js'
import { mainOf, readyServer, type ServerChoice } from './server.js'
import { Steering } from './steering.js'
import type { UndoList } from './undo.js'

export interface AttachOptions {
  readonly qmp: QmpClient
  readonly device: string
  readonly server: ServerChoice
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
export function attach(options: AttachOptions): Promise<Attached> {
  const steering = new Steering(options.qmp, options.print)
  return parts.takingBack(steering, async (undo) =>
    carryOut(steering, undo, await findDisk(steering, options.device), options),
  )
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
  await parts.addNodeFor(disk, steering, undo, parts.exportNode(uri, disk, { ...options, nodeName }))
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
