/**
 * `Device`: the one interface of everything below the NBD protocol. Files, block devices, upstream NBD servers, fault
 * injectors and the remapper itself are Devices, so layers stack.
 *
 * The caller keeps every request inside [0, size); a request that is not is a bug and throws `InvariantError`, not
 * `DeviceError`. Any offset and length is allowed: a device with a larger minimum does its own read-modify-write.
 * Requests may overlap in time and finish in any order; whoever needs overlapping requests ordered does so above.
 *
 * A request is answered by a `Completion`: `undefined` when it is done already, else a promise. A promise costs more than
 * reading a block from the page cache, so whoever is done at once does not make one. A request fails by rejection only:
 * what is thrown is a bug.
 */
import type { Pipe } from '../util/pipe.js'

/** `await` takes either. */
export type Completion = Promise<void> | undefined

/** Goes on with `next` once `completion` is fulfilled: at once when it is done already. */
export const after = (completion: Completion, next: () => Completion): Completion =>
  completion === undefined ? next() : completion.then(next)

export type DeviceOperation = 'read' | 'write' | 'flush' | 'trim' | 'write-zeroes'

/** What a device can fail with. They map one to one to errors of the NBD protocol, except the two named here. */
export type DeviceErrorCode =
  | 'EPERM'
  | 'EIO'
  | 'ENOMEM'
  | 'EINVAL'
  | 'ENOSPC'
  | 'EOVERFLOW'
  | 'ENOTSUP'
  | 'ESHUTDOWN'
  /** The whole device is gone (unplugged, connection lost for good): says nothing about single blocks. */
  | 'ENODEV'
  /** No answer within the deadline. */
  | 'ETIMEDOUT'

export class DeviceError extends Error {
  override name = 'DeviceError'
  /** The number of the entry in the fault log, when it was injected. */
  readonly fault: number | undefined

  constructor(
    readonly code: DeviceErrorCode,
    readonly device: string,
    readonly operation: DeviceOperation,
    readonly offset: number,
    readonly length: number,
    options?: ErrorOptions & { readonly fault?: number | undefined },
  ) {
    const fault = options?.fault ?? (options?.cause instanceof DeviceError ? options.cause.fault : undefined)
    const injected = fault === undefined ? '' : ` (injected, fault ${fault})`
    super(`${device}: ${operation} of ${length} bytes at offset ${offset} failed: ${code}${injected}`, options)
    this.fault = fault
  }
}

/** Blocks that are bad found no other place. `code` is what the client is to be told. */
export class NoSpareError extends DeviceError {
  override name = 'NoSpareError'
  constructor(
    code: DeviceErrorCode,
    device: string,
    operation: DeviceOperation,
    offset: number,
    length: number,
    /** So many free spare blocks would do. */
    readonly blocksNeeded: number,
    options?: ErrorOptions,
  ) {
    super(code, device, operation, offset, length, options)
  }
}

export interface BlockSizes {
  /** Requests aligned to this cost no read-modify-write. A power of two. */
  readonly minimum: number
  readonly preferred: number
  /** The longest READ or WRITE that is sent down as one request; longer ones are split by the device itself. */
  readonly maximum: number
}

export interface WriteOptions {
  /** Force unit access: resolve only once the data is on stable storage (NBD_CMD_FLAG_FUA). */
  readonly fua?: boolean
}

export interface ZeroOptions extends WriteOptions {
  /** Keep the range allocated (NBD_CMD_FLAG_NO_HOLE). */
  readonly noHole?: boolean
  /**
   * Fail at once with ENOTSUP, nothing changed, unless this is known to take less time than writing the zeros as data
   * (NBD_CMD_FLAG_FAST_ZERO).
   */
  readonly fast?: boolean
}

/** `hole`: not allocated and reads as zeros. `zero`: allocated and reads as zeros. `data`: anything, or not known. */
export type Allocation = 'data' | 'hole' | 'zero'

export interface AllocationExtent {
  /** In bytes, more than 0. */
  readonly length: number
  readonly allocation: Allocation
}

export interface Device {
  /** As the user named it (path or URI), for messages. */
  readonly name: string
  /** In bytes; fixed while the device is open. */
  readonly size: number
  readonly readOnly: boolean
  readonly blockSizes: BlockSizes

  /**
   * Fills `into` from `offset`.
   * @throws DeviceError; the content of `into` is then undefined
   */
  read(offset: number, into: Buffer): Completion
  /**
   * Writes the concatenation of `chunks` at `offset`. The chunks must not change until that is done.
   * @throws DeviceError; the content of the range is then undefined (any mixture of old and new sectors)
   */
  write(offset: number, chunks: readonly Buffer[], options?: WriteOptions): Completion
  /** Makes everything that was acknowledged before this call durable. @throws DeviceError */
  flush(): Completion
  /** Tells the device that the range is not needed; its content becomes undefined. A hint. @throws DeviceError */
  trim(offset: number, length: number, options?: WriteOptions): Completion
  /** The range reads as zeros afterwards. @throws DeviceError; only with `fast` and nothing changed ENOTSUP */
  writeZeroes(offset: number, length: number, options?: ZeroOptions): Completion
  /**
   * As `read` and `write`, of `length` bytes at `start` of a buffer, but only if that is done before this returns: the
   * buffer is the caller's again at once. A device without these methods never is.
   * @returns false when it is not done; the data is then undefined, as after an error, and the request is to be made anew
   */
  readNow?(offset: number, into: Buffer, start: number, length: number): boolean
  writeNow?(offset: number, from: Buffer, start: number, length: number): boolean
  /** As `readNow`, to a pipe, where the data follows what is there. @returns false: the pipe may hold a part of it */
  readToPipe?(offset: number, length: number, pipe: Pipe): boolean
  /** As `writeNow`, the next bytes of a pipe. @returns how many of them are written, and taken out: the others are to be written anew */
  writeFromPipe?(offset: number, length: number, pipe: Pipe): number
  /**
   * What is allocated, as consecutive extents from `offset` on: at least one and at most `countMax`, within the range.
   * They may end before the range does. A device without this method knows nothing, which is the same as `data`.
   */
  extents?(offset: number, length: number, countMax: number): Promise<readonly AllocationExtent[]>
  /** The number of the injected fault that keeps such a request waiting now; a disk without this method has none. */
  heldBy?(operation: DeviceOperation, offset: number, length: number): number | undefined
  /** Releases the device and its locks. No other call may follow or be in flight. */
  close(): Promise<void>
}
