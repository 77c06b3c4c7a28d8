/** Cuts long requests into pieces that the layer below takes. Pure. Offsets and lengths are in bytes. */

export interface Piece {
  readonly offset: number
  readonly length: number
}

export interface ChunkPiece extends Piece {
  readonly chunks: readonly Buffer[]
}

/** Consecutive pieces of at most `maximum` that cover the range. */
export function* cutRange(offset: number, length: number, maximum: number): Generator<Piece> {
  const end = offset + length
  for (let at = offset; at < end; at += maximum) yield { offset: at, length: Math.min(maximum, end - at) }
}

/** The same for data; the chunks of a piece are views. */
export function cutChunks(offset: number, chunks: readonly Buffer[], maximum: number): ChunkPiece[] {
  const pieces: ChunkPiece[] = []
  let at = offset
  let current: Buffer[] = []
  let length = 0
  const finish = (): void => {
    if (length > 0) pieces.push({ offset: at, length, chunks: current })
    at += length
    current = []
    length = 0
  }
  for (let rest of chunks) {
    while (rest.length > maximum - length) {
      const room = maximum - length
      if (room > 0) current.push(rest.subarray(0, room))
      length = maximum
      rest = rest.subarray(room)
      finish()
    }
    if (rest.length > 0) current.push(rest)
    length += rest.length
  }
  finish()
  return pieces
}
