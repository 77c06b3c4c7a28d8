/**
 * Gives blocks a new place on the spare. Durability order (promise P4), which nothing here may change:
 *
 *   0. the spare is still ours: where this server sees a free block, another one may have put something
 *   1. the content is written to a free spare block
 *   2. `Spare.commit`: spare data flushed, then the slot written and flushed in each copy
 *   3. the table is told; from now on requests go to the spare
 *   4. the caller answers the client
 *
 * The caller holds the range lock of the blocks exclusively. A spare block that cannot be written is retired and
 * another one is taken; a spare whose metadata cannot be written, or which does not answer, is left for another one.
 */
import { DeviceError } from '../device/device.js'
import type { Slot } from '../spare/format.js'
import type { CommitFailure, Member, SparePool } from '../spare/pool.js'
import type { SlotUpdate } from '../spare/slots.js'
import type { Log } from '../util/log.js'
import { Pacer } from '../util/pacer.js'
import { mainBlock, SECTOR_SIZE, type MainBlock, type SlotNumber } from '../util/units.js'
import type { RemapEvents, RemapEventSink } from './events.js'
import { judge } from './policy.js'
import { countSectors } from './sector-mask.js'
import type { RemapTable } from './table.js'

export type RemapReason = RemapEvents['REMAP_ADDED']['reason']

export interface NewRemap {
  readonly block: MainBlock
  /** The whole content of the block; `undefined`: the spare block stays as it is (dm-remap's bare remap). */
  readonly content: readonly Buffer[] | undefined
  readonly lostMask: bigint
  readonly reason: RemapReason
  /** This very slot, reserved by the caller; `undefined`: any. */
  readonly slot?: SlotNumber
  /** The slot that held the block until now, to be retired because its spare block fails. */
  readonly retires?: SlotNumber
  /** The slot that held the block until now, to be free again. */
  readonly frees?: SlotNumber
}

/** There is no free spare block left. */
export class SpareExhaustedError extends Error {
  override name = 'SpareExhaustedError'
}

/** The metadata could not be made durable: what the disk says about these blocks is not known until it is reopened. */
export class InDoubtError extends Error {
  override name = 'InDoubtError'
}

/** A remap that is not needed any more. */
export interface OldRemap {
  readonly block: MainBlock
  readonly slot: SlotNumber
}

interface Placed {
  readonly remap: NewRemap
  readonly slot: SlotNumber
}

const RETIRED: Omit<Slot, 'generation'> = { state: 'retired', mainBlock: mainBlock(0), lostMask: 0n }
const FREE: Omit<Slot, 'generation'> = { ...RETIRED, state: 'free' }
/** A spare whose slot table failed so often during one placement is not asked again. */
const DOUBTS_MAX = 2

export interface PlacementOptions {
  readonly pool: SparePool
  readonly table: RemapTable
  /** The next one that no slot has. */
  readonly generation: number
  /** SPARE_LOW is sent when the free blocks fall below this share of all. */
  readonly lowShare: number
  readonly emit: RemapEventSink
  readonly log: Log
}

/** What went wrong so far while some blocks look for a place. */
class Attempt {
  /** Spare blocks that could not be written. */
  readonly badSlots: SlotNumber[] = []
  /** Spares that were ours a moment ago. */
  readonly confirmed = new Set<Member>()
  /** Spares that are not asked any more. */
  readonly avoided = new Set<Member>()
  /** Nobody wants an event for each. */
  readonly isQuiet: boolean
  readonly #doubts = new Map<Member, number>()
  /** Why there is no place, when it is not for want of room. */
  error: Error | undefined

  constructor(isQuiet = false) {
    this.isQuiet = isQuiet
  }

  /** The spare as a whole failed. A disk without space is a full one. */
  avoid(member: Member, error: DeviceError): void {
    member.isSuspect = true
    this.avoided.add(member)
    if (error.code !== 'ENOSPC') this.error ??= error
  }

