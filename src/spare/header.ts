/**
 * The five header copies on the disk. Update order, which everything above leans on:
 *
 *   for each copy in turn: write it, flush
 *
 * so that at most one copy is ever in flight, and a crash at any point leaves four whole ones. Copies that are known to be
 * bad come first, so that a crash never finds the last intact one half written. A copy that cannot be written is given up
 * and reported; the update succeeds while at least one copy was written. One that is late may still be on its way, so then no
 * further one is touched.
 */
import { DeadlineError } from '../device/deadline.js'
import { DeviceError, type Device } from '../device/device.js'
import { messageOf } from '../util/errors.js'
import type { Log } from '../util/log.js'
import { badFirst, chooseHeader, type HeaderChoice, type HeaderCopy } from './choose.js'
import { decodeHeader, encodeHeader, HEADER_OFFSETS, HEADER_SIZE, type Header } from './format.js'

/** Where headers are read from: a disk, or another way to it. */
export type HeaderSource = Pick<Device, 'size' | 'read'>

/** Reads all copies and chooses. Unreadable copies count as damaged ones. */
export const readHeader = async (device: Device): Promise<HeaderChoice> => chooseHeader(await readCopies(device))

/** Whether any place of a header holds one, intact or not. Unreadable places hold none: a failing main has them too. */
export async function hasHeader(device: Device): Promise<boolean> {
  const copies = await readCopies(device)
  return copies.some((copy) => copy.kind !== 'absent' && copy.kind !== 'unreadable')
}

export async function readCopies(device: HeaderSource): Promise<HeaderCopy[]> {
  const copies: HeaderCopy[] = []
  for (const [copy, offset] of HEADER_OFFSETS.entries()) copies.push(await readCopy(device, copy, offset))
  return copies
}

async function readCopy(device: HeaderSource, copy: number, offset: number): Promise<HeaderCopy> {
  if (offset + HEADER_SIZE > device.size) return { kind: 'absent' }
  const page = Buffer.alloc(HEADER_SIZE)
  try {
    await device.read(offset, page)
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error
    return { kind: 'unreadable', reason: messageOf(error) }
  }
  return decodeHeader(page, copy)
}

export const encodeCopies = (header: Header): Buffer[] => HEADER_OFFSETS.map((_, copy) => encodeHeader(header, copy))

/**
 * Writes `header` to all copies, one at a time.
 * @param bad numbers of copies that are not intact
 * @param pages the header as `encodeCopies` gives it
 * @returns how many copies were written
 * @throws DeviceError when not a single copy could be written, or when one is late, or cannot be flushed
 */
export async function writeHeader(
  device: Device,
  header: Header,
  log: Log,
  bad: readonly number[] = [],
  pages: readonly Buffer[] = encodeCopies(header),
): Promise<number> {
  let written = 0
  let failure: unknown
  for (const copy of badFirst(HEADER_OFFSETS.length, bad)) {
    try {
      await device.write(HEADER_OFFSETS[copy] ?? 0, pages.slice(copy, copy + 1))
      await device.flush()
      written++
    } catch (error) {
      if (!(error instanceof DeviceError) || error instanceof DeadlineError) throw error
      failure = error
      log.error(
        `spare ${device.name}: header copy ${copy} cannot be written, going on with the others: ${error.message}`,
      )
      // Whatever reached the disk of this copy must not be in flight together with the next one.
      await device.flush()
    }
  }
  if (written === 0) throw failure
  return written
}

/** Zeroes all copies, so that an interrupted re-format leaves no header of the old format behind. */
export async function wipeHeaders(device: Device): Promise<void> {
  for (const offset of HEADER_OFFSETS) await device.write(offset, [Buffer.alloc(HEADER_SIZE)])
  await device.flush()
}
