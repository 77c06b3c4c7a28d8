/**
 * Gives blocks a new place on the spare. Durability order (promise P4), which nothing here may change:
 *
 *   1. the content is written to a free spare block
 *   2. `Spare.commit`: spare data flushed, then the slot written and flushed in each copy
 *   3. the table is told; from now on requests go to the spare
 *   4. the caller answers the client
 *
 * The caller holds the range lock of the blocks exclusively. A spare block that cannot be written is retired and
 * another one is taken.
 */
import { DeviceError } from '../device/device.js'
import type { Slot } from '../spare/format.js'
import type { SlotUpdate } from '../spare/slots.js'
import type { Spare } from '../spare/spare.js'
import type { Log } from '../util/log.js'
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
/** SPARE_LOW is sent when the free blocks fall below this share of all. */
const LOW_SHARE = 0.1

export class Placement {
  readonly #spare: Spare
  readonly #table: RemapTable
  readonly #emit: RemapEventSink
  readonly #log: Log
  /**
   * Blocks whose slot may or may not be on the disk. Their data must go nowhere until the spare is opened again: written
   * to main, it would be hidden by a slot that did reach the disk.
   */
  readonly inDoubt = new Set<MainBlock>()
  #generation: number
  #lowReported = false
  #exhaustedReported = false

  constructor(spare: Spare, table: RemapTable, generation: number, emit: RemapEventSink, log: Log) {
    this.#spare = spare
    this.#table = table
    this.#generation = generation
    this.#emit = emit
    this.#log = log
  }

