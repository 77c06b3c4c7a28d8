/**
 * An export: a device under a name. What the server says of it to clients (flags, block sizes) is derived here.
 *
 * The minimum block size is always 1, whatever the device wants: QEMU, told of a larger one, does its own
 * read-modify-write and writes garbage when the read fails. The device does it instead.
 */

import type { Device } from '../device/device.js'
import {
  NBD_FLAG_CAN_MULTI_CONN,
  NBD_FLAG_HAS_FLAGS,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_SEND_CACHE,
  NBD_FLAG_SEND_DF,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_FUA,
  NBD_FLAG_SEND_TRIM,
  NBD_FLAG_SEND_WRITE_ZEROES,
} from '../nbd/protocol.js'
import { MiB } from '../util/units.js'

export interface Export {
  readonly name: string
  /** For people; may be empty. */
  readonly description: string
  readonly device: Device
  readonly readOnly: boolean
}

/** The longest payload of READ and WRITE, in bytes. fio and nbdcopy send requests of this size without asking. */
export const PAYLOAD_MAX = 64 * MiB

const PREFERRED_MIN = 512

/** The export of that name; the first one is also the default export, which clients ask for as ''. */
export function findExport(exports: readonly Export[], name: string): Export | undefined {
  return exports.find((candidate) => candidate.name === name) ?? (name === '' ? exports[0] : undefined)
}

export const isReadOnly = (it: Export): boolean => it.readOnly || it.device.readOnly

/**
 * CAN_MULTI_CONN is true because all connections share one device, whose flush covers every acknowledged write. DF
 * may only be advertised with structured replies.
 */
export function transmissionFlags(it: Export, structuredReplies: boolean): number {
  return (
    NBD_FLAG_HAS_FLAGS |
    NBD_FLAG_SEND_FLUSH |
    NBD_FLAG_SEND_FUA |
    NBD_FLAG_SEND_TRIM |
    NBD_FLAG_SEND_WRITE_ZEROES |
    NBD_FLAG_SEND_CACHE |
    NBD_FLAG_CAN_MULTI_CONN |
    (structuredReplies ? NBD_FLAG_SEND_DF : 0) |
    (isReadOnly(it) ? NBD_FLAG_READ_ONLY : 0)
  )
}

export interface AdvertisedBlockSizes {
  readonly minimum: number
  readonly preferred: number
  readonly maximum: number
}

export function advertisedBlockSizes({ device }: Export): AdvertisedBlockSizes {
  const preferred = Math.min(Math.max(device.blockSizes.preferred, PREFERRED_MIN), PAYLOAD_MAX)
  return { minimum: 1, preferred, maximum: PAYLOAD_MAX }
}