  doubt(member: Member, error: DeviceError): void {
    const doubts = (this.#doubts.get(member) ?? 0) + 1
    this.#doubts.set(member, doubts)
    if (doubts >= DOUBTS_MAX) this.avoided.add(member)
    this.error = new InDoubtError(`spare ${member.name}: no copy of the slot table can be written`, { cause: error })
  }
}

export class Placement {
  readonly #pool: SparePool
  readonly #table: RemapTable
  /** See `PlacementOptions`. */
  lowShare: number
  readonly #emit: RemapEventSink
  readonly #log: Log
  /**
   * Blocks whose newest slot may or may not be on the disk. Nothing is written to the place that they have in memory,
   * which that slot may hide after the next start: first they move to a fresh slot, which is newer than both.
   */
  readonly inDoubt = new Set<MainBlock>()
  /**
   * Blocks that may have an older slot on some disk, which should be out of use and could not be marked so. It does no
   * harm as long as there is a newer one: such a remap cannot simply be removed.
   */
  readonly haunted = new Set<MainBlock>()
  #generation: number
  #lowReported = false
  #exhaustedReported = false

  constructor({ pool, table, generation, lowShare, emit, log }: PlacementOptions) {
    this.#pool = pool
    this.#table = table
    this.#generation = generation
    this.lowShare = lowShare
    this.#emit = emit
    this.#log = log
  }

  /**
   * Places all of `remaps`, sharing flushes and slot pages. Where a spare fails, another place is looked for on it and
   * on the others. When it throws, those for which a place was found and made durable are in force all the same.
   * @param isQuiet nobody wants an event for each
   * @throws SpareExhaustedError, InDoubtError; DeviceError when nothing was committed because no spare answers
   */
  async place(remaps: readonly NewRemap[], isQuiet = false): Promise<void> {
    const attempt = new Attempt(isQuiet)
    try {
      for (let left = remaps; left.length > 0;) left = await this.#placeSome(left, attempt)
    } finally {
      await this.#outOfUse(attempt.badSlots.map((slot) => ({ slot, state: RETIRED })))
    }
  }

  /** @returns those that need another place */
  async #placeSome(remaps: readonly NewRemap[], attempt: Attempt): Promise<NewRemap[]> {
    attempt.confirmed.clear()
    const placed: Placed[] = []
    const pacer = new Pacer()
    try {
      for (const remap of remaps) {
        placed.push({ remap, slot: await this.#writeContent(remap, attempt) })
        await pacer.pause()
      }
    } catch (error) {
      this.#pool.release(placed.map(({ slot }) => slot))
      throw error
    }
    const failures = await this.#pool.commit(
      placed.map(({ remap, slot }) => ({ number: slot, slot: this.#remappedSlot(remap) })),
    )
    const failed = new Set(failures.flatMap(({ updates }) => updates.map(({ number }) => number)))
    await this.#inForce(
      placed.filter(({ slot }) => !failed.has(slot)),
      attempt,
    )
    for (const failure of failures) this.#note(failure, attempt)
    const left = placed.filter(({ slot }) => failed.has(slot)).map(({ remap }) => remap)
    if (failures[0] && left.some(({ slot }) => slot !== undefined)) throw attempt.error ?? failures[0].error
    return left
  }

  async #inForce(placed: readonly Placed[], { isQuiet }: Attempt): Promise<void> {
    const pacer = new Pacer()
    for (const { remap, slot } of placed) {
      this.#table.set(remap.block, slot)
      this.inDoubt.delete(remap.block)
      await pacer.pause()
    }
    if (!isQuiet) for (const run of joinNeighbours(placed)) this.#emitAdded(run)
    if (placed.length > 0) this.reportLevel()
    await this.#outOfUse(
      placed.flatMap(({ remap: { block, retires, frees } }) => [
        ...(retires === undefined ? [] : [{ slot: retires, state: RETIRED, block }]),
        ...(frees === undefined ? [] : [{ slot: frees, state: FREE, block }]),
      ]),
    )
  }

  #note({ member, updates, error, isInDoubt }: CommitFailure, attempt: Attempt): void {
    this.#log.error(`spare ${member.name}: ${updates.length} slot(s) cannot be committed: ${error.message}`)
    if (!isInDoubt) {
      this.#pool.release(updates.map(({ number }) => number))
      attempt.avoid(member, error)
      return
    }
    for (const { slot } of updates) this.#doubtful(slot)
    attempt.doubt(member, error)
  }

