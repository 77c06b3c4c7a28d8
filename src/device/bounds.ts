import { assert } from '../util/assert.js'

/** Every device checks its requests with this: one that leaves the device is a bug of the caller. */
export function assertInside(device: { name: string; size: number }, offset: number, length: number): void {
  assert(
    Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && offset + length <= device.size,
    `request for ${length} bytes at offset ${offset} leaves ${device.name} (${device.size} bytes)`,
  )
}
