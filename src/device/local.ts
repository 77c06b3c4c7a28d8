/**
 * A disk behind a file descriptor: what regular files and block devices have in common. Reads and writes are made
 * synchronously while the disk answers from memory and through the thread pool as soon as it does not (see `Pace`), so a
 * slow disk shows its full queue depth. Whatever may take long by nature always goes through the pool.
 */
import { fdatasync, read, readSync, writeSync, writev, writevSync, close as closeFd } from 'node:fs'
import { spawn } from 'node:child_process'
import { promisify } from 'node:util'
import { chunksLength, sliceChunks, zeroChunks } from '../util/chunks.js'
import { MiB } from '../util/units.js'
import { assertInside } from './bounds.js'
import {
  DeviceError,
  type AllocationExtent,
  type BlockSizes,
  type Completion,
  type Device,
  type WriteOptions,
  type ZeroOptions,
} from './device.js'
import { HelperQueue } from './helper-queue.js'
import { HoleFinder } from './hole-finder.js'
import { lap } from './lap.js'
import { Pace } from './pace.js'
import { scheduling } from '../util/scheduling.js'
import { deviceErrorFrom } from './system-error.js'
import type { Pipe } from '../util/pipe.js'

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
  /** Every request goes through the thread pool: while one hangs in a call, everything else goes on. */
  readonly mayHang?: boolean
}

/** Starting a helper program costs milliseconds: below this, a trim is not worth it and zeros are simply written. */
const HELPER_LENGTH_MIN = MiB
const ZERO_STEP = 8 * MiB
/** Longer requests keep a processor busy for a good part of a millisecond, and one of the pool's will do. */
const SYNCHRONOUS_LENGTH_MAX = MiB

/** From here on, punching a hole takes less time than writing as many zeros, even into the page cache. */
const FAST_ZERO_LENGTH_MIN = 16 * MiB

export class LocalDevice implements Device {
  readonly #disk: LocalDisk
  readonly #reads = new Pace(scheduling)
  readonly #writes = new Pace(scheduling)
  readonly #holes: HoleFinder | undefined
  readonly #synchronousLengthMax: number
  readonly #helpers = new HelperQueue((...range) => this.#runHelper(...range))
  #flushFailure: DeviceError | undefined

