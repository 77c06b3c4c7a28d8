/**
 * Arrays for data that grows without an end. The garbage collector counts the bytes of every ArrayBuffer, and some tens of MiB
 * of them bring a full collection, which stops everything for several milliseconds. It does not count shared memory.
 */

/** So many zeros. */
export const quietUint32Array = (length: number): Uint32Array<SharedArrayBuffer> =>
  new Uint32Array(new SharedArrayBuffer(length * Uint32Array.BYTES_PER_ELEMENT))
