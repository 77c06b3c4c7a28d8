/** The data blocks of the spare, as those see them who move many at once: by slot, several neighbours in one request. */
import { DeviceError } from '../device/device.js'
import type { Spare } from '../spare/spare.js'
import { Pacer } from '../util/pacer.js'
import { SECTOR_SIZE, slotNumber, type MainBlock, type SlotNumber } from '../util/units.js'
import { judge } from './policy.js'

/** Slots that are looked at between two looks at the clock. */
const SLOTS_PER_LOOK = 1024

export class DataBlocks {
  readonly #spare: Spare

  constructor(spare: Spare) {
    this.#spare = spare
  }

  get blockSize(): number {
    return this.#spare.blockSize
  }

  /** All of them, whether free or not. */
  get total(): number {
    return this.#spare.geometry.slots
  }

  get free(): number {
    return this.#spare.free
  }

  allocate(): Promise<SlotNumber | undefined> {
    return this.#spare.allocate()
  }

  /** @returns whether it was free */
  reserve(slot: SlotNumber): Promise<boolean> {
    return this.#spare.reserve(slot)
  }

  release(slots: readonly SlotNumber[]): void {
    this.#spare.release(slots)
  }

  hasLost(slot: SlotNumber): boolean {
    return this.#spare.slots.hasLost(slot)
  }

  /** Bit i: sector i of the block is lost. */
  lostMask(slot: SlotNumber): bigint {
    return this.#spare.slots.get(slot).lostMask
  }

  /** In the order of slots, and in turns, so that others are not held up: what changes meanwhile may be seen or not. */
  async forEachRemapped(visit: (slot: SlotNumber, block: MainBlock, hasLost: boolean) => void): Promise<void> {
    const pacer = new Pacer()
    const { slots } = this.#spare
    for (let first = 0; first < slots.initialisedSlots; first += SLOTS_PER_LOOK) {
      const end = Math.min(first + SLOTS_PER_LOOK, slots.initialisedSlots)
      for (let n = first; n < end; n++) {
        const slot = slotNumber(n)
        if (slots.records.isRemapped(slot)) visit(slot, slots.records.mainBlock(slot), slots.records.hasLost(slot))
      }
      await pacer.pause()
    }
  }

  /** From the start of the spare's data area. */
  sectorOf(slot: SlotNumber): number {
    return (slot * this.blockSize) / SECTOR_SIZE
  }

  /** Reads `slot` and those that follow it. @throws DeviceError */
  async read(slot: SlotNumber, into: Buffer): Promise<void> {
    await this.#spare.device.read(this.#spare.dataOffset(slot), into)
  }

  /** Writes `slot` and those that follow it. @throws DeviceError */
  async write(slot: SlotNumber, content: Buffer): Promise<void> {
    await this.#spare.device.write(this.#spare.dataOffset(slot), [content])
  }

  async flush(): Promise<void> {
    await this.#spare.device.flush()
  }
}

/** Whether it says that a place cannot be read or written, and not that a disk is gone or refuses. */
export const isBadBlock = (error: unknown): error is DeviceError =>
  error instanceof DeviceError && judge(error) === 'bad-block'
