/**
 * A block device as a disk. It is opened with O_DSYNC: through the page cache a failing write would be acknowledged at
 * once and reported at some later flush, when its data is gone. With O_DSYNC it fails where it can still be remapped.
 * O_EXCL keeps off a device that is mounted, or in use by device-mapper, MD or another server.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync, realpathSync, statSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { RefusedError } from '../util/errors.js'
import { MiB, SECTOR_SIZE } from '../util/units.js'
import { majorOf, minorOf } from './device-number.js'
import { inUse, lockDisk } from './disk-lock.js'
import { fileSameness } from './file.js'
import { LocalDevice } from './local.js'
import type { OpenedDisk, OpenOptions } from './open.js'

export function openBlock(path: string, options: OpenOptions): OpenedDisk {
  const { O_RDONLY, O_RDWR, O_DSYNC, O_EXCL } = constants
  const fd = openExclusive(path, options.readOnly ? O_RDONLY : O_RDWR | O_DSYNC | O_EXCL)
  try {
    lockDisk(fd, path, options)
    const sys = sysfsFolder(fstatSync(fd).rdev)
    const sectorSize = Number(attribute(sys, 'queue/logical_block_size') ?? SECTOR_SIZE)
    const size = Number(attribute(sys, 'size') ?? 0) * SECTOR_SIZE
    if (size === 0) throw new RefusedError(`${path} is empty: there is no medium in it`)
    const device = new LocalDevice({
      name: path,
      fd,
      size,
      readOnly: options.readOnly,
      mayHang: options.mayHang ?? false,
      blockSizes: { minimum: 1, preferred: Math.max(4096, sectorSize), maximum: 64 * MiB },
      writesThrough: true,
      trimCommand: ['blkdiscard', '--force'],
      zeroCommand: ['blkdiscard', '--force', '--zeroout'],
    })
    return { device, identity: { id: `block:${serialOf(sys, path)}`, location: path }, sameness: samenessOf(sys) }
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

function openExclusive(path: string, flags: number): number {
  try {
    return openSync(path, flags)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EBUSY') throw inUse(path)
    throw error
  }
}

/** `/sys/devices/.../block/sda`, the same for every name of the device. */
function sysfsFolder(rdev: number): string {
  return realpathSync(`/sys/dev/block/${majorOf(rdev)}:${minorOf(rdev)}`)
}

/** As `OpenedDisk.sameness`, of a device that nobody needs to open. */
export const blockSameness = (rdev: number): string => samenessOf(sysfsFolder(rdev))

/** A loop device is the same disk as the file behind it. A partition lies in its disk: its name continues the disk's. */
function samenessOf(sys: string): string {
  if (attribute(sys, 'partition') !== undefined) return `${samenessOf(dirname(sys))}/${basename(sys)}`
  const file = attribute(sys, 'loop/backing_file')
  const stats = file === undefined ? undefined : statSync(file, { bigint: true, throwIfNoEntry: false })
  return stats ? fileSameness(stats) : sys
}

/** What tells this disk from others of its size, the best that its driver offers. */
function serialOf(sys: string, path: string): string {
  return (
    attribute(sys, 'wwid') ??
    attribute(sys, 'device/wwid') ??
    attribute(sys, 'serial') ??
    attribute(sys, 'device/serial') ??
    attribute(sys, 'dm/uuid') ??
    attribute(sys, 'loop/backing_file') ??
    realpathSync(path)
  )
}

function attribute(sys: string, name: string): string | undefined {
  try {
    const value = readFileSync(`${sys}/${name}`, 'latin1').trim()
    return value === '' ? undefined : value
  } catch {
    return undefined
  }
}
