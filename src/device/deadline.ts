/**
 * `DeadlineDevice`: a disk that is not waited for without a limit. A request that takes too long fails with
 * `DeadlineError`, and what the disk says of it later is discarded.
 *
 * Discarded is not undone. A late read still fills memory, so reads go into memory of their own, which is copied when
 * the answer is in time. A late write may still reach the disk, after a newer one: so until it is answered nothing else
 * may change the bytes it was for. Such requests fail at once, nothing is sent, and whoever has another place for the
 * data puts it there. The memory of a late write belongs to the disk until then, so callers never write to it again.
 *
 * A thread that slept (a machine that was suspended, or is overloaded) finds its timer due before the answers that came
 * meanwhile, so it looks at those first.
 */
import { chunksLength } from '../util/chunks.js'
import { assertInside } from './bounds.js'
import {
  DeviceError,
  type AllocationExtent,
  type BlockSizes,
  type Completion,
  type Device,
  type DeviceOperation,
  type WriteOptions,
  type ZeroOptions,
} from './device.js'

/** No answer in time. */
export class DeadlineError extends DeviceError {
  override name = 'DeadlineError'
  /** What was to be written may be written elsewhere: the operator wants it so. */
  readonly mayMove: boolean

  constructor(mayMove: boolean, device: string, { operation, offset, length }: RequestRange, fault?: number) {
    super('ETIMEDOUT', device, operation, offset, length, { fault })
    this.mayMove = mayMove
  }
}

/** Offset and length are in bytes. */
export interface RequestRange {
  readonly operation: DeviceOperation
  readonly offset: number
  readonly length: number
}

export interface DeadlineOptions {
  readonly timeoutMs: number
  /** What becomes of a write that is late: it fails, or moves to the spare. */
  readonly onTimeout: 'eio' | 'remap'
  /**
   * Requests that the disk has at a time; further ones wait, and their time runs meanwhile. For disks whose requests
   * hold threads: those are not to be had for other disks while this one hangs.
   */
  readonly inFlightMax?: number
  /** A request is late. `hangs`: and nothing else has been answered since it was sent. */
  readonly onLate?: (request: RequestRange, hangs: boolean) => void
  /** Something is answered again after a hang. */
  readonly onAlive?: () => void
  /** A read that was given up has succeeded after all. */
  readonly onLateRead?: (request: RequestRange) => void
}

interface Pending extends RequestRange {
  readonly changes: boolean
  readonly send: () => Completion
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
  readonly dueMs: number
  /** When the disk got it; `undefined`: it waits. */
  sentMs: number | undefined
}

/** A timer that is later than this has been held up, and answers with it. */
const HELD_UP_MS = 50
/** Enough for the answers that wait to be heard. */
const HELD_UP_GRACE_MS = 250

export class DeadlineDevice implements Device {
  readonly #below: Device
  readonly #options: DeadlineOptions
  readonly #inFlightMax: number
  /** By their deadlines: all have the same time from when they came. */
  readonly #pending = new Set<Pending>()
  readonly #waiting = new Set<Pending>()
  readonly #late = new Set<Pending>()
  #inFlight = 0
  #timer: NodeJS.Timeout | undefined
  #answeredMs = -Infinity
  #hangs = false
  /** Something that was acknowledged may not be durable. */
  #dirty = false
  #flushing = 0
  /** What a flush that was given up has failed with, and nobody has heard of yet. */
  #lateFlushFailure: Error | undefined
  /** The last late request has been answered. */
  #onQuiet: () => void = () => undefined

  constructor(below: Device, options: DeadlineOptions) {
    this.#below = below
    this.#options = options
    this.#inFlightMax = options.inFlightMax ?? Infinity
  }

  get name(): string {
    return this.#below.name
  }

  get size(): number {
    return this.#below.size
  }

  get readOnly(): boolean {
    return this.#below.readOnly
  }

  get blockSizes(): BlockSizes {
    return this.#below.blockSizes
  }

  /** Nothing has been answered for as long as a request may take. */
  get hangs(): boolean {
    return this.#hangs
  }

  /** Requests that were given up and are not answered yet. */
  get late(): number {
    return this.#late.size
  }

  async read(offset: number, into: Buffer): Promise<void> {
    const { length } = into
    assertInside(this, offset, length)
    if (length === 0) return
    const own = Buffer.allocUnsafe(length)
    await this.#request('read', offset, length, () => this.#below.read(offset, own))
    own.copy(into)
  }

  write(offset: number, chunks: readonly Buffer[], options?: WriteOptions): Promise<void> {
    const length = chunksLength(chunks)
    assertInside(this, offset, length)
    return this.#request('write', offset, length, () => this.#below.write(offset, chunks, options))
  }

  /** While the disk hangs, a flush for which there is nothing to do does not ask it. */
  async flush(): Promise<void> {
    if (this.#dirty || this.#flushing > 0 || this.#late.size === 0) await this.#flush()
    const failure = this.#lateFlushFailure
    this.#lateFlushFailure = undefined
    if (failure !== undefined) throw failure
  }

  async #flush(): Promise<void> {
    this.#dirty = false
    this.#flushing++
    try {
      await this.#request('flush', 0, this.size, () => this.#below.flush())
    } catch (error) {
      this.#dirty = true
      throw error
    } finally {
      this.#flushing--
    }
  }

