/** The data blocks of the spares, as those see them who move many at once: by slot, several neighbours in one request. */
import { DeviceError } from '../device/device.js'
import type { Member, SparePool } from '../spare/pool.js'
import { Pacer } from '../util/pacer.js'
import { SECTOR_SIZE, slotNumber, type MainBlock, type SlotNumber } from '../util/units.js'
import { judge } from './policy.js'

/** Slots that are looked at between two looks at the clock. */
const SLOTS_PER_LOOK = 1024

export class DataBlocks {
  readonly #pool: SparePool

  constructor(pool: SparePool) {
    this.#pool = pool
  }

  get blockSize(): number {
    return this.#pool.blockSize
  }

  get free(): number {
    return this.#pool.free
  }

  allocate(): Promise<SlotNumber | undefined> {
    return this.#pool.allocate()
  }

  /** @returns whether it was free */
  reserve(slot: SlotNumber): Promise<boolean> {
    return this.#pool.reserve(slot)
  }

  release(slots: readonly SlotNumber[]): void {
    this.#pool.release(slots)
  }

  hasLost(slot: SlotNumber): boolean {
    return this.#pool.hasLost(slot)
  }

  /** Bit i: sector i of the block is lost. */
  lostMask(slot: SlotNumber): bigint {
    return this.#pool.get(slot).lostMask
  }

  /** In the order of slots, and in turns, so that others are not held up: what changes meanwhile may be seen or not. */
  async forEachRemapped(visit: (slot: SlotNumber, block: MainBlock, hasLost: boolean) => void): Promise<void> {
    const pacer = new Pacer()
    const { records } = this.#pool
    for (const { base, spare } of this.#pool.members) {
      const last = base + spare.slots.initialisedSlots
      for (let first = base; first < last; first += SLOTS_PER_LOOK) {
        const end = Math.min(first + SLOTS_PER_LOOK, last)
        for (let n = first; n < end; n++) {
          const slot = slotNumber(n)
          if (records.isInForce(slot)) visit(slot, records.mainBlock(slot), records.hasLost(slot))
        }
        await pacer.pause()
      }
    }
  }

  /** The spare of a slot, and its sector there, from the start of its data area. */
  placeOf(slot: SlotNumber): { readonly spare: string; readonly sector: number } {
    const member = this.#pool.memberOf(slot)
    return { spare: member.name, sector: (member.local(slot) * this.blockSize) / SECTOR_SIZE }
  }

  /** By name, location or uuid, or the only one there is; `undefined`: there is none, or several. */
  member(name: string | undefined): Member | undefined {
    const [only, ...others] = this.#pool.members
    if (name !== undefined) return this.#pool.find(name)
    return others.length === 0 ? only : undefined
  }

  /** Reads `slot` and those that follow it. @throws DeviceError */
  async read(slot: SlotNumber, into: Buffer): Promise<void> {
    const member = this.#pool.memberOf(slot)
    await member.read(member.dataOffset(slot), into)
  }

  /** Writes `slot` and those that follow it. @throws DeviceError */
  async write(slot: SlotNumber, content: Buffer): Promise<void> {
    await this.#pool.confirmOwner(slot)
    const member = this.#pool.memberOf(slot)
    await member.write(member.dataOffset(slot), [content])
  }

  async flush(): Promise<void> {
    await this.#pool.flush()
  }
}

/** Whether it says that a place cannot be read or written, and not that a disk is gone or refuses. */
export const isBadBlock = (error: unknown): error is DeviceError =>
  error instanceof DeviceError && judge(error) === 'bad-block'
