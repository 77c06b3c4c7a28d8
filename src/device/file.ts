/** A regular file as a disk. Writes go to the page cache and are durable after a flush, as with QEMU's cache=writeback. */
import { closeSync, constants, fstatSync, openSync } from 'node:fs'
import { RefusedError } from '../util/errors.js'
import { MiB } from '../util/units.js'
import { lockDisk } from './disk-lock.js'
import { LocalDevice } from './local.js'
import type { OpenedDisk, OpenOptions } from './open.js'

export function openFile(path: string, options: OpenOptions): OpenedDisk {
  const fd = openSync(path, options.readOnly ? constants.O_RDONLY : constants.O_RDWR)
  try {
    lockDisk(fd, path, options)
    const stats = fstatSync(fd, { bigint: true })
    const { size, ino } = stats
    if (size === 0n) throw new RefusedError(`${path} is empty: create it with its final size first (truncate -s SIZE)`)
    const device = new LocalDevice({
      name: path,
      fd,
      size: Number(size),
      readOnly: options.readOnly,
      mayHang: options.mayHang ?? false,
      blockSizes: { minimum: 1, preferred: 4096, maximum: 64 * MiB },
      writesThrough: false,
      trimCommand: ['fallocate', '--punch-hole', '--keep-size'],
      zeroCommand: ['fallocate', '--punch-hole', '--keep-size'],
      sparse: true,
    })
    return { device, identity: { id: `file:${ino}`, location: path }, sameness: fileSameness(stats) }
  } catch (error) {
    closeSync(fd)
    throw error
  }
}

/** Equal for all names of one file. */
export const fileSameness = (stats: { dev: bigint; ino: bigint }): string => `file:${stats.dev}:${stats.ino}`
