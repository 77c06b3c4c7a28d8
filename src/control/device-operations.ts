/**
 * The data plane's side of what device-mapper's users ask for: hold all requests, put ranges exactly here or there, look at
 * a sector. Arguments have been checked in the control thread.
 */
import { DeviceError } from '../device/device.js'
import { QmpReplyError } from '../qmp/error.js'
import type { JsonObject } from '../qmp/message.js'
import { batchOf } from '../remap/admin.js'
import { RemapRequestError } from '../remap/batch.js'
import { isBadBlock } from '../remap/data-blocks.js'
import type { Pair } from '../remap/pair.js'
import type { ReadPolicy } from '../remap/policy.js'
import { arrange, type Arranged } from '../remap/rearrange.js'
import type { RemapTarget } from '../remap/target.js'
import { mainBlock, SECTOR_SIZE, type SlotNumber } from '../util/units.js'

export interface DeviceSubject {
  readonly pair: Pair
  readonly policy: ReadPolicy
}

/** Whole blocks, in sectors. */
export interface PlaceArguments {
  readonly 'main-sector': number
  readonly 'spare-sector': number
  readonly sectors: number
}

export interface RangeArguments {
  readonly 'main-sector': number
  readonly sectors: number
}

/** What a client would get that reads the range now. */
export interface CheckedSectors {
  readonly readable: boolean
  readonly 'bad-sector'?: number
  readonly error?: string
}

/** Where a sector is served from, and whether it can be read there. */
export interface SectorState {
  readonly spare?: string
  readonly 'spare-sector'?: number
  readonly lost: boolean
  readonly readable: boolean
}

type Operation = (args: JsonObject) => unknown

export function deviceOperations({ pair, policy }: DeviceSubject): [string, Operation][] {
  const { target } = pair
  return [
    ['suspend', () => target.suspension.suspend()],
    ['resume', () => target.suspension.resume()],
    ['flush', () => (target.suspension.isSuspended ? undefined : target.flush())],
    ['remap-place', (args) => place(target, policy, args as unknown as PlaceArguments)],
    ['check-sectors', (args) => check(target, args as unknown as RangeArguments)],
    ['examine-sector', (args) => examine(target, (args as { sector: number }).sector)],
  ]
}

/** What moves data would wait until it is resumed, and its asker with it. @throws QmpReplyError */
export function refuseSuspended({ suspension }: RemapTarget): void {
  if (suspension.isSuspended) throw new QmpReplyError('the device is suspended: resume it first')
}

async function place(target: RemapTarget, policy: ReadPolicy, args: PlaceArguments): Promise<Arranged> {
  if (target.readOnly) throw new QmpReplyError('the device is read-only')
  refuseSuspended(target)
  const range = { mainSector: args['main-sector'], spareSector: args['spare-sector'], sectors: args.sectors }
  try {
    return await arrange(target, batchOf(target, range), policy)
  } catch (error) {
    if (error instanceof RemapRequestError) throw new QmpReplyError(error.message)
    throw error
  }
}

const CHECK_BYTES = 1024 * 1024

/** As a client's read it may repair on its way what can be repaired. */
async function check(target: RemapTarget, args: RangeArguments): Promise<CheckedSectors> {
  refuseSuspended(target)
  const start = args['main-sector'] * SECTOR_SIZE
  if (start >= target.size) throw new QmpReplyError(`sector ${args['main-sector']} leaves the device`)
  const end = Math.min(start + args.sectors * SECTOR_SIZE, target.size)
  const buffer = Buffer.alloc(Math.min(CHECK_BYTES, end - start))
  try {
    for (let at = start; at < end; at += CHECK_BYTES)
      await target.read(at, buffer.subarray(0, Math.min(CHECK_BYTES, end - at)))
    return { readable: true }
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error
    return { readable: false, 'bad-sector': Math.floor(error.offset / SECTOR_SIZE), error: error.code }
  }
}

async function examine(target: RemapTarget, sector: number): Promise<SectorState> {
  refuseSuspended(target)
  const offset = sector * SECTOR_SIZE
  if (offset >= target.size) {
    throw new QmpReplyError(`sector ${sector} leaves the device, which has ${Math.ceil(target.size / SECTOR_SIZE)}`)
  }
  const slot = target.table.lookup(mainBlock(Math.floor(offset / target.blocks.blockSize)))
  const into = Buffer.alloc(Math.min(SECTOR_SIZE, target.size - offset))
  const isLost = slot !== undefined && isSectorLost(target, slot, sector)
  const readable = !isLost && (await canRead(target, slot, offset, into))
  return { lost: isLost, readable, ...(slot !== undefined && placeIn(target, slot, sector)) }
}

/** A block with lost sectors is not examined in one piece, but its other sectors are read. */
async function canRead(
  target: RemapTarget,
  slot: SlotNumber | undefined,
  offset: number,
  into: Buffer,
): Promise<boolean> {
  if (slot === undefined || !target.blocks.hasLost(slot)) return target.examine(offset, into)
  try {
    await target.read(offset, into)
    return true
  } catch (error) {
    if (isBadBlock(error)) return false
    throw error
  }
}

function placeIn({ blocks }: RemapTarget, slot: SlotNumber, sector: number): { spare: string; 'spare-sector': number } {
  const { spare, sector: start } = blocks.placeOf(slot)
  return { spare, 'spare-sector': start + (sector % (blocks.blockSize / SECTOR_SIZE)) }
}

const isSectorLost = ({ blocks }: RemapTarget, slot: SlotNumber, sector: number): boolean =>
  (blocks.lostMask(slot) >> BigInt(sector % (blocks.blockSize / SECTOR_SIZE))) % 2n === 1n