  constructor(disk: LocalDisk) {
    this.#disk = disk
    this.#synchronousLengthMax = disk.mayHang ? 0 : SYNCHRONOUS_LENGTH_MAX
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

  read(offset: number, into: Buffer): Completion {
    const { length } = into
    assertInside(this, offset, length)
    if (length === 0) return undefined
    if (length > this.#synchronousLengthMax || !this.#reads.begin(performance.now()))
      return this.#readInPool(offset, into)
    try {
      const bytes = readSync(this.#disk.fd, into, 0, length, offset)
      if (bytes < length) return this.#readInPool(offset + bytes, into.subarray(bytes))
      return undefined
    } catch (error) {
      return Promise.reject(deviceErrorFrom(error, this.name, 'read', offset, length))
    } finally {
      lap.ms = this.#reads.end(performance.now(), length)
    }
  }

  write(offset: number, chunks: readonly Buffer[], options?: WriteOptions): Completion {
    const length = chunksLength(chunks)
    assertInside(this, offset, length)
    if (this.readOnly) return Promise.reject(new DeviceError('EPERM', this.name, 'write', offset, length))
    if (length > this.#synchronousLengthMax || !this.#writes.begin(performance.now())) {
      return this.#writeInPool(offset, chunks, 0, length, options)
    }
    try {
      const bytes = writevSync(this.#disk.fd, chunks, offset)
      if (bytes < length) return this.#writeInPool(offset, chunks, bytes, length, options)
    } catch (error) {
      return Promise.reject(deviceErrorFrom(error, this.name, 'write', offset, length))
    } finally {
      lap.ms = this.#writes.end(performance.now(), length)
    }
    return options?.fua ? this.flush() : undefined
  }

  readNow(offset: number, into: Buffer, start: number, length: number): boolean {
    if (length > this.#synchronousLengthMax || !this.#reads.begin(performance.now())) return false
    try {
      return readSync(this.#disk.fd, into, start, length, offset) === length
    } catch {
      return false
    } finally {
      lap.ms = this.#reads.end(performance.now(), length)
    }
  }

  writeNow(offset: number, from: Buffer, start: number, length: number): boolean {
    if (length > this.#synchronousLengthMax || this.readOnly || !this.#writes.begin(performance.now())) return false
    try {
      return writeSync(this.#disk.fd, from, start, length, offset) === length
    } catch {
      return false
    } finally {
      lap.ms = this.#writes.end(performance.now(), length)
    }
  }

  readToPipe(offset: number, length: number, pipe: Pipe): boolean {
    if (length > this.#synchronousLengthMax || !this.#reads.begin(performance.now())) return false
    const moved = pipe.fill(this.#disk.fd, offset, length)
    lap.ms = this.#reads.end(performance.now(), length)
    return moved === length
  }

  writeFromPipe(offset: number, length: number, pipe: Pipe): number {
    if (length > this.#synchronousLengthMax || this.readOnly || !this.#writes.begin(performance.now())) return 0
    const moved = pipe.drain(this.#disk.fd, offset, length)
    lap.ms = this.#writes.end(performance.now(), length)
    return moved
  }

  flush(): Completion {
    return this.#disk.writesThrough || this.readOnly ? undefined : this.#flush()
  }

  async #flush(): Promise<void> {
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
    if (length >= HELPER_LENGTH_MIN) await this.#helpers.run(this.#disk.trimCommand, offset, length)
    if (options?.fua) await this.flush()
  }

  async writeZeroes(offset: number, length: number, options?: ZeroOptions): Promise<void> {
    assertInside(this, offset, length)
    const helps = length >= HELPER_LENGTH_MIN && !options?.noHole && !this.readOnly
    const isFast = helps && this.#disk.sparse === true && length >= FAST_ZERO_LENGTH_MIN
    const zeroed =
      helps && (isFast || !options?.fast) && (await this.#helpers.run(this.#disk.zeroCommand, offset, length))
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

  async #readInPool(offset: number, into: Buffer): Promise<void> {
    for (let done = 0; done < into.length;) {
      const bytes = await this.#readSome(offset + done, into.subarray(done))
      // The disk shrank behind our back: its content is gone, not zero.
      if (bytes === 0) throw new DeviceError('EIO', this.name, 'read', offset, into.length)
      done += bytes
    }
  }

  /** Of a request whose first `done` bytes are written. */
  async #writeInPool(
    offset: number,
    chunks: readonly Buffer[],
    done: number,
    length: number,
    options?: WriteOptions,
  ): Promise<void> {
    while (done < length) {
      done += await this.#writeSome(offset + done, done === 0 ? chunks : sliceChunks(chunks, done, length))
    }
    if (options?.fua) await this.flush()
  }

  #readSome(offset: number, into: Buffer): Promise<number> {
    this.#reads.sent(performance.now())
    return new Promise((resolve, reject) => {
      read(this.#disk.fd, into, 0, into.length, offset, (error, bytes) => {
        this.#reads.answered(performance.now())
        if (error) reject(deviceErrorFrom(error, this.name, 'read', offset, into.length))
        else resolve(bytes)
      })
    })
  }

  #writeSome(offset: number, chunks: readonly Buffer[]): Promise<number> {
    this.#writes.sent(performance.now())
    return new Promise((resolve, reject) => {
      writev(this.#disk.fd, chunks, offset, (error, bytes) => {
        this.#writes.answered(performance.now())
        if (error) reject(deviceErrorFrom(error, this.name, 'write', offset, chunksLength(chunks)))
        else resolve(bytes)
      })
    })
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
