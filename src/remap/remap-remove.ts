/**
 * Moves many blocks back to the main disk at an operator's wish. Durability order, which keeps what was acknowledged
 * (promise P1) whenever the power is cut:
 *
 *   1. the content is written to main, where nobody sees it yet, and read again
 *   2. main is flushed
 *   3. the slots are freed, durably; until then they say that the spare has the content, and it has
 *
 * A main block that cannot be written, or reads as something else, keeps its remap: then none is moved, or all but those.
 */
import type { Device } from '../device/device.js'
import { Pacer } from '../util/pacer.js'
import { RangeSet } from '../util/range-set.js'
import { mainBlock, type MainBlock, type SlotNumber } from '../util/units.js'
import type { RemapRequestError } from './batch.js'
import { isBadBlock, type DataBlocks } from './data-blocks.js'
import type { OldRemap, Placement } from './placement.js'
import type { Mover, Part, Window } from './relocation.js'
import type { RemapTable } from './table.js'

export interface RemovingParts {
  readonly main: Device
  readonly blocks: DataBlocks
  readonly table: RemapTable
  readonly placement: Placement
}

export interface RemovingOptions {
  readonly blocks: RangeSet
  /** Keep the remap of a block that cannot be moved back, and go on; else it fails them all. */
  readonly keepsBad: boolean
  /** The ranges are so many that nobody wants an event for each. */
  readonly isQuiet: boolean
  /** Makes an error about a block. */
  readonly errorAt: (block: number, message: string) => RemapRequestError
}

export class Removing implements Mover {
  readonly #parts: RemovingParts
  readonly #options: RemovingOptions
  /** Indices of blocks that cannot be moved back. */
  readonly #bad = new Set<number>()
  removed = 0

  constructor(parts: RemovingParts, options: RemovingOptions) {
    this.#parts = parts
    this.#options = options
  }

  /** Blocks that keep their remap. */
  get kept(): number {
    return this.#options.blocks.size - this.removed
  }

  async copy({ blocks, index }: Part): Promise<void> {
    for (const { start, end, index: n } of blocks.pieces()) await this.#copyRange(start, end - start, index + n)
  }

  /** Neighbours on main. */
  async #copyRange(first: number, count: number, index: number): Promise<void> {
    for (let n = 0; n < count;) {
      const run = this.#runOn(first + n, count - n)
      if (run === 0) {
        n++
        continue
      }
      const problem = await this.#copyRun(mainBlock(first + n), run)
      if (problem === undefined) for (let done = 0; done < run; done++) this.#bad.delete(index + n + done)
      else await this.#copyEach(first + n, run, index + n)
      n += run
    }
  }

  async settle(): Promise<void> {
    await this.#parts.main.flush()
  }

  async changeOver({ from, to }: Window): Promise<void> {
    const { table, placement, blocks } = this.#parts
    const leaving: OldRemap[] = []
    const pacer = new Pacer()
    for (let index = from; index < to; index++) {
      await pacer.pause()
      const block = mainBlock(this.#options.blocks.at(index))
      const slot = table.lookup(block)
      if (slot === undefined || this.#bad.has(index)) continue
      if (blocks.hasLost(slot)) this.#refuse(block, index, LOST)
      else if (placement.haunted.has(block)) this.#refuse(block, index, HAUNTED)
      else leaving.push({ block, slot })
    }
    const isGone = ({ block }: OldRemap): boolean => table.lookup(block) === undefined && !placement.inDoubt.has(block)
    try {
      await placement.remove(leaving, this.#options.isQuiet)
    } finally {
      this.removed += leaving.filter(isGone).length
    }
  }

  /** How many blocks from `first` on, `count` at most, are neighbours on the spare, too; 0: the first is not remapped. */
  #runOn(first: number, count: number): number {
    const { table } = this.#parts
    const slot = table.lookup(mainBlock(first))
    if (slot === undefined) return 0
    let run = 1
    while (run < count && table.lookup(mainBlock(first + run)) === slot + run) run++
    return run
  }

  async #copyEach(first: number, count: number, index: number): Promise<void> {
    for (let n = 0; n < count; n++) {
      const problem = await this.#copyRun(mainBlock(first + n), 1)
      if (problem === undefined) this.#bad.delete(index + n)
      else this.#refuse(first + n, index + n, problem)
    }
  }

  #refuse(block: number, index: number, problem: string): void {
    if (!this.#options.keepsBad) throw this.#options.errorAt(block, problem)
    this.#bad.add(index)
  }

  /** @returns what is wrong; `undefined`: main has the content, but it is not durable yet. @throws DeviceError */
  async #copyRun(first: MainBlock, count: number): Promise<string | undefined> {
    const { main, blocks, table } = this.#parts
    const slot = table.lookup(first)
    if (slot === undefined) return undefined
    for (let n = 0; n < count; n++) if (blocks.hasLost((slot + n) as SlotNumber)) return LOST
    const offset = first * blocks.blockSize
    const content = Buffer.allocUnsafe(Math.min(main.size, offset + count * blocks.blockSize) - offset)
    const seen = Buffer.allocUnsafe(content.length)
    let step = 'the spare cannot be read'
    try {
      await blocks.read(slot, content)
      step = 'the main disk still cannot be written there'
      await main.write(offset, [content])
      step = 'the main disk still cannot be read there'
      await main.read(offset, seen)
    } catch (error) {
      if (!isBadBlock(error)) throw error
      return `${step} (${error.code}): the remap stays`
    }
    return seen.equals(content)
      ? undefined
      : 'the main disk reads something else than was written there: the remap stays'
  }
}

/** Its older slot would be in force again after the next start. */
const HAUNTED = 'an older copy of it on a spare could not be marked as such: the remap stays'
const LOST = 'some of its sectors are lost: write them first, or the main disk would read as if they were not'
