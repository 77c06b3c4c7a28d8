/**
 * Is this main the main that the spare belongs to? A foreign, swapped or stale main under existing remaps is silent
 * corruption, so the answer is a pure function of what was recorded and what is seen, with a reason for every refusal.
 */
import { createHash } from 'node:crypto'
import { DeviceError, type Device } from '../device/device.js'
import { crc32c } from '../util/crc32c.js'
import { alignDown, KiB, SECTOR_SIZE } from '../util/units.js'
import type { MainIdentity } from './format.js'

/** What distinguishes one opened disk from another. */
export interface DiskIdentity {
  /** What the disk says of itself: `file:INODE`, `block:SERIAL`, `nbd:URI`. */
  readonly id: string
  readonly location: string
}

const SAMPLES = 64
const SAMPLE_SIZE = 4 * KiB
const UNREADABLE = -1
/** A disk that does not answer for so many samples hangs: to try them all would take as many deadlines. */
const TIMEOUTS_MAX = 2

/**
 * CRC-32C of 64 blocks spread evenly over `device`, the first and the last among them; -1 for one that cannot be read.
 * @throws DeviceError ETIMEDOUT when the disk hangs
 */
export async function takeFingerprint(device: Device): Promise<number[]> {
  const length = Math.min(SAMPLE_SIZE, device.size)
  const samples: number[] = []
  let last: number | undefined
  let timeouts = 0
  for (let n = 0; n < SAMPLES; n++) {
    const offset = alignDown(Math.floor(((device.size - length) * n) / (SAMPLES - 1)), SECTOR_SIZE)
    try {
      // On a small disk several samples are one.
      samples.push(offset === last ? (samples.at(-1) ?? UNREADABLE) : await sample(device, offset, length))
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error
      if (error.code === 'ETIMEDOUT' && ++timeouts >= TIMEOUTS_MAX) throw error
      samples.push(UNREADABLE)
    }
    last = offset
  }
  return samples
}

async function sample(device: Device, offset: number, length: number): Promise<number> {
  const buffer = Buffer.alloc(length)
  await device.read(offset, buffer)
  return crc32c(buffer)
}

export interface SeenMain extends DiskIdentity {
  readonly size: number
  readonly fingerprint: readonly number[]
}

export interface RecordedMain extends MainIdentity {
  readonly size: number
  /** The spare was stopped cleanly, so the fingerprint still has to match. */
  readonly clean: boolean
  /** Number of remaps in force: without any, changed content does no harm. */
  readonly remaps: number
  /** `formerName` of disks that were the main before the pair moved to another one. */
  readonly former?: readonly string[]
}

/** A disk that was the main once, in few bytes. */
export const formerName = ({ id }: Pick<DiskIdentity, 'id'>): string =>
  createHash('sha256').update(id).digest('base64url').slice(0, 12)

/** Why `seen` is not the recorded main; `undefined` when it is. */
export function mainMismatch(recorded: RecordedMain, seen: SeenMain): string | undefined {
  if (seen.id !== recorded.id && recorded.former?.includes(formerName(seen))) {
    return `the pair was moved from this disk to another one (${recorded.location}), and what was written since is there`
  }
  if (seen.size !== recorded.size) {
    return `the spare belongs to a main of ${recorded.size} bytes (${recorded.location}), and this one has ${seen.size} bytes`
  }
  const content = recorded.clean ? compareFingerprints(recorded.fingerprint, seen.fingerprint) : 'unknown'
  if (content === 'different' && recorded.remaps > 0) {
    return `its content is not what it was when the pair was last stopped (then at ${recorded.location}): it is another disk, or it was written to behind the remapper, or the spare is of an earlier time`
  }
  if (seen.id === recorded.id || content === 'same') return undefined
  return `the spare belongs to another main (${recorded.location}, ${recorded.id}), and this one is ${seen.id}`
}

const CRC_OF_ZEROS = crc32c(Buffer.alloc(SAMPLE_SIZE))

/** `same` needs at least one sample that is not all zeros: blank disks all look alike. */
function compareFingerprints(recorded: readonly number[], seen: readonly number[]): 'same' | 'different' | 'unknown' {
  const comparable = recorded
    .map((crc, n) => ({ crc, now: seen[n] ?? UNREADABLE }))
    .filter(({ crc, now }) => crc !== UNREADABLE && now !== UNREADABLE)
  if (comparable.some(({ crc, now }) => crc !== now)) return 'different'
  return comparable.some(({ crc }) => crc !== CRC_OF_ZEROS) ? 'same' : 'unknown'
}
