/** What attaching and detaching share: what they are told, what they tell, and how a failed one is taken back. */
import { formatNbdUri, parseNbdUri, type NbdUri } from '../../src/nbd/uri.js'
import type { QmpClient } from '../../src/qmp/index.js'
import { messageOf, RefusedError, UsageError } from '../../src/util/errors.js'
import { setDrive, type MachineDisk } from './disk.js'
import { AttachError, AttachRefusedError } from './errors.js'
import { nbdServerOptions } from './source.js'
import type { Steering } from './steering.js'
import { UndoList } from './undo.js'

/** What is going on, for people. */
export interface Telling {
  /** A step, in a few words. */
  step(text: string): void
  /** How far a long one is, in bytes. */
  progress(what: string, done: number, total: number): void
}

/**
 * Steps of which all are taken back when one fails.
 * @throws AttachError then, which says what was taken back; AttachRefusedError and UsageError as they are
 */
export async function takingBack<T>(steering: Steering, steps: (undo: UndoList) => Promise<T>): Promise<T> {
  const undo = new UndoList()
  try {
    return await steps(undo)
  } catch (error) {
    throw await undone(error, undo, steering)
  }
}

/** The parts of `query-status` of nbd-remap that are looked at. */
export interface ServerStatus {
  readonly uri: string
  readonly 'export-name': string
  readonly 'read-only': boolean
  readonly suspended: boolean
  readonly remaps: number
  readonly main: { readonly location: string; readonly size: number }
  readonly clients: readonly { readonly id: number }[]
}

export const serverStatus = async (control: QmpClient): Promise<ServerStatus> =>
  (await control.execute('query-status')) as ServerStatus

/** Where the server's export is; its name is the one that the server has for it. */
export const exportOf = ({ uri, 'export-name': exportName }: ServerStatus): NbdUri => ({
  ...parseNbdUri(uri),
  exportName,
})

/** Names of nodes have 31 bytes at most. */
const NODE_NAME_BYTES_MAX = 31

/** A name for a node that no other node has. */
export async function freeNodeName(steering: Steering, wanted: string): Promise<string> {
  const nodes = await steering.ask<readonly { readonly 'node-name': string }[]>('query-named-block-nodes', {
    flat: true,
  })
  const taken = new Set(nodes.map((node) => node['node-name']))
  const base = wanted
    .replaceAll(/[^A-Za-z0-9_-]/g, '-')
    .replace(/^[^A-Za-z]+/, '')
    .slice(0, NODE_NAME_BYTES_MAX - 4)
  for (let n = 1; ; n++) {
    const name = n === 1 ? base : `${base}-${n}`
    if (!taken.has(name)) return name
  }
}

/** Adds a block node, to be deleted again if a later step fails. */
export async function addNode(
  steering: Steering,
  undo: UndoList,
  options: Readonly<Record<string, unknown>>,
): Promise<void> {
  const name = String(options['node-name'])
  await steering.change('blockdev-add', options)
  undo.push(`delete the block node ${name}`, () => steering.change('blockdev-del', { 'node-name': name }))
}

/**
 * Adds the block node that is to take the place of the disk's.
 * @throws AttachRefusedError when it does not have the size of the disk
 */
export async function addNodeFor(
  disk: MachineDisk,
  steering: Steering,
  undo: UndoList,
  options: Readonly<Record<string, unknown>>,
): Promise<void> {
  await addNode(steering, undo, options)
  await checkSize(steering, String(options['node-name']), disk.size)
}

async function checkSize(steering: Steering, nodeName: string, size: number): Promise<void> {
  if (steering.isRehearsal) return
  const nodes = await steering.ask<
    readonly { readonly 'node-name': string; readonly image: { readonly 'virtual-size': number } }[]
  >('query-named-block-nodes', { flat: true })
  const actual = nodes.find((node) => node['node-name'] === nodeName)?.image['virtual-size']
  if (actual === size) return
  throw new AttachRefusedError(
    `the disk of the machine has ${size} bytes, and what is to take its place has ${actual ?? 'no'} bytes`,
  )
}

/**
 * Options of the node through which the machine reaches the server.
 * @throws AttachRefusedError when QEMU would need credentials
 */
export function exportNode(
  uri: NbdUri,
  disk: MachineDisk,
  options: { readonly nodeName: string; readonly reconnectDelaySeconds: number; readonly discard: string },
): Readonly<Record<string, unknown>> {
  if (uri.tls) {
    throw new AttachRefusedError(
      `${formatNbdUri(uri)} wants TLS, for which QEMU needs credentials: let the server listen on a unix socket, too`,
    )
  }
  return {
    ...nbdServerOptions(uri),
    'node-name': options.nodeName,
    'reconnect-delay': options.reconnectDelaySeconds,
    discard: options.discard,
    'detect-zeroes': disk.detectZeroes,
    ...(disk.readOnly && { 'read-only': true }),
  }
}

/** Puts `nodeName` behind the device, and what was there back again if a later step fails. */
export async function exchange(steering: Steering, undo: UndoList, disk: MachineDisk, nodeName: string): Promise<void> {
  await setDrive(steering, disk, nodeName)
  undo.push(`put ${disk.nodeName} back behind ${disk.label}`, () => setDrive(steering, disk, disk.nodeName))
}

/** Takes everything back. @returns the error to throw */
async function undone(error: unknown, undo: UndoList, steering: Steering): Promise<Error> {
  const failures = await undo.run()
  const reason = messageOf(error)
  if (failures.length > 0) return new AttachError(`${reason}; and ${failures.join('; ')}`, false, { cause: error })
  if (error instanceof RefusedError || error instanceof UsageError) return error
  const state = (await answers(steering))
    ? 'the machine is as it was'
    : 'QEMU does not answer any more; its disk is as it was'
  return new AttachError(`${reason} (${state})`, true, { cause: error })
}

const ANSWER_TIMEOUT_MS = 5000

async function answers({ qmp }: Steering): Promise<boolean> {
  try {
    await qmp.execute('query-status', {}, { timeoutMs: ANSWER_TIMEOUT_MS })
    return true
  } catch {
    return false
  }
}
