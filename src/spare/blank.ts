/**
 * What stands on a disk that is to become a spare? `--create` formats a blank disk only, so this errs on the side of
 * "not blank": the header area, the slot table behind it and the end are read whole, and the rest in samples. A spare
 * that has lost its headers, but not its slots, is not blank.
 */
import { DeviceError, type Device } from '../device/device.js'
import { isZero } from '../util/chunks.js'
import { alignDown, KiB, MiB, SECTOR_SIZE } from '../util/units.js'
import { HEADER_AREA_SIZE } from './format.js'

const STEP = MiB
const SAMPLES = 64
const SAMPLE_SIZE = 4 * KiB

export interface Content {
  /** Byte offset near which it is. */
  readonly offset: number
  /** What cannot be read may be anything. */
  readonly what: 'there is data' | 'it cannot be read'
}

/** @returns the first thing that is not zeros; `undefined` when the disk is blank @throws DeviceError other than EIO */
export async function findContent(device: Device): Promise<Content | undefined> {
  for (const { offset, length } of placesToLook(device.size)) {
    const buffer = Buffer.alloc(length)
    try {
      await device.read(offset, buffer)
    } catch (error) {
      if (!(error instanceof DeviceError) || error.code !== 'EIO') throw error
      return { offset, what: 'it cannot be read' }
    }
    if (!isZero(buffer)) return { offset, what: 'there is data' }
  }
  return undefined
}

function* placesToLook(size: number): Generator<{ offset: number; length: number }> {
  for (let offset = 0; offset < Math.min(HEADER_AREA_SIZE + STEP, size); offset += STEP) {
    yield { offset, length: Math.min(STEP, size - offset) }
  }
  const last = Math.max(0, size - STEP)
  yield { offset: last, length: size - last }
  const length = Math.min(SAMPLE_SIZE, size)
  for (let n = 0; n < SAMPLES; n++) {
    yield { offset: alignDown(Math.floor(((size - length) * n) / SAMPLES), SECTOR_SIZE), length }
  }
}
