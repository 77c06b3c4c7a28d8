/** MAIN, SPARE and REPLICA as a user writes them, a path or an NBD URI, as an opened and locked `Device`. */
import { statSync, type BigIntStats } from 'node:fs'
import { fileProblem, messageOf, RefusedError, UsageError } from '../util/errors.js'
import type { Log } from '../util/log.js'
import { formatNbdUri, isNbdUri, parseNbdUri } from '../nbd/uri.js'
import { blockSameness, openBlock } from './block.js'
import type { Device } from './device.js'
import { isFileLocked, isUriLocked, lockUri } from './disk-lock.js'
import { fileSameness, openFile } from './file.js'
import { LockedDevice } from './locked.js'
import { UpstreamDevice } from './upstream.js'

export interface OpenOptions {
  /** Opens without write access and with a lock that other readers share. */
  readonly readOnly: boolean
  /** Looks at a disk that others may be using, and takes no lock: read-only, of course. */
  readonly unlocked?: boolean
  /** Opens a local disk although QEMU has it, with a warning. */
  readonly besideQemu?: boolean
  /** How long an NBD server may take to answer, at first and when its connection was lost. */
  readonly patienceMs?: number
  /** Nobody may be kept waiting by this disk, at the price of a slower way to it. */
  readonly mayHang?: boolean
  readonly log: Log
}

/** Opens a disk as `openDisk` does, or as whoever gives it wants it to be opened. */
export type DiskOpener = (location: string, options: OpenOptions) => Promise<OpenedDisk>

export interface Reconnection {
  /** @throws DeviceError when the disk belongs to another server now */
  confirm: (source: Pick<Device, 'size' | 'read'>) => Promise<void>
}

export interface OpenedDisk {
  /** Its `close` also releases the lock. */
  readonly device: Device
  /** What is recorded, to recognise the disk again later. */
  readonly identity: { readonly id: string; readonly location: string }
  /** Of a disk whose connection may be lost: what is asked of a new one before anything is written again on it. */
  readonly reconnection?: Reconnection
  /** Cuts the connection of a disk that has one; it comes back as after any loss. */
  readonly dropConnection?: () => void
  /** Equal for two ways to open one disk, on this machine, now; a part of a disk continues it after a slash. */
  readonly sameness: string
}

/** Whether two disks are the same, or one is a part of the other. Takes what `sameness` says of each. */
export const overlap = (a: string, b: string): boolean => a === b || a.startsWith(`${b}/`) || b.startsWith(`${a}/`)

/**
 * What `OpenedDisk.sameness` will be, found out without opening the disk: the same disk given twice would otherwise lock
 * itself out. `undefined` when there is nothing that could be opened.
 */
export function samenessOf(location: string): string | undefined {
  if (isNbdUri(location)) return canonicalUri(location)
  const stats = statsOf(location)
  if (stats?.isBlockDevice()) return blockSameness(Number(stats.rdev))
  return stats?.isFile() ? fileSameness(stats) : undefined
}

/** Whether another process of this machine has locked the disk. Takes no lock: a server that starts just now would be refused. */
export function isDiskInUse(location: string): boolean {
  if (isNbdUri(location)) return isUriLocked(canonicalUri(location))
  return statsOf(location) !== undefined && isFileLocked(location)
}

/** `undefined` where nothing is that we could look at; why, says whoever opens it. */
function statsOf(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true })
  } catch {
    return undefined
  }
}

/** With and without TLS it is the same disk. @throws UsageError for a malformed one */
function canonicalUri(text: string): string {
  try {
    return formatNbdUri({ ...parseNbdUri(text), tls: false })
  } catch (error) {
    throw new UsageError(messageOf(error), { cause: error })
  }
}

/**
 * @throws RefusedError when the disk is in use, empty, or of a kind that cannot be one
 * @throws UsageError when it is a malformed URI
 * @throws Error with a sentence for people when it cannot be opened or reached
 */
export async function openDisk(location: string, options: OpenOptions): Promise<OpenedDisk> {
  if (isNbdUri(location)) return openUpstream(location, options)
  try {
    const stats = statSync(location)
    if (stats.isBlockDevice()) return openBlock(location, options)
    if (stats.isFile()) return openFile(location, options)
  } catch (error) {
    if (error instanceof RefusedError) throw error
    throw new Error(`cannot open ${location}: ${explain(error)}`, { cause: error })
  }
  throw new RefusedError(
    `${location} is neither a file, nor a block device, nor an NBD URI (nbd+unix:///export?socket=PATH)`,
  )
}

/** The lock comes first: two servers must not even be connected to one upstream. */
async function openUpstream(location: string, options: OpenOptions): Promise<OpenedDisk> {
  const { readOnly, unlocked, patienceMs, log } = options
  const uri = canonicalUri(location)
  const unlock = unlocked ? () => Promise.resolve() : await lockUri(uri, readOnly ? 'shared' : 'exclusive')
  try {
    const reconnection: Reconnection = { confirm: () => Promise.resolve() }
    const upstream = await UpstreamDevice.open(location, {
      log,
      ...(patienceMs !== undefined && { connectTimeoutMs: patienceMs, reconnectTimeoutMs: patienceMs }),
      beforeReplay: (source) => reconnection.confirm(source),
    })
    const device = new LockedDevice(upstream, readOnly, unlock)
    if (!readOnly && upstream.readOnly) {
      await upstream.close()
      throw new Error(`cannot open ${location}: ${READ_ONLY}`)
    }
    const dropConnection = (): void => {
      upstream.dropConnection()
    }
    return { device, identity: { id: `nbd:${uri}`, location }, reconnection, dropConnection, sameness: uri }
  } catch (error) {
    await unlock()
    throw error
  }
}

const READ_ONLY = 'it can only be read (add --read-only)'

const EXPLANATIONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file or device',
  EACCES: 'permission denied',
  EROFS: READ_ONLY,
  ENOMEDIUM: 'there is no medium in it',
}

function explain(error: unknown): string {
  return EXPLANATIONS[(error as NodeJS.ErrnoException).code ?? ''] ?? fileProblem(error)
}
