/** What an error of a disk means. Pure: errors in, decisions out. */
import type { DeviceError } from '../device/device.js'

/**
 * `bad-block`: this very place cannot be read or written, and a spare block can take its part.
 * `gone`: the disk as a whole does not answer; remapping block after block would empty the spare for nothing.
 * `refused`: the request itself was not possible (no space on a thin disk, no memory): says nothing about the blocks.
 */
export type Verdict = 'bad-block' | 'gone' | 'refused'

export function judge(error: DeviceError): Verdict {
  // A flush, of its own or of a write with FUA, is about the whole disk: no block is bad because it failed.
  if (error.operation === 'flush' && error.code === 'EIO') return 'refused'
  switch (error.code) {
    case 'EIO':
      return 'bad-block'
    case 'EPERM':
      // A drive that has run out of its own spare sectors turns read-only; ours still takes the writes.
      return error.operation === 'read' ? 'refused' : 'bad-block'
    case 'EINVAL':
      // Every request is inside the disk and aligned to its minimum, so the objection is to the place, not to the form.
      return 'bad-block'
    case 'ENODEV':
    case 'ETIMEDOUT':
    case 'ESHUTDOWN':
      return 'gone'
    case 'ENOMEM':
    case 'ENOSPC':
    case 'EOVERFLOW':
    case 'ENOTSUP':
      return 'refused'
  }
}

export interface ReadPolicy {
  /** How often a failed read of a block is tried again before its sectors are read one by one. */
  readonly retries: number
  /** Milliseconds between these tries. */
  readonly retryPauseMs: number
  /** What a lost sector reads as. */
  readonly onReadError: 'eio' | 'zero'
}

export const READ_POLICY_DEFAULT: ReadPolicy = { retries: 2, retryPauseMs: 20, onReadError: 'eio' }

/** What a write gets that needs a spare block when there is none: EIO, or ENOSPC, on which QEMU pauses the machine. */
export type ExhaustedPolicy = 'eio' | 'pause'

export interface SparePolicy {
  readonly onExhausted: ExhaustedPolicy
  /** SPARE_LOW is sent when the free blocks fall below this share of all. */
  readonly lowShare: number
}

export const SPARE_POLICY_DEFAULT: SparePolicy = { onExhausted: 'eio', lowShare: 0.1 }
