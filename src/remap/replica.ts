/**
 * `Replica`: a copy of the disk, from which blocks are healed that the main disk cannot read any more.
 *
 * The invariant (promise P3): nothing is taken from it that may be older than what the client has written. A replica is
 * identical to the disk as of one moment, when the operator gave it to us or declared it anew; every block that is
 * changed through us after that is marked before the change begins, and a marked block is never taken. The marks live in
 * memory, so a replica is `stale` after a restart, unless nothing was changed before it. A replica that something else
 * keeps up to date, `in-sync`, is exempt: there the operator vouches for every read.
 */
import { DeviceError, type Device } from '../device/device.js'
import type { Log } from '../util/log.js'
import { SECTOR_SIZE } from '../util/units.js'
import { ChangeMarks, GRANULE } from './change-marks.js'
import { sectorsIn } from './sector-mask.js'

export type ReplicaState = 'identical' | 'in-sync' | 'stale'

export class Replica {
  readonly device: Device
  /** What the disk says of itself. */
  readonly id: string
  readonly #log: Log
  #marks: ChangeMarks
  #state: ReplicaState
  #healed = 0

  constructor(device: Device, id: string, state: ReplicaState, log: Log) {
    this.device = device
    this.id = id
    this.#state = state
    this.#log = log
    this.#marks = new ChangeMarks(device.size)
  }

  get state(): ReplicaState {
    return this.#state
  }

  /** In bytes, rounded up to granules of 4 KiB, since the replica was declared identical. */
  get changedBytes(): number {
    return this.#marks.count * GRANULE
  }

  /** Blocks of which something was taken from it. */
  get healedBlocks(): number {
    return this.#healed
  }

  /**
   * What the replica holds and what the client sees are the same as of now, if `check` finds nothing against it. Nothing is
   * taken from it meanwhile, and what changes meanwhile is marked.
   * @throws what `check` throws: then all is as before
   */
  async declareIdentical(check: () => Promise<void>): Promise<void> {
    const [state, marks] = [this.#state, this.#marks]
    this.#state = 'stale'
    this.#marks = new ChangeMarks(this.device.size)
    try {
      await check()
    } catch (error) {
      marks.addAll(this.#marks)
      this.#marks = marks
      this.#state = state
      throw error
    }
    this.#state = 'identical'
  }

  /** The content of [offset, offset + length) is about to change. */
  mark(offset: number, length: number): void {
    this.#marks.add(offset, length)
  }

  /** Whether all of [offset, offset + length) may be taken from it. */
  covers(offset: number, length: number): boolean {
    if (this.#state === 'in-sync') return true
    return this.#state === 'identical' && !this.#marks.touches(offset, length)
  }

  /** @returns whether `into` is filled now; its content is undefined else */
  async read(offset: number, into: Buffer): Promise<boolean> {
    if (!this.covers(offset, into.length)) return false
    return this.#isRead(offset, into)
  }

  /**
   * Fills the sectors of `lostMask` into the content of the block at `start`.
   * @returns those that are lost all the same
   */
  async heal(start: number, content: Buffer, lostMask: bigint): Promise<bigint> {
    let left = lostMask
    for (const sector of sectorsIn(lostMask)) {
      const at = sector * SECTOR_SIZE
      const part = content.subarray(at, at + SECTOR_SIZE)
      const copy = Buffer.alloc(part.length)
      if (!(await this.read(start + at, copy))) continue
      copy.copy(part)
      left &= ~(1n << BigInt(sector))
    }
    if (left !== lostMask) this.#healed++
    return left
  }

  async #isRead(offset: number, into: Buffer): Promise<boolean> {
    try {
      await this.device.read(offset, into)
      return true
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error
      this.#log.warn(`replica ${error.message}`)
      return false
    }
  }
}
