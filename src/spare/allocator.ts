/**
 * Hands out free slots, in disk order, so that neighbouring bad blocks land side by side. A slot that was handed out
 * stays reserved until it is committed (then the table says it is used) or given back.
 */
import { slotNumber, type SlotNumber } from '../util/units.js'
import type { SlotState } from './format.js'
import { SlotSet } from './slot-set.js'

export class Allocator {
  readonly #slots: number
  readonly #state: (number: SlotNumber) => SlotState
  readonly #reserved = new SlotSet()
  /** Free slots that are handed out only when there are no others. */
  readonly #lastResort = new Set<SlotNumber>()
  #used: number
  #cursor = 0

  /** @param used number of slots that `state` calls something else than free */
  constructor(slots: number, used: number, state: (number: SlotNumber) => SlotState) {
    this.#slots = slots
    this.#used = used
    this.#state = state
  }

  get free(): number {
    return this.#slots - this.#used - this.#reserved.size
  }

  /** Reserves a free slot below `end`; `undefined` when there is none. */
  allocate(end = this.#slots): SlotNumber | undefined {
    if (this.free <= 0) return undefined
    const number = this.#next(end)
    if (number !== undefined || this.#lastResort.size === 0) return number
    this.#lastResort.clear()
    return this.#next(end)
  }

  #next(end: number): SlotNumber | undefined {
    for (let n = 0; n < this.#slots; n++) {
      const number = slotNumber((this.#cursor + n) % this.#slots)
      if (number >= end || !this.#isFree(number) || this.#lastResort.has(number)) continue
      this.#cursor = number
      this.#reserved.add(number)
      return number
    }
    return undefined
  }

  /** Reserves this very slot. @returns whether it was free */
  reserve(number: SlotNumber): boolean {
    if (!this.#isFree(number)) return false
    this.#reserved.add(number)
    return true
  }

  /** The free ones of these slots are handed out when there are no others. */
  avoid(first: SlotNumber, count: number): void {
    const end = Math.min(first + count, this.#slots)
    for (let n: number = first; n < end; n++) this.#lastResort.add(slotNumber(n))
  }

  /** Gives a reserved slot back unused. One that a failed commit left in doubt stays reserved. */
  release(number: SlotNumber): void {
    if (this.#state(number) === 'free') this.#reserved.delete(number)
  }

  /** The slot was committed: its state went from `before` to what the table says now. */
  committed(number: SlotNumber, before: SlotState): void {
    this.#reserved.delete(number)
    const isUsed = this.#state(number) !== 'free'
    const wasUsed = before !== 'free'
    this.#used += Number(isUsed) - Number(wasUsed)
  }

  #isFree(number: SlotNumber): boolean {
    return this.#state(number) === 'free' && !this.#reserved.has(number)
  }
}
