/**
 * Remaps many blocks at an operator's wish, with their content. Until the first of them changes over, whatever goes wrong
 * leaves everything as it was: free slots are taken and filled, and given back.
 */
import type { Device } from '../device/device.js'
import { Pacer } from '../util/pacer.js'
import type { RangeSet } from '../util/range-set.js'
import { mainBlock, slotNumber, type MainBlock, type SlotNumber } from '../util/units.js'
import { RemapRequestError, type RemapBatch } from './batch.js'
import { isBadBlock, type DataBlocks } from './data-blocks.js'
import type { NewRemap, Placement } from './placement.js'
import type { ReadPolicy } from './policy.js'
import type { Replica } from './replica.js'
import { rescue, rescueAround, type Rescued } from './rescue.js'
import type { Mover, Part, Window } from './relocation.js'
import type { RemapTable } from './table.js'

export interface AddingParts {
  readonly main: Device
  readonly blocks: DataBlocks
  readonly table: RemapTable
  readonly placement: Placement
  readonly policy: ReadPolicy
  /** Learns of blocks that change their content. */
  readonly changing?: Replica | undefined
}

export interface AddingOptions {
  readonly batch: RemapBatch
  /** Those of the batch that are to be remapped. */
  readonly blocks: RangeSet
  /** The ranges are so many that nobody wants an event for each. */
  readonly isQuiet: boolean
}

export class Adding implements Mover {
  readonly #parts: AddingParts
  readonly #batch: RemapBatch
  readonly #blocks: RangeSet
  readonly #isQuiet: boolean
  /** The slot of each block of the batch, plus one; 0: it was given back. */
  readonly #slots: Uint32Array
  readonly #lostMasks = new Map<number, bigint>()
  readonly #failed: SlotNumber[] = []
  /** Blocks that are in force. */
  added = 0
  /** Blocks that stayed where they were, see `changeOver`. */
  skipped = 0

  constructor(parts: AddingParts, { batch, blocks, isQuiet }: AddingOptions) {
    this.#parts = parts
    this.#batch = batch
    this.#blocks = blocks
    this.#isQuiet = isQuiet
    this.#slots = new Uint32Array(blocks.size)
  }