  trim(offset: number, length: number, options?: WriteOptions): Promise<void> {
    assertInside(this, offset, length)
    return this.#request('trim', offset, length, () => this.#below.trim(offset, length, options))
  }

  writeZeroes(offset: number, length: number, options?: ZeroOptions): Promise<void> {
    assertInside(this, offset, length)
    return this.#request('write-zeroes', offset, length, () => this.#below.writeZeroes(offset, length, options))
  }

  /** A disk that does not say is not asked again: all is data. */
  async extents(offset: number, length: number, countMax: number): Promise<readonly AllocationExtent[]> {
    let extents: readonly AllocationExtent[] | undefined
    try {
      await this.#request('read', offset, length, async () => {
        extents = await this.#below.extents?.(offset, length, countMax)
      })
    } catch (error) {
      if (!(error instanceof DeadlineError)) throw error
    }
    return extents ?? [{ length, allocation: 'data' }]
  }

  /**
   * Waits for late answers for as long as a request may take. A disk that still has not answered then is left open:
   * what it does with its requests must not happen to another file in its place.
   * @throws DeadlineError then
   */
  async close(): Promise<void> {
    const closed = this.#quiet().then(() => this.#below.close())
    let timer: NodeJS.Timeout | undefined
    const timeout = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(this.#deadlineError({ operation: 'flush', offset: 0, length: this.size }))
      }, this.#options.timeoutMs)
    })
    try {
      await Promise.race([closed, timeout])
    } finally {
      clearTimeout(timer)
      clearTimeout(this.#timer)
    }
  }

  #quiet(): Promise<void> {
    if (this.#late.size === 0) return Promise.resolve()
    return new Promise((resolve) => {
      this.#onQuiet = resolve
    })
  }

  #request(operation: DeviceOperation, offset: number, length: number, send: () => Completion): Promise<void> {
    return new Promise((resolve, reject) => {
      const dueMs = performance.now() + this.#options.timeoutMs
      const changes = operation !== 'read' && operation !== 'flush'
      const request = { operation, offset, length, changes, send, resolve, reject, dueMs, sentMs: undefined }
      this.#pending.add(request)
      if (this.#inFlight < this.#inFlightMax) this.#send(request)
      else if (this.#late.size >= this.#inFlightMax) this.#fail(request)
      else this.#waiting.add(request)
      if (this.#timer === undefined && this.#pending.size > 0) this.#arm(this.#options.timeoutMs)
    })
  }

  #send(request: Pending): void {
    this.#waiting.delete(request)
    if (request.changes && this.#isBlocked(request)) {
      this.#fail(request)
      return
    }
    request.sentMs = performance.now()
    this.#inFlight++
    const completion = request.send()
    if (completion === undefined) {
      this.#answered(request)
      return
    }
    completion.then(
      () => {
        this.#answered(request)
      },
      (error: unknown) => {
        this.#answered(request, error)
      },
    )
  }

  /** A late request may still change bytes that this one is for. */
  #isBlocked({ offset, length }: RequestRange): boolean {
    for (const late of this.#late) {
      if (late.changes && late.offset < offset + length && offset < late.offset + late.length) return true
    }
    return false
  }

  #answered(request: Pending, error?: unknown): void {
    this.#inFlight--
    this.#answeredMs = performance.now()
    if (this.#late.delete(request)) this.#answeredLate(request, error)
    else if (this.#pending.delete(request)) {
      this.#dirty ||= request.changes
      if (error === undefined) request.resolve()
      else request.reject(error)
    }
    if (this.#hangs) {
      this.#hangs = false
      this.#options.onAlive?.()
    }
    for (const next of this.#waiting) {
      if (this.#inFlight >= this.#inFlightMax) break
      this.#send(next)
    }
  }

  #answeredLate(request: Pending, error: unknown): void {
    if (request.operation === 'flush' && error !== undefined) this.#lateFlushFailure ??= error as Error
    if (request.operation === 'read' && error === undefined) this.#options.onLateRead?.(request)
    if (this.#late.size === 0) this.#onQuiet()
  }

  #arm(ms: number): void {
    clearTimeout(this.#timer)
    const due = performance.now() + ms
    this.#timer = setTimeout(() => {
      if (performance.now() - due > HELD_UP_MS) {
        this.#timer = setTimeout(() => {
          this.#expire()
        }, HELD_UP_GRACE_MS)
      } else {
        this.#expire()
      }
    }, ms)
  }

  #expire(): void {
    this.#timer = undefined
    const now = performance.now()
    for (const request of this.#pending) {
      if (request.dueMs > now) {
        this.#arm(request.dueMs - now)
        return
      }
      this.#waiting.delete(request)
      if (request.sentMs !== undefined) this.#giveUp(request, request.sentMs)
      this.#fail(request)
    }
  }

  #giveUp(request: Pending, sentMs: number): void {
    this.#late.add(request)
    const hangs = this.#answeredMs < sentMs
    const isNews = hangs && !this.#hangs
    this.#hangs ||= hangs
    this.#options.onLate?.(request, isNews)
  }

  #fail(request: Pending): void {
    this.#pending.delete(request)
    request.reject(this.#deadlineError(request))
  }

  #deadlineError(request: RequestRange): DeadlineError {
    const fault = this.#below.heldBy?.(request.operation, request.offset, request.length)
    return new DeadlineError(this.#options.onTimeout === 'remap', this.name, request, fault)
  }
}
