/**
 * Repairs the metadata of a spare that is not being served, as a start does, but shows first what it would do and keeps what
 * it replaces. The order, in which a cut-off leaves what can be repaired again:
 *
 *   1. backup: every byte that is replaced, durable
 *   2. bad copies of slot pages, copy 0; flush; copy 1; flush
 *   3. the headers, one at a time, each flushed
 *   4. slots that contradict others are retired, by a commit like any other
 *
 * A page without an intact copy is not repaired: what it said nobody knows. With `acceptLostPages` it becomes an empty one,
 * and its remaps are gone.
 */
import type { Device } from '../device/device.js'
import { RefusedError } from '../util/errors.js'
import type { Log } from '../util/log.js'
import type { SlotNumber } from '../util/units.js'
import { backUp, type ByteRange } from './backup.js'
import { geometryProblem, type BadCopy } from './choose.js'
import { HEADER_OFFSETS, pageOf, PAGE_SIZE } from './format.js'
import { readHeader } from './header.js'
import { uuidText } from './membership.js'
import type { PageFinding } from './slots.js'
import { Spare } from './spare.js'
import { contradictionsIn, verifySpare } from './verify.js'

export interface RepairPlan {
  readonly spare: string
  readonly uuid: string
  readonly headerCopies: readonly BadCopy[]
  readonly slotPages: readonly PageFinding[]
  /** Slots that stand for what another one stands for, or for nothing. */
  readonly retires: readonly SlotNumber[]
  readonly isIntact: boolean
}

export class SpareRepair {
  readonly plan: RepairPlan
  readonly #spare: Spare

  private constructor(spare: Spare, plan: RepairPlan) {
    this.#spare = spare
    this.plan = plan
  }

  /** Reads all there is; writes nothing. @throws RefusedError when there is nothing that could be believed */
  static async plan(device: Device, log: Log): Promise<SpareRepair> {
    const choice = await readHeader(device)
    if (choice.kind === 'absent')
      throw new RefusedError(`${device.name} carries no nbd-remap header: it is not a spare`)
    if (choice.kind === 'refused')
      throw new RefusedError(
        `spare ${device.name} cannot be repaired: ${choice.reason}; with an export of its metadata, use "nbd-remap import"`,
      )
    const problem = geometryProblem(choice.header.geometry, device.size)
    if (problem) throw new RefusedError(`spare ${device.name} cannot be repaired: ${problem}`)
    const spare = await Spare.load(device, choice, log)
    const { headerCopies, pages } = spare.findings
    const retires = contradictionsIn(spare.slots, spare.header).map(({ number }) => number)
    const isIntact = headerCopies.length + pages.length + retires.length === 0
    const uuid = uuidText(spare.header.uuid)
    return new SpareRepair(spare, { spare: device.name, uuid, headerCopies, slotPages: pages, retires, isIntact })
  }

  get lostPages(): readonly PageFinding[] {
    return this.plan.slotPages.filter(({ lost }) => lost)
  }

  /** @throws RefusedError when there are lost pages */
  refuseIfLost(): void {
    this.#spare.refuseIfLost()
  }

  /** Everything that `apply` writes to, in order. */
  get ranges(): readonly ByteRange[] {
    const { slotTableOffsets } = this.#spare.geometry
    const places = new Set<number>(HEADER_OFFSETS)
    for (const { page, bad } of this.plan.slotPages) {
      for (const { copy } of bad) places.add((slotTableOffsets[copy] ?? 0) + page * PAGE_SIZE)
    }
    for (const slot of this.plan.retires) {
      for (const table of slotTableOffsets) places.add(table + pageOf(slot) * PAGE_SIZE)
    }
    return [...places].sort((a, b) => a - b).map((offset) => ({ offset, length: PAGE_SIZE }))
  }

  /** Keeps what `apply` replaces, in a new file. @throws MetadataFileError */
  backUp(path: string): Promise<void> {
    const { uuid, sequence } = this.#spare.header
    return backUp(path, this.#spare.device, { uuid, headerSequence: sequence }, this.ranges)
  }

  /**
   * @returns what is wrong afterwards, a sentence for each thing: copies that cannot be written
   * @throws RefusedError when there are lost pages that are not accepted: nothing was written; DeviceError
   */
  async apply({ acceptLostPages = false }: { readonly acceptLostPages?: boolean } = {}): Promise<readonly string[]> {
    const { slots, device } = this.#spare
    const lost = this.lostPages
    if (lost.length > 0 && !acceptLostPages) this.#spare.refuseIfLost()
    await slots.abandon(
      lost.map(({ page }) => page),
      this.#spare.header.notes.slotTable?.sequenceSum ?? 0,
    )
    await slots.repair(this.plan.slotPages.map((finding) => ({ ...finding, lost: false })))
    await this.#spare.update({})
    await this.#retire()
    const { problems } = await verifySpare(device)
    return problems
  }

  async #retire(): Promise<void> {
    const { slots } = this.#spare
    const updates = this.plan.retires.map((number) => {
      const slot = slots.get(number)
      return { number, slot: { ...slot, state: 'retired' as const, lostMask: 0n } }
    })
    if (updates.length > 0) await this.#spare.commit(updates)
  }
}
