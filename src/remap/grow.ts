/**
 * Gives a spare all the room of its disk, which has grown. Order (growth.ts says why this is possible):
 *
 *   1. the blocks that the larger table is going to take are copied; flush
 *   2. copy 1 of the new table, at the new end; flush
 *   3. the header, which says that copy 0 of the table is not to be believed: the new layout is in force
 *   4. copy 0 of the new table, as a repair that every start would make; then the header
 *
 * Cut off before the first header copy is durable, the spare is what it was; afterwards it has grown.
 */
import type { Device } from '../device/device.js'
import { PAGE_SIZE } from '../spare/format.js'
import { planGrowth, type Growth } from '../spare/growth.js'
import { SlotTable } from '../spare/slots.js'
import { Spare } from '../spare/spare.js'
import { RefusedError } from '../util/errors.js'
import type { Log } from '../util/log.js'
import { slotNumber, type SlotNumber } from '../util/units.js'
import { READ_POLICY_DEFAULT } from './policy.js'
import { rescue } from './rescue.js'

export interface Grown {
  readonly blocksBefore: number
  readonly blocks: number
  readonly movedBlocks: number
  /** Sectors of moved blocks that could not be read, besides those that were lost before. */
  readonly lostSectors: number
}

/**
 * @param onProgress is told how many bytes of how many are written
 * @throws RefusedError when the spare cannot grow, or not now: then nothing was written; DeviceError
 */
export async function growSpare(
  device: Device,
  log: Log,
  onProgress: (done: number, total: number) => void = () => undefined,
): Promise<Grown> {
  const spare = await Spare.open(device, log)
  refuseUnfit(spare)
  const blocksBefore = spare.geometry.slots
  const growth = planFor(spare, device)
  const moved = growth ? await moveOver(spare, growth, log, onProgress) : { movedBlocks: 0, lostSectors: 0 }
  // The rest is what a start does that finds a copy damaged.
  const grown = await Spare.open(device, log)
  if (grown.findings.pages.length > 0 || grown.findings.headerCopies.length > 0) {
    await grown.repairSlots()
    await grown.update({})
  }
  return { blocksBefore, blocks: grown.geometry.slots, ...moved }
}

function refuseUnfit({ device, header }: Spare): void {
  const { standing } = header.notes.pool
  if (!header.clean) {
    throw new RefusedError(
      `spare ${device.name} was not stopped in good order, or is being served: start it with "nbd-remap serve", stop it, and try again`,
    )
  }
  if (standing !== 'member') {
    throw new RefusedError(`spare ${device.name} is no member of its pool: add it with "nbd-remap spare add --force"`)
  }
}

function planFor(spare: Spare, device: Device): Growth | undefined {
  spare.refuseIfLost()
  const used = [...spare.slots.used()].map(({ number, slot }) => ({ number, isRemapped: slot.state === 'remapped' }))
  const { geometry, initialisedPages } = spare.header
  const plan = planGrowth({ geometry, initialisedPages, used }, device.size)
  if (plan && 'sizeMin' in plan) {
    throw new RefusedError(
      `spare ${device.name} has grown by too little: from ${geometry.spareSize} bytes it can grow to ${plan.sizeMin} or more, and it has ${device.size}`,
    )
  }
  return plan
}

async function moveOver(
  spare: Spare,
  growth: Growth,
  log: Log,
  onProgress: (done: number, total: number) => void,
): Promise<Pick<Grown, 'movedBlocks' | 'lostSectors'>> {
  const { device } = spare
  const { geometry, initialisedPages, shift, moves } = growth
  const total = moves.size * geometry.blockSize + initialisedPages * PAGE_SIZE
  let done = 0
  const report = (bytes: number): void => {
    done += bytes
    onProgress(done, total)
  }
  const table = new SlotTable(device, geometry, spare.header.uuid, log)
  table.header = spare.slots.header
  let lostSectors = 0
  for (const { number, slot } of spare.slots.used()) {
    const to = moves.get(number)
    if (number >= shift) table.records.put(slotNumber(number - shift), slot)
    else if (to !== undefined) {
      const lostMask = await copyBlock(spare, number, growth, to)
      lostSectors += countBits(lostMask & ~slot.lostMask)
      table.records.put(to, { ...slot, lostMask: lostMask | slot.lostMask })
      report(geometry.blockSize)
    }
  }
  await device.flush()
  await table.writeAnew(1, initialisedPages, spare.slots.sequenceMax + 1, report)
  await spare.moveTo(geometry, table, initialisedPages)
  return { movedBlocks: moves.size, lostSectors }
}

/** @returns the sectors that cannot be read */
async function copyBlock(spare: Spare, from: SlotNumber, { geometry }: Growth, to: SlotNumber): Promise<bigint> {
  const { device } = spare
  const { content, lostMask } = await rescue(device, spare.dataOffset(from), geometry.blockSize, READ_POLICY_DEFAULT)
  await device.write(geometry.dataOffset + to * geometry.blockSize, [content])
  return lostMask
}

const countBits = (mask: bigint): number => mask.toString(2).replaceAll('0', '').length
