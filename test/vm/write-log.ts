/**
 * The log of QEMU's driver `blklogwrites`, which has the format of Linux's dm-log-writes. All integers are little-endian, a
 * sector has `sectorSize` bytes:
 *
 *   sector 0    u64 magic 0x6a736677736872, u64 version 1, u64 number of entries, u32 sectorSize
 *   sector 1    entries, each a sector: u64 sector, u64 number of sectors, u64 flags (1 flush, 2 FUA, 4 discard, 8 mark),
 *               u64 length of a mark; then, unless it is a discard, so many sectors of data
 *
 * Zeros are logged as data.
 */

export interface LogEntry {
  readonly offset: number
  readonly data: Buffer
  readonly flush: boolean
}

const MAGIC = 0x6a736677736872n
const FLAG = { flush: 1, fua: 2, discard: 4 }
const ENTRY_SIZE = 32

/** @throws Error when it is not such a log */
export function parseWriteLog(log: Buffer): LogEntry[] {
  if (log.readBigUInt64LE(0) !== MAGIC || log.readBigUInt64LE(8) !== 1n) throw new Error('not a write log')
  const count = Number(log.readBigUInt64LE(16))
  const sectorSize = log.readUInt32LE(24)
  const entries: LogEntry[] = []
  for (let at = sectorSize; entries.length < count && at + ENTRY_SIZE <= log.length;) {
    const [sector = 0, sectors = 0, flags = 0] = [0, 8, 16].map((field) => Number(log.readBigUInt64LE(at + field)))
    const length = flags & FLAG.discard ? 0 : sectors * sectorSize
    const data = log.subarray(at + sectorSize, at + sectorSize + length)
    // Zeros at the end of the log are a hole that the file does not reach.
    const whole = data.length === length ? data : Buffer.concat([data, Buffer.alloc(length - data.length)])
    entries.push({ offset: sector * sectorSize, data: whole, flush: (flags & (FLAG.flush | FLAG.fua)) !== 0 })
    at += sectorSize + length
  }
  return entries
}
