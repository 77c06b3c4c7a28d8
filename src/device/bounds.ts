import { InvariantError } from '../util/assert.js'

/** Every device checks its requests with this: one that leaves the device is a bug of the caller. */
export function assertInside(device: { name: string; size: number }, offset: number, length: number): void {
  if (Number.isSafeInteger(offset) && offset >= 0 && length >= 0 && offset + length <= device.size) return
  const request = `request for ${length} bytes at offset ${offset}`
  throw new InvariantError(`invariant broken: ${request} leaves ${device.name} (${device.size} bytes)`)
}
