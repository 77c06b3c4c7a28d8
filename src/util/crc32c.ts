/** CRC-32C (Castagnoli), reflected polynomial 0x82f63b78, as iSCSI (RFC 3720) and ext4 use it. Slicing by four. */

const POLYNOMIAL = 0x82f63b78

function shiftByte(crc: number): number {
  let value = crc
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1
  return value >>> 0
}

/** TABLE[256 * k + n] is the CRC of byte n followed by k zero bytes. */
const TABLE = new Uint32Array(4 * 256)
for (let n = 0; n < 256; n++) TABLE[n] = shiftByte(n)
for (let n = 256; n < TABLE.length; n++) {
  const shorter = TABLE[n - 256] ?? 0
  TABLE[n] = (TABLE[shorter & 0xff] ?? 0) ^ (shorter >>> 8)
}

/** The checksum of `bytes` as an unsigned 32-bit number. */
export function crc32c(bytes: Uint8Array): number {
  const table = TABLE
  let crc = 0xffffffff
  let i = 0
  const at = (index: number): number => table[index] ?? 0
  for (const end = bytes.length - 3; i < end; i += 4) {
    crc ^= word(bytes, i)
    crc = at(768 + (crc & 0xff)) ^ at(512 + ((crc >>> 8) & 0xff)) ^ at(256 + ((crc >>> 16) & 0xff)) ^ at(crc >>> 24)
  }
  for (; i < bytes.length; i++) crc = (crc >>> 8) ^ at((crc ^ (bytes[i] ?? 0)) & 0xff)
  return ~crc >>> 0
}

function word(bytes: Uint8Array, i: number): number {
  return (bytes[i] ?? 0) | ((bytes[i + 1] ?? 0) << 8) | ((bytes[i + 2] ?? 0) << 16) | ((bytes[i + 3] ?? 0) << 24)
}
