/**
 * A disk behind a file descriptor: what regular files and block devices have in common. All I/O goes through the
 * thread pool, so a disk that hangs holds up its own requests and nothing else.
 */
import { fdatasync, read, writev, close as closeFd } from 'node:fs'
import { spawn } from 'node:child_process'
import { promisify } from 'node:util'
import { chunksLength, sliceChunks, zeroChunks } from '../util/chunks.js'
import { MiB } from '../util/units.js'
import { assertInside } from './bounds.js'
import {
  DeviceError,
  type AllocationExtent,
  type BlockSizes,
  type Device,
  type WriteOptions,
  type ZeroOptions,
} from './device.js'
import { HoleFinder } from './hole-finder.js'
import { deviceErrorFrom } from './system-error.js'

export interface LocalDisk {
  readonly name: string
  readonly fd: number
  readonly size: number
  readonly readOnly: boolean
  readonly blockSizes: BlockSizes
  /** Every write is on stable storage when it returns (O_DSYNC), so FUA and flush have nothing left to do. */
  readonly writesThrough: boolean
  /** util-linux commands that punch or zero a range, which follows as `--offset O --length L FILE`. */
  readonly trimCommand: readonly string[]
  readonly zeroCommand: readonly string[]
  /** A regular file: it can have holes, and punching one takes the same short time whatever its length. */
  readonly sparse?: boolean
}

/** Starting a helper program costs milliseconds: below this, a trim is not worth it and zeros are simply written. */
const HELPER_LENGTH_MIN = MiB
const ZERO_STEP = 8 * MiB
/** From here on, punching a hole takes less time than writing as many zeros, even into the page cache. */
const FAST_ZERO_LENGTH_MIN = 16 * MiB

const readFd = promisify(read)
const writevFd = promisify(writev)

export class LocalDevice implements Device {
  readonly #disk: LocalDisk
  readonly #holes: HoleFinder | undefined
  #flushFailure: DeviceError | undefined

  constructor(disk: LocalDisk) {
    this.#disk = disk
    this.#holes = disk.sparse ? new HoleFinder(disk.fd) : undefined
  }

  get name(): string {
    return this.#disk.name
  }

  get size(): number {
    return this.#disk.size
  }

  get readOnly(): boolean {
    return this.#disk.readOnly
  }

  get blockSizes(): BlockSizes {
    return this.#disk.blockSizes
  }

  async read(offset: number, into: Buffer): Promise<void> {
    assertInside(this, offset, into.length)
    let done = 0
    while (done < into.length) {
      const bytes = await this.#readSome(offset + done, into.subarray(done))
      // The disk shrank behind our back: its content is gone, not zero.
      if (bytes === 0) throw new DeviceError('EIO', this.name, 'read', offset, into.length)
      done += bytes
    }
  }

  async write(offset: number, chunks: readonly Buffer[], options?: WriteOptions): Promise<void> {
    const length = chunksLength(chunks)
    assertInside(this, offset, length)
    if (this.readOnly) throw new DeviceError('EPERM', this.name, 'write', offset, length)
    let left = chunks
    for (let done = 0; done < length;) {
      const { bytesWritten } = await writevFd(this.#disk.fd, left, offset + done).catch((error: unknown) => {
        throw deviceErrorFrom(error, this.name, 'write', offset, length)
      })
      done += bytesWritten
      if (done < length) left = sliceChunks(chunks, done, length)
    }
    if (options?.fua) await this.flush()
  }

  async flush(): Promise<void> {
    if (this.#disk.writesThrough || this.readOnly) return
    if (!this.#flushFailure) {
      await promisify(fdatasync)(this.#disk.fd).catch((error: unknown) => {
        this.#flushFailure = deviceErrorFrom(error, this.name, 'flush', 0, this.size)
      })
    }
    // Linux reports a failed write-back once and drops the pages: a later flush that succeeds would be a lie.
    if (this.#flushFailure) throw this.#flushFailure
  }

  async trim(offset: number, length: number, options?: WriteOptions): Promise<void> {
    assertInside(this, offset, length)
    if (this.readOnly) throw new DeviceError('EPERM', this.name, 'trim', offset, length)
    // A hint: a file system that cannot punch holes has done all it can.
    if (length >= HELPER_LENGTH_MIN) await this.#runHelper(this.#disk.trimCommand, offset, length)
    if (options?.fua) await this.flush()
  }

  async writeZeroes(offset: number, length: number, options?: ZeroOptions): Promise<void> {
    assertInside(this, offset, length)
    const helps = length >= HELPER_LENGTH_MIN && !options?.noHole && !this.readOnly
    const isFast = helps && this.#disk.sparse === true && length >= FAST_ZERO_LENGTH_MIN
    const zeroed =
      helps && (isFast || !options?.fast) && (await this.#runHelper(this.#disk.zeroCommand, offset, length))
    if (!zeroed && options?.fast) throw new DeviceError('ENOTSUP', this.name, 'write-zeroes', offset, length)
    for (let done = 0; !zeroed && done < length; done += ZERO_STEP) {
      await this.write(offset + done, zeroChunks(Math.min(ZERO_STEP, length - done)))
    }
    if (options?.fua) await this.flush()
  }

  async extents(offset: number, length: number, countMax: number): Promise<readonly AllocationExtent[]> {
    assertInside(this, offset, length)
    return (await this.#holes?.extents(offset, length, countMax)) ?? [{ length, allocation: 'data' }]
  }

  close(): Promise<void> {
    this.#holes?.close()
    return promisify(closeFd)(this.#disk.fd)
  }

  async #readSome(offset: number, into: Buffer): Promise<number> {
    try {
      return (await readFd(this.#disk.fd, into, 0, into.length, offset)).bytesRead
    } catch (error) {
      throw deviceErrorFrom(error, this.name, 'read', offset, into.length)
    }
  }

  /** Node.js has no fallocate(2) and no BLKDISCARD, util-linux has. @returns whether it succeeded */
  #runHelper(command: readonly string[], offset: number, length: number): Promise<boolean> {
    const [program = '', ...options] = command
    // Opened anew through /proc: a descriptor that the helper inherited would keep our lock when we are killed.
    const file = `/proc/${process.pid}/fd/${this.#disk.fd}`
    const range = ['--offset', String(offset), '--length', String(length), file]
    const child = spawn(program, [...options, ...range], { stdio: 'ignore' })
    return new Promise((resolve) => {
      child.once('error', () => {
        resolve(false)
      })
      child.once('exit', (status) => {
        resolve(status === 0)
      })
    })
  }
}
