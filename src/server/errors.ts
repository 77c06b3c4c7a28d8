/**
 * The edge where errors become numbers of the protocol. Some never leave: ESHUTDOWN, because QEMU hands it to the guest
 * as an I/O error, while a closed connection makes it reconnect; ENOMEM and EOVERFLOW, which the specification does not
 * want from devices; and ENOTSUP but for a zeroing that was to be fast or not at all.
 */

import { DeviceError, type DeviceErrorCode } from '../device/device.js'
import {
  NBD_CMD_FLAG_FAST_ZERO,
  NBD_CMD_WRITE_ZEROES,
  NBD_EINVAL,
  NBD_EIO,
  NBD_ENOSPC,
  NBD_ENOTSUP,
  NBD_EPERM,
  type Request,
} from '../nbd/protocol.js'

const WIRE_ERRORS: Readonly<Record<DeviceErrorCode, number>> = {
  EPERM: NBD_EPERM,
  EIO: NBD_EIO,
  ENOMEM: NBD_EIO,
  EINVAL: NBD_EINVAL,
  ENOSPC: NBD_ENOSPC,
  EOVERFLOW: NBD_EIO,
  ENOTSUP: NBD_EIO,
  ESHUTDOWN: NBD_EIO,
  ENODEV: NBD_EIO,
  ETIMEDOUT: NBD_EIO,
}

/** @returns the NBD error for whatever a device call failed with: anything but a `DeviceError` is a bug, and EIO. */
export function wireError(error: unknown, { type, flags }: Pick<Request, 'type' | 'flags'>): number {
  if (!(error instanceof DeviceError)) return NBD_EIO
  const wasToBeFast = type === NBD_CMD_WRITE_ZEROES && (flags & NBD_CMD_FLAG_FAST_ZERO) !== 0
  return error.code === 'ENOTSUP' && wasToBeFast ? NBD_ENOTSUP : WIRE_ERRORS[error.code]
}
