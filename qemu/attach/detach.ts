/**
 * Takes nbd-remap off a running machine's disk again: the machine uses the main disk itself, which it can only when all of
 * its content is there, or a copy. That no block is remapped is made sure of twice: before anything is done, and again while
 * the machine stands still and the server holds all requests, so that no block can be remapped after the question.
 */
import { statSync } from 'node:fs'
import { isNbdUri, parseNbdUri } from '../../src/nbd/uri.js'
import type { QmpClient } from '../../src/qmp/index.js'
import { messageOf } from '../../src/util/errors.js'
import { findDisk, type MachineDisk } from './disk.js'
import { AttachRefusedError } from './errors.js'
import { mirror } from './mirror.js'
import * as parts from './parts.js'
import { whilePaused } from './pause.js'
import { putAway } from './put-away.js'
import { describeSource, isExportOf, nbdServerOptions } from './source.js'
import { Steering } from './steering.js'
import type { UndoList } from './undo.js'

export interface DetachOptions {
  readonly qmp: QmpClient
  readonly control: QmpClient
  readonly device: string
  /** A healthy disk that gets a copy and takes the place of both: a path, or an NBD URI. */
  readonly mirrorTo: string | undefined
  /** Move remapped blocks back to the main disk first. */
  readonly clear: boolean
  /** Let the server run on. */
  readonly keepServer: boolean
  readonly discard: 'unmap' | 'ignore'
  /** More options of the block node, such as `{ aio: 'native', cache: { direct: true } }`. */
  readonly blockdev: Readonly<Record<string, unknown>>
  readonly telling: parts.Telling
  readonly print?: ((line: string) => void) | undefined
  readonly signal: AbortSignal
}

export interface Detached {
  readonly device: string
  readonly node: string
  /** What the machine uses now. */
  readonly disk: string
  readonly pausedMs: number
  readonly serverStopped: boolean
  readonly notes: readonly string[]
}

/**
 * @throws AttachRefusedError when something would be lost; the machine keeps the disk that it has
 * @throws AttachError when a step failed; it says what was taken back
 */
export function detach(options: DetachOptions): Promise<Detached> {
  const steering = new Steering(options.qmp, options.print)
  return parts.takingBack(steering, async (undo) =>
    carryOut(steering, undo, await findDisk(steering, options.device), options),
  )
}

async function carryOut(
  steering: Steering,
  undo: UndoList,
  disk: MachineDisk,
  options: DetachOptions,
): Promise<Detached> {
  const { control, mirrorTo, signal, telling } = options
  const status = await parts.serverStatus(control)
  refuseOthers(disk, status)
  if (mirrorTo === undefined) await makeEmpty(steering, options)
  signal.throwIfAborted()
  const location = mirrorTo ?? status.main.location
  const nodeName = await parts.freeNodeName(steering, `${disk.label}-disk`)
  await parts.addNodeFor(disk, steering, undo, diskNode(location, nodeName, disk, options))
  signal.throwIfAborted()
  let pausedMs = 0
  if (mirrorTo === undefined) pausedMs = await handOver(steering, undo, disk, nodeName, options)
  else await mirror(steering, { from: disk.nodeName, to: nodeName, telling, signal })
  undo.clear()
  const notes = await putAway(steering, disk.nodeName)
  const serverStopped = await stopServer(steering, options, notes)
  return { device: disk.label, node: nodeName, disk: location, pausedMs: Math.round(pausedMs), serverStopped, notes }
}

function refuseOthers({ label, source }: MachineDisk, status: parts.ServerStatus): void {
  if (source.kind !== 'nbd' || !isExportOf(source.uri, parts.exportOf(status))) {
    throw new AttachRefusedError(`${label} is not behind this server (${status.uri}): it is ${describeSource(source)}`)
  }
  if (status.suspended)
    throw new AttachRefusedError('the server is suspended: resume it first (nbd-remap dmsetup resume)')
  if (status.clients.length > 1) {
    throw new AttachRefusedError(
      `${status.clients.length - 1} more clients use the server: they and the machine would write to one disk behind each other's back`,
    )
  }
}

/** @throws AttachRefusedError while a block is remapped */
async function makeEmpty(steering: Steering, { control, clear, telling }: DetachOptions): Promise<void> {
  if (clear && !steering.isRehearsal) {
    telling.step('moving remapped blocks back to the main disk')
    await control.execute('remap-clear', {}, { timeoutMs: Infinity })
  }
  if (!(clear && steering.isRehearsal)) await refuseRemaps(control, clear)
}

async function refuseRemaps(control: QmpClient, wasCleared: boolean): Promise<void> {
  const { remaps } = (await control.execute('query-remap-table')) as { readonly remaps: number }
  if (remaps === 0) return
  const why = wasCleared ? 'that the main disk does not take back' : 'on the spare, which the main disk does not have'
  const advice = wasCleared ? '' : 'move them back if the main disk takes them (--clear), or '
  throw new AttachRefusedError(
    `${remaps} blocks of the disk are remapped, with content ${why}: ${advice}copy everything to a healthy disk (--mirror-to)`,
  )
}

function diskNode(
  location: string,
  nodeName: string,
  disk: MachineDisk,
  { discard, blockdev }: DetachOptions,
): Readonly<Record<string, unknown>> {
  const common = {
    'node-name': nodeName,
    discard,
    'detect-zeroes': disk.detectZeroes,
    ...(disk.readOnly && { 'read-only': true }),
    ...blockdev,
  }
  if (isNbdUri(location)) return { ...nbdServerOptions(parseNbdUri(location)), 'reconnect-delay': 30, ...common }
  return { driver: isBlockDevice(location) ? 'host_device' : 'file', filename: location, ...common }
}

function isBlockDevice(location: string): boolean {
  return statSync(location, { throwIfNoEntry: false })?.isBlockDevice() === true
}

async function handOver(
  steering: Steering,
  undo: UndoList,
  disk: MachineDisk,
  nodeName: string,
  { control, signal }: DetachOptions,
): Promise<number> {
  return whilePaused(steering, undo, async () => {
    if (!steering.isRehearsal) {
      // Flushes both disks, and fails when that does.
      await control.execute('suspend')
      undo.push('let the server serve again (nbd-remap dmsetup resume)', () => control.execute('resume'))
      await refuseRemaps(control, false)
    }
    signal.throwIfAborted()
    await parts.exchange(steering, undo, disk, nodeName)
    // All that it had is flushed. That it is gone by now is no reason to go back to it.
    if (!steering.isRehearsal) await control.execute('resume').catch(() => undefined)
  })
}

/** Nobody should write to the main disk beside the machine. */
async function stopServer(
  steering: Steering,
  { control, keepServer, mirrorTo }: DetachOptions,
  notes: string[],
): Promise<boolean> {
  if (keepServer || steering.isRehearsal) return false
  try {
    await control.execute('quit')
    return true
  } catch (error) {
    const danger = mirrorTo === undefined ? ', and no client may write to it any more' : ''
    notes.push(`the server still runs${danger}: ${messageOf(error)}`)
    return false
  }
}
