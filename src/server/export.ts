/**
 * An export: a device under a name. What the server says of it to clients (flags, block sizes) is derived here.
 *
 * The minimum block size is always 1, whatever the device wants: QEMU, told of a larger one, does its own
 * read-modify-write and writes garbage when the read fails. The device does it instead.
 */

import type { Device } from '../device/device.js'
import {
  NBD_FLAG_BLOCK_STATUS_PAYLOAD,
  NBD_FLAG_CAN_MULTI_CONN,
  NBD_FLAG_HAS_FLAGS,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_SEND_CACHE,
  NBD_FLAG_SEND_DF,
  NBD_FLAG_SEND_FAST_ZERO,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_FUA,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
  type Extent,
} from '../nbd/protocol.js'
import { MiB } from '../util/units.js'
import type { Negotiated } from './negotiation.js'

/** A metadata context: something to be said of every byte. */
export interface ExportContext {
  /** `namespace:leaf`. */
  readonly name: string
  /**
   * What it says, as consecutive extents from `offset` on: at least one and at most `countMax`, within the range. They may
   * end before the range does. @throws DeviceError
   */
  extents(offset: number, length: number, countMax: number): Promise<readonly Extent[]> | readonly Extent[]
}

export interface Export {
  readonly name: string
  /** For people; may be empty. */
  readonly description: string
  readonly device: Device
  readonly readOnly: boolean
  /** Besides `base:allocation`, which every export has. */
  readonly contexts?: readonly ExportContext[]
}

/** The longest payload of READ and WRITE, in bytes. fio and nbdcopy send requests of this size without asking. */
export const PAYLOAD_MAX = 64 * MiB

const PREFERRED_MIN = 512

/** The export of that name; the first one is also the default export, which clients ask for as ''. */
export function findExport(exports: readonly Export[], name: string): Export | undefined {
  return exports.find((candidate) => candidate.name === name) ?? (name === '' ? exports[0] : undefined)
}

export const isReadOnly = (it: Export): boolean => it.readOnly || it.device.readOnly

/** Without these a read-only export would offer what always fails. */
const CHANGE_FLAGS = NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO

/**
 * CAN_MULTI_CONN is true because all connections share one device, whose flush covers every acknowledged write. FAST_ZERO
 * is, because a device that is not fast says so at once. DF goes with chunks only, payloads of BLOCK_STATUS with extended
 * headers and selected contexts.
 */
export function transmissionFlags(it: Export, { style, contexts }: Negotiated): number {
  return (
    NBD_FLAG_HAS_FLAGS |
    NBD_FLAG_SEND_FLUSH |
    NBD_FLAG_SEND_FUA |
    NBD_FLAG_SEND_CACHE |
    NBD_FLAG_CAN_MULTI_CONN |
    (isReadOnly(it) ? NBD_FLAG_READ_ONLY : CHANGE_FLAGS) |
    (style === 'simple' ? 0 : NBD_FLAG_SEND_DF) |
    (style === 'extended' && contexts.length > 0 ? NBD_FLAG_BLOCK_STATUS_PAYLOAD : 0)
  )
}

export interface AdvertisedBlockSizes {
  readonly minimum: number
  readonly preferred: number
  readonly maximum: number
}

export function advertisedBlockSizes({ device }: Export): AdvertisedBlockSizes {
  // A power of two by its definition, but upstream servers say what they like.
  const preferred =
    2 ** Math.ceil(Math.log2(Math.min(Math.max(device.blockSizes.preferred, PREFERRED_MIN), PAYLOAD_MAX)))
  return { minimum: 1, preferred, maximum: PAYLOAD_MAX }
}
