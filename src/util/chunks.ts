/** Chunk vectors: a payload as the list of buffers it arrived in, cut and counted without copying a byte. */

export function chunksLength(chunks: readonly Buffer[]): number {
  let length = 0
  for (const chunk of chunks) length += chunk.length
  return length
}

/** The bytes [start, end) of the concatenation of `chunks`, as views into the same memory. */
export function sliceChunks(chunks: readonly Buffer[], start: number, end: number): Buffer[] {
  const slices: Buffer[] = []
  let position = 0
  for (const chunk of chunks) {
    const from = Math.max(start - position, 0)
    const to = Math.min(end - position, chunk.length)
    if (from < to) slices.push(from === 0 && to === chunk.length ? chunk : chunk.subarray(from, to))
    position += chunk.length
    if (position >= end) break
  }
  return slices
}

/** Copies the concatenation of `chunks` into `target` at `targetStart`. */
export function copyChunks(chunks: readonly Buffer[], target: Buffer, targetStart = 0): void {
  let position = targetStart
  for (const chunk of chunks) position += chunk.copy(target, position)
}

const ZEROS = Buffer.alloc(1024 * 1024)

/** `length` zero bytes, as views into one shared buffer that nobody may write to. */
export function zeroChunks(length: number): Buffer[] {
  const chunks: Buffer[] = []
  for (let left = length; left > 0; left -= ZEROS.length) {
    chunks.push(left >= ZEROS.length ? ZEROS : ZEROS.subarray(0, left))
  }
  return chunks
}

/** Whether `buffer` holds nothing but zero bytes. */
export function isZero(buffer: Buffer): boolean {
  for (let offset = 0; offset < buffer.length; offset += ZEROS.length) {
    const piece = buffer.subarray(offset, offset + ZEROS.length)
    if (piece.compare(ZEROS, 0, piece.length) !== 0) return false
  }
  return true
}
