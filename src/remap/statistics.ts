/** Counters of one serving session. Lengths are bytes. */
export interface Statistics {
  reads: number
  writes: number
  flushes: number
  trims: number
  writeZeroes: number
  bytesRead: number
  bytesWritten: number
  /** Requests that touched at least one remapped block. */
  remappedRequests: number
  /** Blocks of the main disk that failed. */
  mainReadErrors: number
  mainWriteErrors: number
  /** Blocks of the spare that failed. */
  spareErrors: number
  /** Requests that were answered with an error. */
  failedRequests: number
}

export const newStatistics = (): Statistics => ({
  reads: 0,
  writes: 0,
  flushes: 0,
  trims: 0,
  writeZeroes: 0,
  bytesRead: 0,
  bytesWritten: 0,
  remappedRequests: 0,
  mainReadErrors: 0,
  mainWriteErrors: 0,
  spareErrors: 0,
  failedRequests: 0,
})
