/**
 * Moves everything that a spare holds to the other ones, while clients go on, so that it can leave the pool. A block is
 * locked, read, committed in its new slot, which is newer, and only then its old slot is freed: cut off anywhere, every
 * block has its content in the newest of its slots, and the spare is a member like before.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { DeviceError } from '../device/device.js'
import type { Member, SparePool } from '../spare/pool.js'
import { assert } from '../util/assert.js'
import { RefusedError } from '../util/errors.js'
import { RangeSet } from '../util/range-set.js'
import { slotNumber, type SlotNumber } from '../util/units.js'
import { InDoubtError, SpareExhaustedError, type NewRemap } from './placement.js'
import type { ReadPolicy } from './policy.js'
import { rescue } from './rescue.js'
import type { RemapTarget } from './target.js'

/** Blocks that are locked, moved and made durable together. */
const STEP_BLOCKS = 64
/** Slots looked at before others have their turn. */
const SLOTS_PER_TURN = 50_000

/** The spare cannot leave the pool, or not now. It is a member like before. */
export class DrainError extends Error {
  override name = 'DrainError'
}

export class Drain {
  readonly member: Member
  /** Blocks that the spare held when it began. */
  readonly total: number
  readonly #target: RemapTarget
  readonly #policy: ReadPolicy
  #moved = 0
  #isCancelled = false

  /** From now on the spare takes no new blocks. @throws RefusedError when the others have no room for it */
  constructor(target: RemapTarget, member: Member, policy: ReadPolicy) {
    refuseImpossible(target.pool, member)
    this.#target = target
    this.#policy = policy
    this.member = member
    this.total = member.spare.counts.remapped
    member.isDraining = true
  }

  get moved(): number {
    return this.#moved
  }

  /** What was moved stays where it is now. */
  cancel(): void {
    this.#isCancelled = true
  }

  /**
   * Resolves when nothing in force is left on the spare, and nobody who has taken a slot there before can use it any more:
   * neither a request that was under way nor an operator.
   * @throws DrainError
   */
  async run(): Promise<void> {
    try {
      await this.#pass()
      const { lock, relocations } = this.#target
      await relocations.settled()
      await lock.settled()
      await this.#pass()
    } catch (error) {
      this.member.isDraining = false
      const known =
        error instanceof SpareExhaustedError || error instanceof InDoubtError || error instanceof DeviceError
      throw known ? new DrainError(error.message, { cause: error }) : error
    }
  }

  async #pass(): Promise<void> {
    const step: SlotNumber[] = []
    const { slots } = this.member.spare
    for (let n = 0; n < slots.initialisedSlots; n++) {
      if (slots.state(slotNumber(n)) === 'remapped') step.push(this.member.global(slotNumber(n)))
      if (step.length === STEP_BLOCKS) await this.#move(step.splice(0))
      if (n % SLOTS_PER_TURN === 0) await turn()
    }
    await this.#move(step)
  }

  async #move(slots: readonly SlotNumber[]): Promise<void> {
    if (this.#isCancelled) throw new DrainError('the removal was cancelled')
    const { pool, lock, placement } = this.#target
    const wanted = slots.map((slot) => ({ slot, block: pool.get(slot).mainBlock })).sort((a, b) => a.block - b.block)
    const blocks = RangeSet.of(...wanted.map(({ block }) => [block, block + 1] as const))
    // All at once: who holds some and waits for others may wait for ever.
    const release = await lock.claim(blocks, 'exclusive')
    try {
      const remaps: NewRemap[] = []
      for (const { slot, block } of wanted) {
        if (this.#target.table.lookup(block) === slot) remaps.push(await this.#remap(slot))
      }
      await placement.place(remaps)
      this.#moved += remaps.length
    } finally {
      release()
    }
  }

  /** Sectors that cannot be read are lost, as anywhere. */
  async #remap(slot: SlotNumber): Promise<NewRemap> {
    const { pool, size } = this.#target
    const { mainBlock: block, lostMask } = pool.get(slot)
    const length = Math.min(pool.blockSize, size - block * pool.blockSize)
    const { member } = this
    const held = await rescue(member.spare.device, member.dataOffset(slot), length, this.#policy)
    return { block, content: [held.content], lostMask: lostMask | held.lostMask, reason: 'spare-removed', frees: slot }
  }
}

function refuseImpossible(pool: SparePool, member: Member): void {
  assert(pool.members.includes(member), `spare ${member.name} is in the pool`)
  if (member.isDraining) throw new RefusedError(`spare ${member.name} is being removed already`)
  const others = pool.members.filter((it) => it !== member && !it.isDraining)
  if (others.length === 0) throw new RefusedError(`spare ${member.name} is the only one: add another one first`)
  const free = others.reduce((sum, { spare }) => sum + spare.free, 0)
  const { remapped } = member.spare.counts
  if (free < remapped) {
    throw new RefusedError(
      `spare ${member.name} holds ${remapped} blocks, and the other spares have ${free} free ones: add another spare first`,
    )
  }
}
