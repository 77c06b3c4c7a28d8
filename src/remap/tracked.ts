/**
 * A disk whose changes are marked at the replica before they begin, so that nothing older is ever taken from there, and again
 * when they end, for the replica may have been declared identical meanwhile.
 */
import { chunksLength } from '../util/chunks.js'
import type { Completion, Device, WriteOptions, ZeroOptions } from '../device/device.js'
import { PassThrough } from '../device/pass-through.js'
import type { Replica } from './replica.js'
import type { Pipe } from '../util/pipe.js'

export class TrackedDevice extends PassThrough {
  readonly #replica: Replica

  constructor(below: Device, replica: Replica) {
    super(below)
    this.#replica = replica
  }

  override write(offset: number, chunks: readonly Buffer[], options?: WriteOptions): Completion {
    return this.#changed(offset, chunksLength(chunks), () => super.write(offset, chunks, options))
  }

  override writeNow(offset: number, from: Buffer, start: number, length: number): boolean {
    this.#replica.mark(offset, length)
    return super.writeNow(offset, from, start, length)
  }

  override writeFromPipe(offset: number, length: number, pipe: Pipe): number {
    this.#replica.mark(offset, length)
    return super.writeFromPipe(offset, length, pipe)
  }

  override trim(offset: number, length: number, options?: WriteOptions): Completion {
    return this.#changed(offset, length, () => super.trim(offset, length, options))
  }

  override writeZeroes(offset: number, length: number, options?: ZeroOptions): Completion {
    return this.#changed(offset, length, () => super.writeZeroes(offset, length, options))
  }

  #changed(offset: number, length: number, change: () => Completion): Completion {
    this.#replica.mark(offset, length)
    return change()?.finally(() => {
      this.#replica.mark(offset, length)
    })
  }
}
