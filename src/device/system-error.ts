/** Errors of the operating system as `DeviceError`s: the one table for local disks. */
import { DeviceError, type DeviceErrorCode, type DeviceOperation } from './device.js'

const CODES: Readonly<Record<string, DeviceErrorCode>> = {
  EIO: 'EIO',
  // What drivers report for an unreadable medium besides EIO.
  EILSEQ: 'EIO',
  ENODATA: 'EIO',
  EREMOTEIO: 'EIO',
  EBADMSG: 'EIO',
  ENOSPC: 'ENOSPC',
  EDQUOT: 'ENOSPC',
  EFBIG: 'ENOSPC',
  // A disk whose kernel driver gave up on writing turns read-only.
  EROFS: 'EPERM',
  EPERM: 'EPERM',
  EACCES: 'EPERM',
  ENOMEM: 'ENOMEM',
  ENODEV: 'ENODEV',
  ENXIO: 'ENODEV',
  ENOMEDIUM: 'ENODEV',
  ETIMEDOUT: 'ETIMEDOUT',
  ETIME: 'ETIMEDOUT',
  EOPNOTSUPP: 'ENOTSUP',
  ENOTSUP: 'ENOTSUP',
}

/** @param error what a Node.js file system call failed with; an unknown code counts as EIO */
export function deviceErrorFrom(
  error: unknown,
  device: string,
  operation: DeviceOperation,
  offset: number,
  length: number,
): DeviceError {
  const code = (error as NodeJS.ErrnoException).code ?? ''
  return new DeviceError(CODES[code] ?? 'EIO', device, operation, offset, length, { cause: error })
}