  #doubtful({ state, mainBlock: block }: Slot): void {
    if (state !== 'remapped') return
    this.inDoubt.add(block)
    this.haunted.add(block)
  }

  /** Retires reserved slots that could not be written. */
  retireLater(slots: readonly SlotNumber[]): Promise<void> {
    return this.#outOfUse(slots.map((slot) => ({ slot, state: RETIRED })))
  }

  /**
   * Frees the slots of blocks that main has again, durably there. The table is told first: a record that is free stands
   * for no block. The caller holds the blocks, so nobody asks meanwhile. Where it fails, the blocks are in force as before,
   * or in doubt: then main is right until something is written.
   * @throws InDoubtError, DeviceError
   */
  async remove(remaps: readonly OldRemap[], isQuiet = false): Promise<void> {
    if (remaps.length === 0) return
    const pacer = new Pacer()
    for (const { block } of remaps) {
      this.#table.delete(block)
      await pacer.pause()
    }
    const failures = await this.#pool.commit(
      remaps.map(({ slot }) => ({ number: slot, slot: { ...FREE, generation: this.#generation++ } })),
    )
    const failed = new Set<SlotNumber>()
    for (const { updates, isInDoubt } of failures) {
      for (const { number } of updates) failed.add(number)
      const blocks = new Map(remaps.map(({ slot, block }) => [slot, block]))
      for (const { number } of updates) this.#notRemoved(blocks.get(number), number, isInDoubt)
    }
    if (!isQuiet) this.#emitRemoved(remaps.filter(({ slot }) => !failed.has(slot)))
    this.reportLevel()
    const [failure] = failures
    if (failure) throw failure.error
  }

  #notRemoved(block: MainBlock | undefined, slot: SlotNumber, isInDoubt: boolean): void {
    if (block === undefined) return
    if (!isInDoubt) this.#table.set(block, slot)
    else {
      this.inDoubt.add(block)
      this.haunted.add(block)
    }
  }

  #emitRemoved(remaps: readonly OldRemap[]): void {
    const sectors = this.#pool.blockSize / SECTOR_SIZE
    for (const { first, count } of joinRemoved(remaps)) {
      const member = this.#pool.memberOf(first.slot)
      this.#emit('REMAP_REMOVED', {
        'main-sector': first.block * sectors,
        spare: member.name,
        'spare-sector': member.local(first.slot) * sectors,
        sectors: count * sectors,
      })
    }
  }

  /** Changes the lost mask of a slot in use, durably. @throws InDoubtError, DeviceError */
  async setLostMask(number: SlotNumber, lostMask: bigint): Promise<void> {
    const slot = { ...this.#pool.get(number), lostMask, generation: this.#generation++ }
    await this.#commit([{ number, slot }])
  }

  async #writeContent(remap: NewRemap, attempt: Attempt): Promise<SlotNumber> {
    for (;;) {
      const slot = remap.slot ?? (await this.#pool.allocate(attempt.avoided))
      if (slot === undefined) throw attempt.error ?? this.#exhausted()
      if (!remap.content) return slot
      const member = this.#pool.memberOf(slot)
      try {
        if (!attempt.confirmed.has(member)) await member.spare.confirmOwner()
        attempt.confirmed.add(member)
        // The commit flushes it.
        await member.spare.device.write(member.dataOffset(slot), remap.content)
        return slot
      } catch (error) {
        if (error instanceof DeviceError && judge(error) === 'bad-block' && remap.slot === undefined) {
          this.#log.warn(
            `spare ${member.name}: block ${member.local(slot)} cannot be written and is retired: ${error.message}`,
          )
          attempt.badSlots.push(slot)
          continue
        }
        this.#pool.release([slot])
        if (!(error instanceof DeviceError) || remap.slot !== undefined) throw error
        this.#log.warn(`spare ${member.name} takes no block: ${error.message}`)
        attempt.avoid(member, error)
      }
    }
  }

  #remappedSlot(remap: NewRemap): Slot {
    const { block, lostMask } = remap
    return { state: 'remapped', mainBlock: block, generation: this.#generation++, lostMask }
  }

  /** @throws InDoubtError, DeviceError; the parts on other spares are durable all the same */
  async #commit(updates: readonly SlotUpdate[]): Promise<void> {
    const attempt = new Attempt()
    const failures = await this.#pool.commit(updates)
    for (const failure of failures) this.#note(failure, attempt)
    if (failures[0]) throw attempt.error ?? failures[0].error
  }

  /** Takes these slots out of use, durably. @throws InDoubtError, DeviceError */
  async retire(slots: readonly SlotNumber[]): Promise<void> {
    if (slots.length === 0) return
    await this.#commit(slots.map((number) => ({ number, slot: { ...RETIRED, generation: this.#generation++ } })))
  }

  /**
   * Takes slots out of use whose content has its new place, durably. In the same commit it would not be safe: of pages
   * that are written together any may be the only one to survive a power cut, and a block whose old slot is gone and
   * whose new one never arrived would read as what main holds. Two slots for one block do no harm, the newer one wins.
   */
  async #outOfUse(slots: readonly OldSlot[]): Promise<void> {
    if (slots.length === 0) return
    const updates = slots.map(({ slot, state }) => ({
      number: slot,
      slot: { ...state, generation: this.#generation++ },
    }))
    for (const { member, updates: failed, error } of await this.#pool.commit(updates)) {
      const numbers = new Set(failed.map(({ number }) => number))
      for (const { slot, block } of slots) if (numbers.has(slot) && block !== undefined) this.haunted.add(block)
      this.#log.warn(`spare ${member.name}: ${failed.length} block(s) cannot be marked as out of use: ${error.message}`)
    }
  }

  #emitAdded({ first, blocks }: Run): void {
    const sectors = this.#pool.blockSize / SECTOR_SIZE
    const member = this.#pool.memberOf(first.slot)
    this.#emit('REMAP_ADDED', {
      'main-sector': first.remap.block * sectors,
      spare: member.name,
      'spare-sector': member.local(first.slot) * sectors,
      sectors: blocks * sectors,
      reason: first.remap.reason,
      'lost-sectors': countSectors(first.remap.lostMask),
    })
  }

  #exhausted(): SpareExhaustedError {
    const { total } = this.#pool
    if (!this.#exhaustedReported) this.#emit('SPARE_EXHAUSTED', { 'total-blocks': total })
    this.#exhaustedReported = true
    return new SpareExhaustedError(`no spare block is left (of ${total})`)
  }

  /** To be called when the room has changed: says once when it gets low, and that it was exhausted no longer counts. */
  reportLevel(): void {
    const { free, total } = this.#pool
    const isLow = free < total * this.lowShare
    if (isLow && !this.#lowReported) this.#emit('SPARE_LOW', { 'free-blocks': free, 'total-blocks': total })
    this.#lowReported = isLow
    if (!isLow) this.#exhaustedReported = false
  }
}

