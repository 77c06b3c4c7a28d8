/**
 * Moves a pair to another main disk, which is as big or bigger, while nobody uses it. Order:
 *
 *   1. all that is served is copied: from the old main, and from the spare what was remapped; sectors whose content is lost
 *      are zeros there, and a slot on the spare says that they are lost
 *   2. the new main is flushed
 *   3. the spares learn of their new main, one after the other: from the first one on it is in force
 *   4. the remaps are taken out of force, but for blocks with lost sectors
 *
 * Cut off before 3, the pair is what it was, and the next attempt goes on where this one has come to, unless the pair was
 * served in between. Cut off later it has moved; remaps that are left have the same content as the new main.
 */
import { DeviceError } from '../device/device.js'
import type { OpenedDisk } from '../device/open.js'
import { findContent } from '../spare/blank.js'
import { hasHeader } from '../spare/header.js'
import { formerName } from '../spare/identity.js'
import { isZero } from '../util/chunks.js'
import { RefusedError } from '../util/errors.js'
import { mainBlock, MiB, SECTOR_SIZE } from '../util/units.js'
import type { Pair } from './pair.js'
import { judge } from './policy.js'

const STEP = 1 * MiB
/** What is copied is made durable, and noted, in steps of so many bytes. */
const NOTE_STEP = 256 * MiB

export interface MoveMainOptions {
  /** The new main is overwritten if it is not blank. */
  readonly force: boolean
  readonly onProgress?: (done: number, total: number) => void
  /** To stop it, from outside. */
  readonly signal?: AbortSignal
  /** For tests. */
  readonly noteStep?: number
}

export interface LostRange {
  readonly sector: number
  readonly sectors: number
}

export interface MovedMain {
  readonly size: number
  /** Where an attempt that was cut off had come to. */
  readonly resumedAt: number
  readonly lost: readonly LostRange[]
}

/** In the notes of the first spare. */
interface MovingNote {
  /** `formerName` of the new main. */
  readonly name: string
  readonly size: number
  /** Bytes that are durable on the new main. */
  readonly done: number
  /** Of the attempt: when the pair was served in between, the spares have a higher one. */
  readonly epoch: number
}

/**
 * @param pair opened for this, and to be closed by the caller afterwards, whatever comes out
 * @throws RefusedError when `to` cannot be the main: then nothing was written to it
 * @throws DeviceError, Error: the pair has not moved, or has, see above
 */
export async function moveMain(pair: Pair, to: OpenedDisk, options: MoveMainOptions): Promise<MovedMain> {
  const { pool } = pair.target
  const resumedAt = resumable(pool.moving, pool.ownerEpoch, to)
  await refuseUnfit(pair, to, options.force || resumedAt > 0)
  const lost = await copyAll(pair, to, resumedAt, options)
  await to.device.flush()
  await pair.rebind(to)
  return { size: to.device.size, resumedAt, lost }
}

function resumable(noted: unknown, epoch: number, { device, identity }: OpenedDisk): number {
  const note = (noted ?? {}) as Partial<MovingNote>
  const isSame = note.name === formerName(identity) && note.size === device.size && note.epoch === epoch - 1
  return isSame && Number.isSafeInteger(note.done) ? (note.done ?? 0) : 0
}

async function refuseUnfit(pair: Pair, to: OpenedDisk, overwrite: boolean): Promise<void> {
  const { device } = to
  const { size, name } = pair.target
  pair.refuseOwn(device.name, to.sameness)
  if (device.size < size) {
    throw new RefusedError(`${device.name} is too small: ${device.size} bytes, and main ${name} has ${size}`)
  }
  if (await hasHeader(device)) {
    throw new RefusedError(`${device.name} carries the header of an nbd-remap spare: it cannot be a main disk`)
  }
  if (overwrite) return
  const content = await findContent(device)
  if (content !== undefined) {
    throw new RefusedError(
      `${device.name} is not blank (${content.what} near offset ${content.offset}): if it can go, overwrite it with --force`,
    )
  }
}

async function copyAll(
  pair: Pair,
  to: OpenedDisk,
  from: number,
  { onProgress, signal, noteStep = NOTE_STEP }: MoveMainOptions,
): Promise<LostRange[]> {
  const { target } = pair
  const { size, pool } = target
  const note = (done: number): Promise<void> => {
    const moving: MovingNote = { name: formerName(to.identity), size: to.device.size, done, epoch: pool.ownerEpoch }
    return pool.noteMoving(moving)
  }
  await note(from)
  let noted = from
  for (let offset = from; offset < size; offset += STEP) {
    if (signal?.aborted) throw new Error('stopped: the same command goes on from here')
    await copyStep(pair, to, offset, Math.min(STEP, size - offset))
    const done = Math.min(offset + STEP, size)
    onProgress?.(done, size)
    if (done - noted < noteStep) continue
    await to.device.flush()
    await note(done)
    noted = done
  }
  return lostRanges(pair)
}

async function copyStep(pair: Pair, to: OpenedDisk, offset: number, length: number): Promise<void> {
  const content = Buffer.alloc(length)
  if (!(await tryRead(pair, offset, content))) await readParts(pair, offset, content)
  // A disk that reads as zeros already keeps its holes.
  if (isZero(content)) {
    const there = Buffer.alloc(length)
    await to.device.read(offset, there)
    if (isZero(there)) return
  }
  await to.device.write(offset, [content])
}

/** Block by block, and sector by sector where a block has lost sectors; those are zeros. */
async function readParts(pair: Pair, offset: number, into: Buffer): Promise<void> {
  const { blockSize } = pair.target.pool
  for (let at = 0; at < into.length; at += blockSize) {
    const block = into.subarray(at, at + blockSize)
    if (await tryRead(pair, offset + at, block)) continue
    refuseUnnoted(pair, offset + at)
    for (let n = 0; n < block.length; n += SECTOR_SIZE) {
      const sector = block.subarray(n, n + SECTOR_SIZE)
      if (!(await tryRead(pair, offset + at + n, sector))) sector.fill(0)
    }
  }
}

/** @throws DeviceError for what says nothing of the blocks */
async function tryRead({ target }: Pair, offset: number, into: Buffer): Promise<boolean> {
  try {
    await target.read(offset, into)
    return true
  } catch (error) {
    if (error instanceof DeviceError && judge(error) === 'bad-block') return false
    throw error
  }
}

/** What is lost must not read as zeros on a disk that has no bad blocks. */
function refuseUnnoted({ target }: Pair, offset: number): void {
  const { pool, table } = target
  const slot = table.lookup(mainBlock(Math.floor(offset / pool.blockSize)))
  if (slot !== undefined && pool.hasLost(slot)) return
  throw new Error(
    `sectors from ${offset / SECTOR_SIZE} on cannot be read, and no spare block is left to note that they are lost: add a spare first`,
  )
}

function lostRanges({ target }: Pair): LostRange[] {
  const { pool, table } = target
  const sectorsPerBlock = pool.blockSize / SECTOR_SIZE
  const ranges: { sector: number; sectors: number }[] = []
  const blocks = [...table.entries()].filter(([, slot]) => pool.hasLost(slot)).sort(([a], [b]) => a - b)
  for (const [block, slot] of blocks) {
    const { lostMask } = pool.get(slot)
    for (let n = 0; n < sectorsPerBlock; n++) {
      if ((lostMask & (1n << BigInt(n))) === 0n) continue
      const sector = block * sectorsPerBlock + n
      const last = ranges.at(-1)
      if (last && last.sector + last.sectors === sector) last.sectors++
      else ranges.push({ sector, sectors: 1 })
    }
  }
  return ranges
}
