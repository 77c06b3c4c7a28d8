/**
 * `Pipe`: bytes on their way between a file and a socket that this process never copies. splice(2) moves whole pages in and
 * out of a pipe; what leaves through a socket then is the page cache itself. Node.js has no such call, so libc is called
 * through koffi. Where that cannot be loaded there are no pipes, and whoever asks for one copies.
 *
 * No call here waits, except for the disk. None throws: what did not move is told by the count, and the reason is for the
 * caller's other way to find out, which it needs anyway.
 */
import { createRequire } from 'node:module'
import { constants } from 'node:fs'
import { assert } from './assert.js'
import { KiB, MiB } from './units.js'

interface Libc {
  readonly pipe2: (descriptors: Int32Array, flags: number) => number
  readonly fcntl: (fd: number, command: number, argument: number) => number
  readonly splice: (
    from: number,
    fromOffset: BigInt64Array | null,
    to: number,
    toOffset: BigInt64Array | null,
    length: number,
    flags: number,
  ) => number
  readonly read: (fd: number, into: Uint8Array, length: number) => number
  readonly write: (fd: number, from: Uint8Array, length: number) => number
  readonly recv: (fd: number, into: Uint8Array, length: number, flags: number) => number
  readonly setsockopt: (fd: number, level: number, name: number, value: Int32Array, length: number) => number
  readonly close: (fd: number) => number
}

interface Library {
  readonly func: (prototype: string) => unknown
}

const O_CLOEXEC = 0o2000000
const F_SETPIPE_SZ = 1031
const SPLICE_F_NONBLOCK = 2
const MSG_DONTWAIT = 0x40
const SOL_SOCKET = 1
const SO_SNDBUF = 7

/** In pages of the kernel: bytes that are not whole pages take more than they are. */
export const PIPE_CAPACITY = MiB

/** Undefined until it was tried, null when it cannot be had. */
let loaded: Libc | null | undefined

function libc(): Libc | null {
  if (loaded !== undefined) return loaded
  try {
    const koffi = createRequire(import.meta.url)('koffi') as { load: (path: null) => Library }
    loaded = declare(koffi.load(null))
  } catch {
    loaded = null
  }
  return loaded
}

const declare = (library: Library): Libc => ({
  pipe2: library.func('int pipe2(void *descriptors, int flags)') as Libc['pipe2'],
  fcntl: library.func('int fcntl(int fd, int command, int argument)') as Libc['fcntl'],
  splice: library.func(
    'int64_t splice(int from, void *from_offset, int to, void *to_offset, size_t length, unsigned int flags)',
  ) as Libc['splice'],
  read: library.func('int64_t read(int fd, void *into, size_t length)') as Libc['read'],
  write: library.func('int64_t write(int fd, const void *from, size_t length)') as Libc['write'],
  recv: library.func('int64_t recv(int fd, void *into, size_t length, int flags)') as Libc['recv'],
  setsockopt: library.func(
    'int setsockopt(int fd, int level, int name, const void *value, unsigned int length)',
  ) as Libc['setsockopt'],
  close: library.func('int close(int fd)') as Libc['close'],
})

/** Whether there can be pipes. */
export const canSplice = (): boolean => libc() !== null

export class Pipe {
  readonly #libc: Libc
  readonly #readEnd: number
  readonly #writeEnd: number
  readonly #offset = new BigInt64Array(1)
  #length = 0

  /** @returns undefined where there are no pipes, or none as large as `PIPE_CAPACITY` any more */
  static open(): Pipe | undefined {
    const calls = libc()
    if (calls === null) return undefined
    const ends = new Int32Array(2)
    if (calls.pipe2(ends, O_CLOEXEC | constants.O_NONBLOCK) !== 0) return undefined
    const [readEnd, writeEnd] = ends
    assert(readEnd !== undefined && writeEnd !== undefined, 'a pipe has two ends')
    const pipe = new Pipe(calls, readEnd, writeEnd)
    if (calls.fcntl(writeEnd, F_SETPIPE_SZ, PIPE_CAPACITY) >= PIPE_CAPACITY) return pipe
    pipe.close()
    return undefined
  }

  private constructor(calls: Libc, readEnd: number, writeEnd: number) {
    this.#libc = calls
    this.#readEnd = readEnd
    this.#writeEnd = writeEnd
  }

  /** Bytes that are in it. */
  get length(): number {
    return this.#length
  }

  /**
   * Takes up to `length` bytes in.
   * @param offset in the file; undefined for a socket
   * @returns how many; less when there are no more, for now or at all
   */
  fill(from: number, offset: number | undefined, length: number): number {
    const moved = this.#move(from, this.#at(offset), this.#writeEnd, null, length)
    this.#length += moved
    return moved
  }

  /** Gives up to `length` bytes away, as `fill` takes them. */
  drain(to: number, offset: number | undefined, length: number): number {
    const moved = this.#move(this.#readEnd, null, to, this.#at(offset), length)
    this.#length -= moved
    return moved
  }

  /** Copies the first `length` bytes of `bytes` in. @returns how many */
  push(bytes: Uint8Array, length: number): number {
    const pushed = Math.max(0, this.#libc.write(this.#writeEnd, bytes, length))
    this.#length += pushed
    return pushed
  }

  /** Copies the next bytes out, as many as there are and have room in `into`. @returns how many */
  pull(into: Uint8Array): number {
    let pulled = 0
    while (pulled < into.length && this.#length > 0) {
      const bytes = this.#libc.read(this.#readEnd, into.subarray(pulled), into.length - pulled)
      assert(bytes > 0, 'what went into a pipe is there')
      pulled += bytes
      this.#length -= bytes
    }
    return pulled
  }

  /** Throws away what is in it. */
  clear(): void {
    while (this.#length > 0) this.pull(SINK)
  }

  close(): void {
    this.#libc.close(this.#readEnd)
    this.#libc.close(this.#writeEnd)
    this.#length = 0
  }

  /** Where the kernel reads an offset, and counts it up. */
  #at(offset: number | undefined): BigInt64Array | null {
    if (offset === undefined) return null
    this.#offset[0] = BigInt(offset)
    return this.#offset
  }

  #move(from: number, fromAt: BigInt64Array | null, to: number, toAt: BigInt64Array | null, length: number): number {
    let moved = 0
    while (moved < length) {
      const bytes = this.#libc.splice(from, fromAt, to, toAt, length - moved, SPLICE_F_NONBLOCK)
      if (bytes <= 0) break
      moved += bytes
    }
    return moved
  }
}

const SINK = Buffer.allocUnsafeSlow(64 * KiB)

/** What a socket has received already. @returns how many bytes; 0 also when nothing more will come */
export const receiveNow = (socket: number, into: Uint8Array): number =>
  Math.max(0, libc()?.recv(socket, into, into.length, MSG_DONTWAIT) ?? 0)

/** Lets a socket hold more of what its peer has not taken; the kernel has the last word on how much. */
export function setSendBuffer(socket: number, bytes: number): void {
  libc()?.setsockopt(socket, SOL_SOCKET, SO_SNDBUF, new Int32Array([bytes]), Int32Array.BYTES_PER_ELEMENT)
}