/** A slot that is no longer in force; `block`: the one that it stood for. */
interface OldSlot {
  readonly slot: SlotNumber
  readonly state: Omit<Slot, 'generation'>
  readonly block?: MainBlock
}

/** Blocks that are neighbours on main and on the spare, in one event. */
interface Run {
  readonly first: Placed
  blocks: number
}

function joinNeighbours(placed: readonly Placed[]): Run[] {
  const runs: Run[] = []
  for (const next of placed) {
    const run = runs.at(-1)
    if (run && continues(run, next)) run.blocks++
    else runs.push({ first: next, blocks: 1 })
  }
  return runs
}

const continues = ({ first, blocks }: Run, { remap, slot }: Placed): boolean =>
  first.remap.block + blocks === remap.block &&
  first.slot + blocks === slot &&
  first.remap.lostMask === 0n &&
  remap.lostMask === 0n &&
  first.remap.reason === remap.reason

function joinRemoved(remaps: readonly OldRemap[]): { first: OldRemap; count: number }[] {
  const runs: { first: OldRemap; count: number }[] = []
  for (const remap of remaps) {
    const run = runs.at(-1)
    if (run && run.first.block + run.count === remap.block && run.first.slot + run.count === remap.slot) run.count++
    else runs.push({ first: remap, count: 1 })
  }
  return runs
}