  /** Takes a slot for each block: those that the batch names, and free ones. @throws RemapRequestError, DeviceError */
  async reserve(): Promise<void> {
    const { blocks } = this.#parts
    const pacer = new Pacer()
    if (this.#slots.length > blocks.free) throw this.#tooFew()
    for (const { start, end, index } of this.#blocks.pieces()) {
      for (let block = start; block < end; block++) {
        const wanted = this.#batch.slotOf(block)
        if (wanted === undefined) continue
        const slot = slotNumber(wanted)
        if (!(await blocks.reserve(slot)))
          throw this.#batch.errorAt(block, `spare sector ${blocks.placeOf(slot).sector} is in use`)
        this.#slots[index + block - start] = slot + 1
        await pacer.pause()
      }
    }
    for (let index = 0; index < this.#slots.length; index++) {
      if (this.#slots[index] === 0) await this.#allocate(index)
      await pacer.pause()
    }
  }

  /** Gives back what did not change over, and retires the spare blocks that could not be written. */
  async end(): Promise<void> {
    const { blocks, placement } = this.#parts
    const left: SlotNumber[] = []
    for (const taken of this.#slots) if (taken !== 0) left.push(slotNumber(taken - 1))
    blocks.release(left)
    this.#slots.fill(0)
    await placement.retireLater(this.#failed)
  }

  async copy({ blocks, index }: Part): Promise<void> {
    const { blockSize } = this.#parts.blocks
    const last = blocks.size - 1
    const content = Buffer.allocUnsafe(last * blockSize + this.#lengthOf(blocks.end - 1, 1))
    for (const { start, end, index: n } of blocks.pieces()) {
      const room = content.subarray(n * blockSize, (n + end - start) * blockSize)
      await this.#readMain(mainBlock(start), end - start, index + n, room)
    }
    for (let n = 0; n <= last;) {
      let next = n + 1
      while (next <= last && this.#slots[index + next] === (this.#slots[index + next - 1] ?? 0) + 1) next++
      await this.#writeRun(index + n, content.subarray(n * blockSize, next * blockSize))
      n = next
    }
  }

  async settle(): Promise<void> {
    await this.#parts.blocks.flush()
  }

  /**
   * What somebody else has remapped meanwhile stays there. So does a block with sectors that were to be lost, and of which
   * something was written: the written sectors are not lost any more, and nobody knows which they are.
   */
  async changeOver({ from, to, wasWritten }: Window): Promise<void> {
    const { table, placement, blocks, changing } = this.#parts
    const remaps: NewRemap[] = []
    const pacer = new Pacer()
    for (let index = from; index < to; index++) {
      await pacer.pause()
      const block = mainBlock(this.#blocks.at(index))
      const lost = this.#batch.lostIn(block)
      if (table.lookup(block) !== undefined || (lost !== 0n && wasWritten(index))) continue
      const slot = slotNumber((this.#slots[index] ?? 0) - 1)
      remaps.push({ block, content: undefined, lostMask: this.#lostMasks.get(index) ?? lost, reason: 'operator', slot })
    }
    for (const { block } of remaps) changing?.mark(block * blocks.blockSize, this.#lengthOf(block, 1))
    try {
      await placement.place(remaps, this.#isQuiet)
    } catch (error) {
      for (let index = from; index < to; index++) if (this.#isInForce(index)) this.added++
      // What was not made durable was given back already; given back twice, it could be somebody else's by then.
      this.#slots.fill(0, from, to)
      throw error
    }
    for (let index = from; index < to; index++) {
      if (this.#isInForce(index)) this.#slots[index] = 0
      else this.skipped++
    }
    this.added += remaps.length
  }

  #isInForce(index: number): boolean {
    return this.#parts.table.lookup(mainBlock(this.#blocks.at(index))) === (this.#slots[index] ?? 0) - 1
  }

  // --- Slots -------------------------------------------------------------------------------------------------------

  async #allocate(index: number): Promise<void> {
    const slot = await this.#parts.blocks.allocate()
    if (slot === undefined) throw this.#tooFew()
    this.#slots[index] = slot + 1
  }

  #tooFew(): RemapRequestError {
    const { free } = this.#parts.blocks
    return new RemapRequestError(
      `${this.#slots.length} spare blocks are needed and ${free} are free: add a spare, or remap less`,
    )
  }

  /** Neighbours on the spare. A spare block that cannot be written is replaced, unless the operator chose it. */
  async #writeRun(index: number, content: Buffer): Promise<void> {
    const { blocks } = this.#parts
    try {
      await blocks.write(slotNumber((this.#slots[index] ?? 0) - 1), content)
    } catch (error) {
      if (!isBadBlock(error)) throw error
      const { blockSize } = blocks
      for (let at = 0, n = 0; at < content.length; at += blockSize, n++) {
        await this.#writeBlock(index + n, content.subarray(at, at + blockSize))
      }
    }
  }

  async #writeBlock(index: number, content: Buffer): Promise<void> {
    const { blocks } = this.#parts
    const block = this.#blocks.at(index)
    for (;;) {
      const slot = slotNumber((this.#slots[index] ?? 0) - 1)
      try {
        await blocks.write(slot, content)
        return
      } catch (error) {
        if (!isBadBlock(error)) throw error
        if (this.#batch.slotOf(block) !== undefined) {
          throw this.#batch.errorAt(
            block,
            `spare sector ${blocks.placeOf(slot).sector} cannot be written: ${error.message}`,
          )
        }
        this.#failed.push(slot)
        this.#slots[index] = 0
        await this.#allocate(index)
      }
    }
  }

  // --- Content -----------------------------------------------------------------------------------------------------

  async #readMain(first: MainBlock, count: number, index: number, content: Buffer): Promise<void> {
    const { main, blocks } = this.#parts
    if (!this.#batch.hasLost) {
      try {
        await main.read(first * blocks.blockSize, content)
        for (let n = 0; n < count; n++) this.#lostMasks.delete(index + n)
        return
      } catch (error) {
        if (!isBadBlock(error)) throw error
      }
    }
    for (let n = 0; n < count; n++) {
      const start = this.#lengthOf(first, n)
      const rescued = await this.#rescue(mainBlock(first + n))
      rescued.content.copy(content, start)
      if (rescued.lostMask === 0n) this.#lostMasks.delete(index + n)
      else this.#lostMasks.set(index + n, rescued.lostMask)
    }
  }

  #rescue(block: MainBlock): Promise<Rescued> {
    const { main, blocks, policy } = this.#parts
    const lost = this.#batch.lostIn(block)
    const offset = block * blocks.blockSize
    const length = this.#lengthOf(block, 1)
    return lost === 0n ? rescue(main, offset, length, policy) : rescueAround(main, offset, length, lost)
  }

  /** Bytes of so many blocks from `first` on: the last one of the disk may be short. */
  #lengthOf(first: number, count: number): number {
    const { main, blocks } = this.#parts
    return Math.min(main.size, (first + count) * blocks.blockSize) - first * blocks.blockSize
  }
}
