/**
 * The edge where errors become numbers of the protocol. ESHUTDOWN never leaves: QEMU hands it to the guest as an I/O
 * error, while a closed connection makes it reconnect.
 */

import { DeviceError, type DeviceErrorCode } from '../device/device.js'
import { NBD_EINVAL, NBD_EIO, NBD_ENOMEM, NBD_ENOSPC, NBD_ENOTSUP, NBD_EOVERFLOW, NBD_EPERM } from '../nbd/protocol.js'

const WIRE_ERRORS: Readonly<Record<DeviceErrorCode, number>> = {
  EPERM: NBD_EPERM,
  EIO: NBD_EIO,
  ENOMEM: NBD_ENOMEM,
  EINVAL: NBD_EINVAL,
  ENOSPC: NBD_ENOSPC,
  EOVERFLOW: NBD_EOVERFLOW,
  ENOTSUP: NBD_ENOTSUP,
  ESHUTDOWN: NBD_EIO,
  ENODEV: NBD_EIO,
  ETIMEDOUT: NBD_EIO,
}

/** @returns the NBD error for whatever a device call failed with: anything but a `DeviceError` is a bug, and EIO. */
export const wireError = (error: unknown): number => (error instanceof DeviceError ? WIRE_ERRORS[error.code] : NBD_EIO)