  /**
   * Places all of `remaps`, sharing flushes and slot pages; none of them is in force unless all are durable.
   * @param isQuiet nobody wants an event for each
   * @throws SpareExhaustedError, InDoubtError; DeviceError when nothing was committed because the spare does not answer
   */
  async place(remaps: readonly NewRemap[], isQuiet = false): Promise<void> {
    const placed: Placed[] = []
    const failed: SlotNumber[] = []
    try {
      for (const remap of remaps) placed.push({ remap, slot: await this.#writeContent(remap, failed) })
      await this.#commit(placed)
    } catch (error) {
      this.#spare.release(placed.map(({ slot }) => slot))
      await this.retireLater(failed)
      throw error
    }
    for (const { remap, slot } of placed) this.#table.set(remap.block, slot)
    if (!isQuiet) for (const run of joinNeighbours(placed)) this.#emitAdded(run)
    this.#reportLevel()
    await this.retireLater([...failed, ...placed.flatMap(({ remap }) => remap.retires ?? [])])
  }

  /**
   * Frees the slots of blocks that main has again, durably there. The table is told first: a record that is free stands
   * for no block. The caller holds the blocks, so nobody asks meanwhile.
   * @throws InDoubtError; DeviceError when nothing was committed, and the remaps are in force as before
   */
  async remove(remaps: readonly OldRemap[], isQuiet = false): Promise<void> {
    if (remaps.length === 0) return
    for (const { block } of remaps) this.#table.delete(block)
    try {
      await this.#commitUpdates(
        remaps.map(({ slot }) => ({ number: slot, slot: { ...FREE, generation: this.#generation++ } })),
      )
    } catch (error) {
      if (error instanceof InDoubtError) for (const { block } of remaps) this.inDoubt.add(block)
      else for (const { block, slot } of remaps) this.#table.set(block, slot)
      throw error
    }
    if (!isQuiet) this.#emitRemoved(remaps)
    this.#reportLevel()
  }

  #emitRemoved(remaps: readonly OldRemap[]): void {
    const sectors = this.#spare.blockSize / SECTOR_SIZE
    let run: { first: OldRemap; count: number } | undefined
    const emit = (): void => {
      if (run === undefined) return
      this.#emit('REMAP_REMOVED', {
        'main-sector': run.first.block * sectors,
        'spare-sector': run.first.slot * sectors,
        sectors: run.count * sectors,
      })
    }
    for (const remap of remaps) {
      if (run && run.first.block + run.count === remap.block && run.first.slot + run.count === remap.slot) run.count++
      else {
        emit()
        run = { first: remap, count: 1 }
      }
    }
    emit()
  }

  /** Changes the lost mask of a slot in use, durably. @throws InDoubtError, DeviceError */
  async setLostMask(number: SlotNumber, lostMask: bigint): Promise<void> {
    const slot = { ...this.#spare.slots.get(number), lostMask, generation: this.#generation++ }
    await this.#commitUpdates([{ number, slot }])
  }

  async #writeContent(remap: NewRemap, failed: SlotNumber[]): Promise<SlotNumber> {
    for (;;) {
      const slot = remap.slot ?? (await this.#spare.allocate())
      if (slot === undefined) throw this.#exhausted()
      if (!remap.content) return slot
      try {
        await this.#spare.device.write(this.#spare.dataOffset(slot), remap.content)
        return slot
      } catch (error) {
        if (!(error instanceof DeviceError) || judge(error) !== 'bad-block' || remap.slot !== undefined) {
          this.#spare.release([slot])
          throw error
        }
        this.#log.warn(`spare block ${slot} cannot be written and is retired: ${error.message}`)
        failed.push(slot)
      }
    }
  }

  #commit(placed: readonly Placed[]): Promise<void> {
    return this.#commitUpdates(placed.map(({ remap, slot }) => ({ number: slot, slot: this.#remappedSlot(remap) })))
  }

  #remappedSlot(remap: NewRemap): Slot {
    const { block, lostMask } = remap
    return { state: 'remapped', mainBlock: block, generation: this.#generation++, lostMask }
  }

  async #commitUpdates(updates: readonly SlotUpdate[]): Promise<void> {
    try {
      await this.#spare.commit(updates)
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error
      const { slots } = this.#spare
      const isInDoubt = updates.some(
        ({ number, slot }) => slots.has(number) && slots.get(number).generation === slot.generation,
      )
      if (!isInDoubt) throw error
      for (const { slot } of updates) if (slot.state === 'remapped') this.inDoubt.add(slot.mainBlock)
      throw new InDoubtError(`spare ${this.#spare.device.name}: no copy of the slot table can be written`, {
        cause: error,
      })
    }
  }

  /** Takes these slots out of use, durably. @throws InDoubtError, DeviceError */
  async retire(slots: readonly SlotNumber[]): Promise<void> {
    if (slots.length === 0) return
    await this.#commitUpdates(slots.map((number) => ({ number, slot: { ...RETIRED, generation: this.#generation++ } })))
  }

  /**
   * Retires slots whose content has its new place, durably. In the same commit it would not be safe: of pages that are
   * written together any may be the only one to survive a power cut, and a block whose old slot is gone and whose new
   * one never arrived would read as what main holds. Two slots for one block do no harm, the newer one wins.
   */
  async retireLater(slots: readonly SlotNumber[]): Promise<void> {
    if (slots.length === 0) return
    try {
      await this.retire(slots)
    } catch (error) {
      if (!(error instanceof DeviceError || error instanceof InDoubtError)) throw error
      this.#log.warn(`spare blocks ${slots.join(', ')} fail and are not marked as retired: ${error.message}`)
    }
  }

  #emitAdded({ first, blocks }: Run): void {
    const sectors = this.#spare.blockSize / SECTOR_SIZE
    this.#emit('REMAP_ADDED', {
      'main-sector': first.remap.block * sectors,
      'spare-sector': first.slot * sectors,
      sectors: blocks * sectors,
      reason: first.remap.reason,
      'lost-sectors': countSectors(first.remap.lostMask),
    })
  }

  #exhausted(): SpareExhaustedError {
    const { slots } = this.#spare.geometry
    if (!this.#exhaustedReported) this.#emit('SPARE_EXHAUSTED', { 'total-blocks': slots })
    this.#exhaustedReported = true
    return new SpareExhaustedError(`spare ${this.#spare.device.name} has no free block left (of ${slots})`)
  }

  #reportLevel(): void {
    const { free, geometry } = this.#spare
    const isLow = free < geometry.slots * LOW_SHARE
    if (isLow && !this.#lowReported) this.#emit('SPARE_LOW', { 'free-blocks': free, 'total-blocks': geometry.slots })
    this.#lowReported = isLow
  }
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
