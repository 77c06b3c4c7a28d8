/**
 * `ReplayJournal`: the writes an upstream acknowledged and has not yet made durable, kept so that they can be written
 * again when the upstream dies with a volatile cache.
 *
 * Entries stand in the order of acknowledgement and leave when a FLUSH succeeds that was sent after it. Memory is
 * bounded: a write takes its room with `reserve` before it is sent and gives it back with `append` or `cancel`.
 * Replaying brings back every entry, but only entries: a durable (FUA) write must not be allowed to overlap one,
 * or the replay would undo it. `overlaps` tells.
 */

import { assert } from '../util/assert.js'
import { MiB } from '../util/units.js'
import type { Mutation } from './mutation.js'

/** What an entry costs besides its data, so that entries without data are bounded too. */
const ENTRY_OVERHEAD = 256
/** Small writes are copied into shared segments of this size; each of their own would be more overhead than data. */
const SEGMENT_SIZE = 1 * MiB
const SHARED_LENGTH_MAX = SEGMENT_SIZE / 8
/** Entries sent at once while replaying. */
const REPLAY_BATCH_MAX = 64

interface Entry {
  readonly position: number
  readonly mutation: Mutation
}

interface Waiter {
  readonly cost: number
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export class ReplayJournal {
  readonly #bytesMax: number
  #entries: Entry[] = []
  #bytes = 0
  #position = 0
  #waiting: Waiter[] = []
  #segment = Buffer.alloc(0)

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  /** Held and reserved, in bytes, with what entries cost besides their data. */
  get bytes(): number {
    return this.#bytes
  }

  get entries(): number {
    return this.#entries.length
  }

  /** It is time for a FLUSH of one's own: the journal is half full, or somebody waits for room. */
  get wantsFlush(): boolean {
    return this.#entries.length > 0 && (this.#bytes > this.#bytesMax / 2 || this.#waiting.length > 0)
  }

  /**
   * Takes room for `mutation`.
   * @returns nothing when there is room, else a promise that resolves when there is, in the order of the calls
   */
  reserve(mutation: Mutation): Promise<void> | undefined {
    const cost = costOf(mutation)
    if (this.#waiting.length === 0 && this.#fits(cost)) {
      this.#bytes += cost
      return undefined
    }
    return new Promise((resolve, reject) => this.#waiting.push({ cost, resolve, reject }))
  }

  /** The mutation was not acknowledged, or is durable already: its room is free again. */
  cancel(mutation: Mutation): void {
    this.#free(costOf(mutation))
  }

  /** The mutation was acknowledged: a copy of it takes its room. */
  append(mutation: Mutation): void {
    this.#position++
    this.#entries.push({ position: this.#position, mutation: this.#copy(mutation) })
  }

  /** Taken when a FLUSH is sent, for `release` when it succeeds. */
  mark(): number {
    return this.#position
  }

  /** What was appended before `mark` was taken is durable. */
  release(mark: number): void {
    const kept = this.#entries.findIndex(({ position }) => position > mark)
    const released = this.#entries.splice(0, kept < 0 ? this.#entries.length : kept)
    this.#free(released.reduce((sum, { mutation }) => sum + costOf(mutation), 0))
    if (this.#entries.length === 0) this.#segment = Buffer.alloc(0)
  }

  /** Whether replaying would write into the range. */
  overlaps(offset: number, length: number): boolean {
    return this.#entries.some(({ mutation }) => overlap(mutation, { offset, length }))
  }

  /** Nobody waits for room any more. */
  rejectWaiting(error: Error): void {
    for (const { reject } of this.#waiting.splice(0)) reject(error)
  }

  /**
   * Applies every entry. Entries that overlap keep their order, others go side by side.
   * @throws the first error of `apply`, once what was under way has settled
   */
  async replay(apply: (mutation: Mutation) => Promise<void>): Promise<void> {
    const entries = [...this.#entries]
    let batch: Mutation[] = []
    const finishBatch = async (): Promise<void> => {
      const results = await Promise.allSettled(batch.map(apply))
      batch = []
      for (const result of results) if (result.status === 'rejected') throw result.reason
    }
    for (const { mutation } of entries) {
      if (batch.length >= REPLAY_BATCH_MAX || batch.some((other) => overlap(other, mutation))) await finishBatch()
      batch.push(mutation)
    }
    await finishBatch()
  }

  /** What is larger than the bound gets through alone. */
  #fits(cost: number): boolean {
    return this.#bytes === 0 || this.#bytes + cost <= this.#bytesMax
  }

  #free(bytes: number): void {
    this.#bytes -= bytes
    assert(this.#bytes >= 0, 'the journal frees what it holds')
    for (let next = this.#waiting[0]; next && this.#fits(next.cost); next = this.#waiting[0]) {
      this.#waiting.shift()
      this.#bytes += next.cost
      next.resolve()
    }
  }

  /** The caller may reuse its chunks once its write has settled. */
  #copy(mutation: Mutation): Mutation {
    if (mutation.kind !== 'write') return mutation
    const data = this.#allocate(mutation.length)
    let at = 0
    for (const chunk of mutation.chunks) at += chunk.copy(data, at)
    return { ...mutation, chunks: [data] }
  }

  #allocate(length: number): Buffer {
    if (length > SHARED_LENGTH_MAX) return Buffer.allocUnsafeSlow(length)
    if (this.#segment.length < length) this.#segment = Buffer.allocUnsafeSlow(SEGMENT_SIZE)
    const data = this.#segment.subarray(0, length)
    this.#segment = this.#segment.subarray(length)
    return data
  }
}

const costOf = (mutation: Mutation): number => ENTRY_OVERHEAD + (mutation.kind === 'write' ? mutation.length : 0)

interface Range {
  readonly offset: number
  readonly length: number
}

const overlap = (a: Range, b: Range): boolean => a.offset < b.offset + b.length && b.offset < a.offset + a.length
