/** A main disk and a spare in memory, formatted for each other, with a fault injector on each. */
import type { Completion, Device } from '../../src/device/device.js'
import { FaultyDevice, type FaultRule } from './faulty-device.js'
import { MemoryDevice } from '../../src/device/memory.js'
import type { OpenedDisk } from '../../src/device/open.js'
import type { RemapEventSink } from '../../src/remap/events.js'
import { formatPair, Pair } from '../../src/remap/pair.js'
import type { ReadPolicy } from '../../src/remap/policy.js'
import type { Replica } from '../../src/remap/replica.js'
import type { RemapTarget } from '../../src/remap/target.js'
import type { Spare } from '../../src/spare/spare.js'
import { silentLog } from '../../src/util/log.js'
import { mainBlock, MiB, SECTOR_SIZE } from '../../src/util/units.js'

export const POLICY: ReadPolicy = { retries: 1, retryPauseMs: 0, onReadError: 'eio' }

export const asDisk = (device: Device, id: string): OpenedDisk => ({
  device,
  identity: { id: `memory:${id}`, location: `/disks/${id}` },
  sameness: `memory:${id}`,
})

export interface RigOptions {
  readonly blockSize?: number
  readonly mainSize?: number
  readonly spareSize?: number
  readonly policy?: Partial<ReadPolicy>
  readonly replica?: Replica
}

export interface Rig {
  readonly main: FaultyDevice
  readonly spare: FaultyDevice
  readonly mainBytes: Buffer
  readonly spareBytes: Buffer
  readonly events: [string, Record<string, unknown>][]
  readonly pair: Pair
  readonly target: RemapTarget
  /** Opens the pair again over the same bytes, as after a SIGKILL. The faults stay. */
  readonly reopen: (replica?: Replica) => Promise<Rig>
}

/** Byte n of the main disk of a new rig. Sectors differ, and none is all zeros. */
export const patternAt = (n: number): number => ((n >> 9) * 7 + n) % 251 || 1

export function pattern(offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length)
  for (let n = 0; n < length; n++) bytes[n] = patternAt(offset + n)
  return bytes
}

export async function createRig(options: RigOptions = {}): Promise<Rig> {
  const mainMemory = new MemoryDevice(options.mainSize ?? 64 * 4096, 'main')
  const spareMemory = new MemoryDevice(options.spareSize ?? 9 * MiB, 'spare')
  pattern(0, mainMemory.size).copy(mainMemory.bytes)
  const disks = { main: asDisk(mainMemory, 'main'), spares: [asDisk(spareMemory, 'spare')] }
  await formatPair(disks, { blockSize: options.blockSize ?? 4096, force: false, log: silentLog })
  return openRig(mainMemory, spareMemory, { ...POLICY, ...options.policy }, [], [], options.replica)
}

async function openRig(
  mainMemory: MemoryDevice,
  spareMemory: MemoryDevice,
  policy: ReadPolicy,
  mainRules: readonly FaultRule[],
  spareRules: readonly FaultRule[],
  replica: Replica | undefined,
): Promise<Rig> {
  const main = new FaultyDevice(mainMemory)
  const spare = new FaultyDevice(spareMemory)
  main.add(...mainRules)
  spare.add(...spareRules)
  const events: Rig['events'] = []
  const emit: RemapEventSink = (name, data) => {
    events.push([name, { ...data }])
  }
  const disks = { main: asDisk(main, 'main'), spares: [asDisk(spare, 'spare')] }
  const pair = await Pair.open(disks, { policy, replica, acceptMain: false, emit, log: silentLog })
  const reopen = (copy?: Replica): Promise<Rig> =>
    openRig(mainMemory, spareMemory, policy, main.rules, spare.rules, copy)
  const { target } = pair
  return { main, spare, mainBytes: mainMemory.bytes, spareBytes: spareMemory.bytes, events, pair, target, reopen }
}

/** The remapper over two new disks, formatted, whose events nobody hears. */
export async function openTarget(main: Device, spare: Device, blockSize: number): Promise<RemapTarget> {
  const disks = { main: asDisk(main, 'main'), spares: [asDisk(spare, 'spare')] }
  await formatPair(disks, { blockSize, force: false, log: silentLog })
  const { target } = await Pair.open(disks, {
    policy: POLICY,
    acceptMain: false,
    emit: () => undefined,
    log: silentLog,
  })
  return target
}

/** Makes sectors [first, first + count) of a disk fail. */
export const badSectors = (
  operations: FaultRule['operations'],
  first: number,
  count = 1,
  more: Partial<FaultRule> = {},
): FaultRule => ({
  operations,
  start: first * SECTOR_SIZE,
  end: (first + count) * SECTOR_SIZE,
  code: 'EIO',
  ...more,
})

/** Of a pair that has one. */
export function onlySpare({ pool }: RemapTarget): Spare {
  const [member, ...others] = pool.members
  if (!member || others.length > 0) throw new Error(`there are ${pool.members.length} spares`)
  return member.spare
}

/** The byte offset on the spare of a remapped block; `undefined`: it is not remapped. */
export function spareOffsetOf(target: RemapTarget, block: number): number | undefined {
  const slot = target.table.lookup(mainBlock(block))
  return slot === undefined ? undefined : target.pool.memberOf(slot).dataOffset(slot)
}

/** What a request came to, whether it was done at once or later. */
export async function answer(request: () => Completion): Promise<void> {
  await request()
}

export async function readFrom(device: Device, offset: number, length: number): Promise<Buffer> {
  const into = Buffer.alloc(length, 0xee)
  await device.read(offset, into)
  return into
}
