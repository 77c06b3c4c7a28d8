/**
 * Puts ranges exactly where an operator wants them, whatever was remapped before: what is there already stays, what is on main
 * is remapped, and what is elsewhere on the spares moves. A block that moves has its content and its new slot durable before
 * its old slot is freed, as when a spare is drained: cut off anywhere, the newest of its slots has its content.
 */
import { mainBlock, slotNumber, type MainBlock, type SlotNumber } from '../util/units.js'
import { Pacer } from '../util/pacer.js'
import { RangeSet } from '../util/range-set.js'
import { addRemaps, alone, explain } from './admin.js'
import type { RemapBatch } from './batch.js'
import { isBadBlock } from './data-blocks.js'
import type { NewRemap } from './placement.js'
import type { ReadPolicy } from './policy.js'
import { rescue } from './rescue.js'
import type { RemapTarget } from './target.js'

/** Blocks that are locked, moved and made durable together. */
const STEP_BLOCKS = 64

interface Move {
  readonly block: MainBlock
  readonly to: SlotNumber
}

export interface Arranged {
  /** Blocks that were on main. */
  readonly added: number
  /** Blocks that were elsewhere on a spare. */
  readonly moved: number
}

/** @param batch every range of it names its place. @throws RemapRequestError */
export async function arrange(target: RemapTarget, batch: RemapBatch, policy: ReadPolicy): Promise<Arranged> {
  const moving = new Moving(target, batch, policy)
  try {
    await moving.reserve()
    const { blocks } = await addRemaps(target, batch, { copy: true, skipRemapped: true, policy })
    await moving.run()
    return { added: blocks, moved: moving.moved }
  } finally {
    moving.end()
  }
}

class Moving {
  moved = 0
  readonly #target: RemapTarget
  readonly #batch: RemapBatch
  readonly #policy: ReadPolicy
  readonly #moves: Move[] = []
  /** Slots that are ours and hold nothing yet. */
  readonly #reserved = new Set<SlotNumber>()

  constructor(target: RemapTarget, batch: RemapBatch, policy: ReadPolicy) {
    this.#target = target
    this.#batch = batch
    this.#policy = policy
  }

  /** @throws RemapRequestError when a place is taken */
  async reserve(): Promise<void> {
    const { table, blocks } = this.#target
    const pacer = new Pacer()
    for (const { start, end } of this.#batch.blocks.pieces()) {
      for (let n = start; n < end; n = Math.max(n + 1, table.skipUnmapped(mainBlock(n + 1)))) {
        const [block, at, wanted] = [mainBlock(n), table.lookup(mainBlock(n)), this.#batch.slotOf(n)]
        if (at === undefined || wanted === undefined || at === wanted) continue
        const to = slotNumber(wanted)
        if (!(await blocks.reserve(to)))
          throw this.#batch.errorAt(n, `spare sector ${blocks.placeOf(to).sector} is in use`)
        this.#reserved.add(to)
        this.#moves.push({ block, to })
        await pacer.pause()
      }
    }
  }

  /** @throws RemapRequestError that says how many have moved */
  async run(): Promise<void> {
    if (this.#moves.length === 0) return
    const all = RangeSet.of(...this.#moves.map(({ block }) => [block, block + 1] as const))
    await alone(this.#target, this.#batch, all, async () => {
      try {
        for (let n = 0; n < this.#moves.length; n += STEP_BLOCKS) {
          this.#target.relocations.goOn()
          await this.#step(this.#moves.slice(n, n + STEP_BLOCKS))
        }
      } catch (error) {
        throw explain(error, this.moved, 'have moved')
      }
    })
  }

  /** Gives back the places that were not used. */
  end(): void {
    this.#target.blocks.release([...this.#reserved])
    this.#reserved.clear()
  }

  async #step(moves: readonly Move[]): Promise<void> {
    const { lock, placement } = this.#target
    const blocks = RangeSet.of(...moves.map(({ block }) => [block, block + 1] as const))
    const release = await lock.claim(blocks, 'exclusive')
    try {
      const remaps: NewRemap[] = []
      for (const move of moves) remaps.push(...(await this.#copy(move)))
      await this.#target.blocks.flush()
      // What it cannot commit it gives back itself.
      for (const { slot } of remaps) if (slot !== undefined) this.#reserved.delete(slot)
      await placement.place(remaps)
      this.moved += remaps.length
    } finally {
      release()
    }
  }

  /** @returns nothing for a block that has moved back to main meanwhile */
  async #copy({ block, to }: Move): Promise<NewRemap[]> {
    const { pool, table, size } = this.#target
    const from = table.lookup(block)
    if (from === undefined) return []
    const member = pool.memberOf(from)
    const length = Math.min(pool.blockSize, size - block * pool.blockSize)
    const { lostMask } = pool.get(from)
    const held = await rescue(member.spare.device, member.dataOffset(from), length, this.#policy)
    await this.#write(block, to, held.content)
    const lost = lostMask | held.lostMask
    return [{ block, content: undefined, lostMask: lost, reason: 'operator', slot: to, frees: from }]
  }

  /** @throws RemapRequestError for a place that cannot be written, which nobody shall get again */
  async #write(block: MainBlock, to: SlotNumber, content: Buffer): Promise<void> {
    const { blocks, placement } = this.#target
    try {
      await blocks.write(to, content)
    } catch (error) {
      if (!isBadBlock(error)) throw error
      this.#reserved.delete(to)
      await placement.retireLater([to])
      throw this.#batch.errorAt(block, `spare sector ${blocks.placeOf(to).sector} cannot be written: ${error.message}`)
    }
  }
}
