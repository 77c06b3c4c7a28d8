/**
 * Gets out of a failing block what can still be read: the whole block again a few times, then sector by sector. What
 * stays unreadable is said to be lost, never filled in.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { DeviceError, type Device } from '../device/device.js'
import { alignDown, SECTOR_SIZE } from '../util/units.js'
import { judge, type ReadPolicy } from './policy.js'
import { sectorsTouched } from './sector-mask.js'

export interface Rescued {
  /** The content of the block; lost sectors are zeros here and must not be shown to anybody as data. */
  readonly content: Buffer
  readonly lostMask: bigint
}

/** @throws DeviceError when the disk as a whole does not answer: then nothing is known about the block */
export async function rescue(device: Device, offset: number, length: number, policy: ReadPolicy): Promise<Rescued> {
  const content = Buffer.alloc(length)
  for (let attempt = 0; attempt < policy.retries; attempt++) {
    if (attempt > 0) await pause(policy.retryPauseMs)
    if (await isReadable(device, offset, content)) return { content, lostMask: 0n }
  }
  const lostMask = await readSectors(device, offset, content)
  if (lostMask === sectorsTouched(0, length)) await assertAnswersSomewhere(device, offset)
  return { content, lostMask }
}

/**
 * The same for a block some of whose sectors are known to be lost: nobody tries to read those.
 * @throws DeviceError when the disk as a whole does not answer
 */
export async function rescueAround(device: Device, offset: number, length: number, lost: bigint): Promise<Rescued> {
  const content = Buffer.alloc(length)
  return { content, lostMask: await readSectors(device, offset, content, lost) }
}

/** @returns the sectors that cannot be read, and those that were `lost` before */
async function readSectors(device: Device, offset: number, content: Buffer, lost = 0n): Promise<bigint> {
  let lostMask = lost
  for (let at = 0; at < content.length; at += SECTOR_SIZE) {
    const bit = 1n << BigInt(at / SECTOR_SIZE)
    if ((lost & bit) !== 0n) continue
    const sector = content.subarray(at, at + SECTOR_SIZE)
    if (await isReadable(device, offset + at, sector)) continue
    sector.fill(0)
    lostMask |= bit
  }
  return lostMask
}

async function isReadable(device: Device, offset: number, into: Buffer): Promise<boolean> {
  try {
    await device.read(offset, into)
    return true
  } catch (error) {
    if (error instanceof DeviceError && judge(error) === 'bad-block') return false
    throw error
  }
}

/** Sectors, spread over the disk from the first to the last, of which none can be read on a disk that is gone. */
const PROBES = 16

/**
 * A loose cable fails every read with EIO. Declaring blocks lost on that evidence would lose them for good, so a disk
 * on which all the probes are unreadable, too, counts as gone.
 */
async function assertAnswersSomewhere(device: Device, offset: number): Promise<void> {
  const last = Math.max(0, device.size - SECTOR_SIZE)
  const probe = Buffer.alloc(Math.min(SECTOR_SIZE, device.size))
  for (let n = 0; n < PROBES; n++) {
    const place = n === PROBES - 1 ? last : alignDown(Math.floor((last * n) / (PROBES - 1)), SECTOR_SIZE)
    if (await isReadable(device, place, probe)) return
  }
  throw new DeviceError('ENODEV', device.name, 'read', offset, probe.length)
}
