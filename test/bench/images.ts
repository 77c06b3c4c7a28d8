/** Image files of the benchmark. */
import { randomFillSync } from 'node:crypto'
import { writeSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { KiB, MiB } from '../../src/util/units.js'

/** So much of every image is random, then it repeats: neither zeros nor equal neighbours that a server could profit from. */
const PATTERN_SIZE = MiB
const pattern = randomFillSync(Buffer.allocUnsafe(PATTERN_SIZE))

/** What a guest writes at a time. */
const STEP = 4 * KiB

/**
 * A file of `size` bytes, a whole number of MiB, with the same content as every other one of this process. It is written
 * rather than copied: a copy may share its blocks with the original and pay for it when written to. And it is written in
 * small steps, as by a guest: of what is written in one call Linux 6.18 makes one large folio of the page cache, and ext4 then
 * walks through all blocks of it for each 4 KiB that are written (14 us instead of 1.7).
 */
export async function writeImage(file: string, size: number): Promise<string> {
  const handle = await open(file, 'wx')
  try {
    for (let offset = 0; offset < size; offset += STEP)
      writeSync(handle.fd, pattern, offset % PATTERN_SIZE, STEP, offset)
    await handle.sync()
  } finally {
    await handle.close()
  }
  return file
}

/** A file of `size` bytes without any block. */
export async function blankImage(file: string, size: number): Promise<string> {
  const handle = await open(file, 'wx')
  try {
    await handle.truncate(size)
  } finally {
    await handle.close()
  }
  return file
}

/** Writes back what is dirty: else the kernel would do it some time later, in the middle of somebody else's run. */
export async function writeBack(file: string): Promise<void> {
  const handle = await open(file, 'r')
  try {
    await handle.datasync()
  } finally {
    await handle.close()
  }
}
