/**
 * Weak blocks: a drive that needs seconds for a sector is about to lose it, so the block moves while it can be read.
 *
 * One late read proves nothing: the machine may have been suspended, an upstream server restarted, the disk busy. So a
 * late read is followed up. If a read elsewhere on the disk is late as well, it is not the block. If the block is late
 * again, it is weak. If it is not, which a cache may be the reason for, it is counted, and late twice it is weak, too.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { DeviceError } from '../device/device.js'
import type { Log } from '../util/log.js'
import { alignDown, mainBlock, SECTOR_SIZE, type MainBlock } from '../util/units.js'
import { InDoubtError, SpareExhaustedError } from './placement.js'
import type { RemapTarget } from './target.js'

/** Late reads of a block that make it weak. */
const LATE_MAX = 2
/** Blocks that are counted, and late reads that wait to be followed up: further ones are forgotten. */
const COUNTED_MAX = 4096
const WAITING_MAX = 64
/** A disk that is as slow as this part of the limit elsewhere is slow as a whole. */
const ELSEWHERE_SHARE = 0.25

interface LateRead {
  readonly offset: number
  readonly length: number
}

export class WeakBlocks {
  readonly #target: RemapTarget
  slowMs: number
  readonly #log: Log
  readonly #counts = new Map<MainBlock, number>()
  #waiting: LateRead[] = []
  #working: Promise<void> | undefined
  #closed = false

  constructor(target: RemapTarget, slowMs: number, log: Log) {
    this.#target = target
    this.slowMs = slowMs
    this.#log = log
  }

  /** A read of main took longer than allowed. */
  readonly late = (offset: number, length: number): void => {
    this.#target.statistics.slowReads++
    this.#target.errors.late(offset, length)
    // What is read to follow up must not be followed up itself.
    if (this.#closed || this.#working !== undefined || this.#target.readOnly) return
    if (this.#waiting.length < WAITING_MAX) this.#waiting.push({ offset, length })
    this.#working = this.#work().finally(() => {
      this.#working = undefined
    })
  }

  /** Resolves when nothing is followed up any more, and nothing will be. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#working
  }

  /** Resolves when what was late until now is followed up. For tests. */
  async settled(): Promise<void> {
    await this.#working
  }

  async #work(): Promise<void> {
    // The client's own request is still on its way to it.
    await pause(0)
    for (let next = this.#waiting.shift(); next && !this.#closed; next = this.#waiting.shift()) {
      try {
        await this.#followUp(next)
      } catch (error) {
        if (!(error instanceof DeviceError || error instanceof SpareExhaustedError || error instanceof InDoubtError)) {
          throw error
        }
        this.#log.warn(`a weak block stays where it is: ${error.message}`)
      }
    }
    this.#waiting = []
  }

  async #followUp({ offset, length }: LateRead): Promise<void> {
    const { size, pool } = this.#target
    const elsewhere = alignDown((offset + Math.floor(size / 2)) % size, SECTOR_SIZE)
    const reference = await this.#time(elsewhere, Math.min(SECTOR_SIZE, size - elsewhere))
    if (reference > this.slowMs * ELSEWHERE_SHARE) return
    const first = Math.floor(offset / pool.blockSize)
    const last = Math.floor((offset + length - 1) / pool.blockSize)
    for (let n = first; n <= last && !this.#closed; n++) {
      const block = mainBlock(n)
      if (this.#target.table.lookup(block) !== undefined) continue
      const start = n * pool.blockSize
      const isLate = (await this.#time(start, Math.min(pool.blockSize, size - start))) > this.slowMs
      if (isLate || (first === last && this.#count(block) >= LATE_MAX)) await this.#target.moveWeak(block)
    }
  }

  async #time(offset: number, length: number): Promise<number> {
    const startMs = performance.now()
    await this.#target.main.read(offset, Buffer.alloc(length))
    return performance.now() - startMs
  }

  #count(block: MainBlock): number {
    const count = (this.#counts.get(block) ?? 0) + 1
    this.#counts.delete(block)
    this.#counts.set(block, count)
    const [oldest] = this.#counts.keys()
    if (this.#counts.size > COUNTED_MAX && oldest !== undefined) this.#counts.delete(oldest)
    return count
  }
}
