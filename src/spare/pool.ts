/**
 * The spares of one main disk. A slot has one number all over the pool: that of its spare, plus the spare's base. Bases
 * leave a gap of one between spares, so that slots with neighbouring numbers always stand on one disk, side by side.
 *
 * Membership is on every spare (membership.ts decides whom to believe), and changes in this order:
 *
 *   add:     the new spare is formatted as `joining`; the members learn of it one by one; it becomes a `member`; only now
 *            slots are taken from it
 *   remove:  it holds nothing in force any more; the other members learn of it one by one; it becomes `removed`
 *
 * One member that knows is enough: no set of spares without it is accepted, and with it the newer list is in force.
 * For the same reason a change that fails half-way is taken back by a newer list still, and no other change begins before
 * one member has that.
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { DeviceError, type Completion, type Device, type WriteOptions } from '../device/device.js'
import { assert } from '../util/assert.js'
import { messageOf, RefusedError } from '../util/errors.js'
import { lastBytes } from '../util/last-bytes.js'
import type { Log } from '../util/log.js'
import { slotNumber, type SlotNumber } from '../util/units.js'
import {
  encodeHeader,
  poolOfOne,
  POOL_MEMBERS_MAX,
  SLOTS_MAX,
  type CountedNotes,
  type MainIdentity,
  type MainMoves,
  type PoolMember,
  type PoolRecord,
  type Slot,
} from './format.js'
import { changed, movesOf, uuidText } from './membership.js'
import { newOwner } from './ownership.js'
import { SlotRecords } from './slot-records.js'
import type { SlotUpdate } from './slots.js'
import { Spare, type BelievedHeader } from './spare.js'
import type { Pipe } from '../util/pipe.js'

/** Spares that were removed and are remembered. */
const REMOVED_MAX = 4
/** What a header has room for: all locations of members together, in bytes. */
const LOCATIONS_LENGTH_MAX = 1600
const LOCATION_LENGTH_MAX = 512
/** A server that looked just before another took its spares over is given so long to finish what it had begun. */
const LAST_WRITES_MS = 200
const NOBODY = Buffer.alloc(0)
/** Main disks that the pair had before and that are remembered. */
const FORMER_MAX = 4
const NO_MOVES: MainMoves = { count: 0, former: [] }

/** A spare that was found to be a member. */
export interface PoolSpare extends BelievedHeader {
  readonly device: Device
  /** An absolute path or a URI, at which the next start looks for it. */
  readonly location: string
}

/** A spare of the pool. */
export class Member {
  readonly spare: Spare
  readonly location: string
  /** Number of its first slot in the pool. */
  readonly base: number
  /** Its content moves to the others: it takes nothing new. */
  isDraining = false
  /** The last thing that was asked of it as a whole failed: the others are asked first. */
  isSuspect = false
  #isDirty = false
  #flush: Completion

  constructor(spare: Spare, location: string, base: number) {
    this.spare = spare
    this.location = location
    this.base = base
  }

  get name(): string {
    return this.spare.device.name
  }

  get uuid(): string {
    return uuidText(this.spare.header.uuid)
  }

  has(slot: SlotNumber): boolean {
    return slot >= this.base && slot < this.base + this.spare.geometry.slots
  }

  /** The number of the slot on this spare. */
  local(slot: SlotNumber): SlotNumber {
    return slotNumber(slot - this.base)
  }

  /** The number of a slot of this spare in the pool. */
  global(local: SlotNumber): SlotNumber {
    return slotNumber(local + this.base)
  }

  /** Byte offset on its device. */
  dataOffset(slot: SlotNumber): number {
    return this.spare.dataOffset(this.local(slot))
  }

  read(offset: number, into: Buffer): Completion {
    return this.spare.device.read(offset, into)
  }

  write(offset: number, chunks: readonly Buffer[], options?: WriteOptions): Completion {
    this.#isDirty = true
    const pending = this.spare.device.write(offset, chunks, options)
    // A flush that came meanwhile has not seen its end.
    return pending?.finally(() => {
      this.#isDirty = true
    })
  }

  readNow(offset: number, into: Buffer, start: number, length: number): boolean {
    return this.spare.device.readNow?.(offset, into, start, length) ?? false
  }

  writeNow(offset: number, from: Buffer, start: number, length: number): boolean {
    this.#isDirty = true
    return this.spare.device.writeNow?.(offset, from, start, length) ?? false
  }

  writeFromPipe(offset: number, length: number, pipe: Pipe): number {
    this.#isDirty = true
    return this.spare.device.writeFromPipe?.(offset, length, pipe) ?? 0
  }

  /**
   * A caller that finds nothing to flush still waits for the flush under way, which covers its writes.
   * @throws DeviceError never ENOSPC, which would stand for the main disk's lack of space
   */
  async flush(): Promise<void> {
    if (this.#isDirty) {
      this.#isDirty = false
      this.#flush = this.#flushDevice()
    }
    await this.#flush
  }

  async #flushDevice(): Promise<void> {
    try {
      await this.spare.device.flush()
    } catch (error) {
      this.#isDirty = true
      if (!(error instanceof DeviceError) || error.code !== 'ENOSPC') throw error
      throw new DeviceError('EIO', this.name, 'flush', error.offset, error.length, { cause: error })
    }
  }
}

/** What became of the part of a commit that concerns one spare. */
export interface CommitFailure {
  readonly member: Member
  readonly updates: readonly SlotUpdate[]
  readonly error: DeviceError
  /** It may be on the disk all the same. */
  readonly isInDoubt: boolean
}

export class SparePool {
  /** What is known of every slot, under its number in the pool. */
  readonly records = new SlotRecords()
  readonly #log: Log
  #members: readonly Member[] = []
  /** What every update of a header notes of what was counted. */
  counted: () => CountedNotes = () => ({})
  #record: PoolRecord
  /** The list that holds, while some member may know another one. */
  #disputed: PoolRecord | undefined
  /** Drawn when the spares were taken over. */
  #owner: Buffer | undefined
  #tellLost: (spare: string, reason: string) => void = () => undefined
  /** Changes of membership come one after the other. */
  #changing: Promise<void> = Promise.resolve()

  private constructor(record: PoolRecord, log: Log) {
    this.#record = record
    this.#log = log
  }

  /**
   * Reads the slot tables; writes nothing.
   * @param spares the members, in the order of the record
   * @throws RefusedError when one of them cannot be used
   */
  static async open(spares: readonly PoolSpare[], record: PoolRecord, log: Log): Promise<SparePool> {
    const pool = new SparePool(record, log)
    for (const spare of spares) await pool.#admit(spare)
    return pool
  }

  /** What all members of a new pool say. */
  static newRecord(spares: readonly PoolMember[]): PoolRecord {
    const [first] = spares
    assert(first !== undefined, 'a pool has a spare')
    return { ...poolOfOne(first), sequence: 1, ...fitted(spares, []) }
  }

  get members(): readonly Member[] {
    return this.#members
  }

  get record(): PoolRecord {
    return this.#record
  }

  get blockSize(): number {
    return this.#first.spare.blockSize
  }

  get mainSize(): number {
    return this.#knowing.geometry.mainSize
  }

  /** How the pair came to its main disk. */
  get moves(): MainMoves {
    return this.#knowing.header.notes.moves ?? NO_MOVES
  }

  /** A move to another main that was cut off has told some members, and not the others. */
  get #knowing(): Spare {
    const spares = this.#members.map(({ spare }) => spare)
    return spares.reduce((best, spare) => (movesOf(spare.header) > movesOf(best.header) ? spare : best))
  }

  /** What the spares know of their main disk. */
  get main(): MainIdentity {
    return this.#knowing.header.notes.main
  }

  get isClean(): boolean {
    return this.#members.every(({ spare }) => spare.header.clean)
  }

  /** Slots that take new blocks, or would if they were free. */
  get total(): number {
    return sum(this.#taking.map(({ spare }) => spare.geometry.slots))
  }

  /** Free slots that nobody has reserved. */
  get free(): number {
    return sum(this.#taking.map(({ spare }) => spare.free))
  }

  /** Slots that are not free. */
  get used(): number {
    return sum(this.#members.map(({ spare: { counts } }) => counts.remapped + counts.retired))
  }

  get #first(): Member {
    const [first] = this.#members
    assert(first !== undefined, 'the pool has no spare')
    return first
  }

  get #taking(): readonly Member[] {
    return this.#members.filter(({ isDraining }) => !isDraining)
  }

  /** The spare that the slot stands on. This stands in the path of every request to a remapped block. */
  memberOf(slot: SlotNumber): Member {
    for (const member of this.#members) if (member.has(slot)) return member
    assert(false, `slot ${slot} lies outside the pool`)
  }

  /** @param nameOrUuid as the operator named it, its location, or its uuid */
  find(nameOrUuid: string): Member | undefined {
    return this.#members.find(({ name, location, uuid }) => [name, location, uuid].includes(nameOrUuid))
  }

  // --- Slots -------------------------------------------------------------------------------------------------------

  get(slot: SlotNumber): Slot {
    return this.records.get(slot)
  }

  hasLost(slot: SlotNumber): boolean {
    return this.records.hasLost(slot)
  }

  /** All slots that are not free. */
  *usedSlots(): Generator<SlotUpdate> {
    for (const member of this.#members) {
      for (const { number, slot } of member.spare.slots.used()) yield { number: member.global(number), slot }
    }
  }

  /**
   * Reserves a free slot whose page is initialised, on the first spare that has one; spares that are suspect come last.
   * @param avoid spares that are not asked
   * @returns `undefined` when there is none
   */
  async allocate(avoid?: ReadonlySet<Member>): Promise<SlotNumber | undefined> {
    const asked = this.#taking.filter((member) => !avoid?.has(member))
    for (const member of [...asked.filter((it) => !it.isSuspect), ...asked.filter((it) => it.isSuspect)]) {
      const local = await this.#allocateOn(member)
      if (local !== undefined) return member.global(local)
    }
    return undefined
  }

  async #allocateOn(member: Member): Promise<SlotNumber | undefined> {
    try {
      return await member.spare.allocate()
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error
      this.#log.error(`spare ${member.name}: no slot page can be initialised: ${error.message}`)
      member.isSuspect = true
      return undefined
    }
  }

  /** Reserves this very slot. @returns whether it was free. @throws DeviceError */
  async reserve(slot: SlotNumber): Promise<boolean> {
    const member = this.memberOf(slot)
    return !member.isDraining && (await member.spare.reserve(member.local(slot)))
  }

  /** Gives reserved slots back. */
  release(slots: readonly SlotNumber[]): void {
    for (const slot of slots) {
      const member = this.memberOf(slot)
      member.spare.release([member.local(slot)])
    }
  }

  /**
   * Each spare commits its part; the parts that do not fail are durable when it resolves, together with all data written
   * to their spares before the call.
   */
  async commit(updates: readonly SlotUpdate[]): Promise<readonly CommitFailure[]> {
    const outcomes = await Promise.allSettled(
      this.#members.map(async (member) => {
        const part = updates.filter(({ number }) => member.has(number))
        return part.length === 0 ? undefined : await commitOn(member, part)
      }),
    )
    return outcomes.flatMap((outcome) => {
      if (outcome.status === 'rejected') throw outcome.reason
      return outcome.value ?? []
    })
  }

  /** Whether the spare with this slot is still ours: before a block is written that nothing stands in yet. @throws OwnershipLostError */
  confirmOwner(slot: SlotNumber): Promise<void> {
    return this.memberOf(slot).spare.confirmOwner()
  }

  /** Makes everything written to data blocks durable. @throws DeviceError */
  async flush(): Promise<void> {
    const outcomes = await Promise.allSettled(this.#members.map((member) => member.flush()))
    const failed = outcomes.find((outcome) => outcome.status === 'rejected')
    if (failed) throw failed.reason
  }

  // --- Notes ---------------------------------------------------------------------------------------------------------

  /** All members have the same owner epoch. */
  get ownerEpoch(): number {
    return this.#first.spare.header.ownerEpoch
  }

  /** What scrub and replica remember. Every member has it, whichever is the first one at the next start. */
  get healing(): unknown {
    return this.#first.spare.header.notes.healing
  }

  /** What the members knew of the lifetime when they were opened. */
  get lifetimes(): readonly unknown[] {
    return this.#members.map(({ spare }) => spare.header.notes.lifetime)
  }

  /** What is known of the errors of the main disk. */
  get errors(): unknown {
    return this.#knowing.header.notes.errors
  }

  /** Writes down what was counted until now. @throws DeviceError */
  noteCounts(): Promise<void> {
    return this.#oneAtATime(async () => {
      for (const { spare } of this.#members) await spare.update({})
    })
  }

  /** Changes the notes of scrub and replica on all members, durably. @throws DeviceError */
  noteHealing(change: (healing: unknown) => unknown): Promise<void> {
    return this.#oneAtATime(async () => {
      const healing = change(this.healing)
      for (const { spare } of this.#members) await spare.update({ healing })
    })
  }

  // --- Membership --------------------------------------------------------------------------------------------------

  /**
   * Repairs damaged copies and takes ownership of all members, see `membership.ts` for why in this order.
   * @throws RefusedError when a slot page has no intact copy; DeviceError when nothing can be written; OwnershipLostError
   */
  async takeOver(main: MainIdentity): Promise<void> {
    for (const { spare } of this.#members) spare.refuseIfLost()
    for (const { spare } of this.#members) await spare.refuseIfChanged()
    this.#owner = newOwner()
    await this.#raiseEpoch(main, this.#owner)
    await this.examineOwner()
  }

  async #raiseEpoch(main: MainIdentity, owner: Buffer): Promise<void> {
    for (const { spare } of this.#members) await spare.repairSlots()
    const isAlone = this.#members.length === 1
    const newest = Math.max(...this.#members.map(({ spare }) => spare.header.ownerEpoch))
    this.#record = { ...this.#record, opening: !isAlone, standing: 'member', ...this.#locations() }
    for (const { spare } of this.#members) {
      if (spare.header.ownerEpoch < newest) await spare.update({ ownerEpoch: newest, pool: this.#record })
    }
    const { mainSize, moves } = this
    const known = moves.count > 0 ? { mainSize, moves } : {}
    for (const { spare } of this.#members) {
      await spare.update({ ownerEpoch: newest + 1, owner, clean: false, main, ...known, pool: this.#record })
    }
    if (isAlone) return
    this.#record = { ...this.#record, opening: false }
    for (const { spare } of this.#members) await spare.update({ pool: this.#record })
  }

  /**
   * Reads everything anew after `takeOver`. A server that had the spares until then may have gone on writing while they
   * were being read, and has noticed by now that they are not its own any more.
   * @throws RefusedError, OwnershipLostError
   */
  async reread(): Promise<SparePool> {
    await pause(LAST_WRITES_MS)
    const spares: PoolSpare[] = []
    for (const { spare, location } of this.#members)
      spares.push({ ...(await Spare.identify(spare.device)), device: spare.device, location })
    const pool = await SparePool.open(spares, this.#record, this.#log)
    pool.#owner = this.#owner
    for (const { spare } of pool.#members) await spare.adopt(this.#owner ?? NOBODY)
    return pool
  }

  /** @param tell what is called, once for each spare, when another server has taken it over */
  onLost(tell: (spare: string, reason: string) => void): void {
    this.#tellLost = tell
    for (const { spare } of this.#members) this.#watch(spare)
  }

  #watch(spare: Spare): void {
    spare.onLost = (reason) => {
      this.#tellLost(spare.device.name, reason)
    }
  }

  /** Whether all spares are still ours. @throws OwnershipLostError, DeviceError */
  async examineOwner(): Promise<void> {
    for (const { spare } of this.#members) {
      while ((await spare.examineOwner()) === 'contested') await spare.update({})
    }
  }

  /**
   * The pair has another main disk from now on, which has all that was served. One member that knows is enough.
   * @param former `formerName` of the main disk until now
   * @throws DeviceError
   */
  async moveMain(main: MainIdentity, mainSize: number, former: string): Promise<void> {
    const moves = { count: this.moves.count + 1, former: [former, ...this.moves.former].slice(0, FORMER_MAX) }
    for (const { spare } of this.#members) await spare.update({ main, mainSize, moves, moving: null })
  }

  /** What `move-main` remembers, on one member. */
  get moving(): unknown {
    return this.#first.spare.header.notes.moving
  }

  noteMoving(moving: unknown): Promise<void> {
    return this.#first.spare.update({ moving })
  }

  /** Records a clean stop, with what the main looked like. @throws DeviceError */
  async markClean(main: MainIdentity): Promise<void> {
    for (const { spare } of this.#members) await spare.device.flush()
    for (const { spare } of this.#members) await spare.update({ clean: true, main })
  }

  /**
   * Formats `device` and takes it into the pool, durably.
   * @param force overwrite it if it is not blank
   * @throws RefusedError when it cannot be a member, and nothing was written; DeviceError: it is none
   */
  add(device: Device, location: string, force: boolean): Promise<Member> {
    return this.#oneAtATime(async () => {
      await this.#settle()
      const uuid = randomBytes(16)
      const known = [...this.#record.members, { uuid, location }]
      const removed = this.#record.removed.filter((member) => member.location !== location)
      const record = changed({ ...this.#record, ...fitted(known, removed) }, {})
      const { ownerEpoch } = this.#first.spare.header
      const main = { ...this.main, size: this.mainSize }
      const options = { blockSize: this.blockSize, main, force, uuid, ownerEpoch }
      await this.#refuseUnfit(device, options, record)
      await Spare.format(device, { ...options, pool: { ...record, standing: 'joining' } }, this.#log)
      const member = await this.#load({ ...(await Spare.identify(device)), device, location })
      await this.#orTakeBack(async () => {
        await this.#tell(this.#members, record)
        const owner = this.#owner && { owner: this.#owner }
        await member.spare.update({ clean: false, pool: record, healing: this.healing, ...owner })
      })
      this.#watch(member.spare)
      this.#members = [...this.#members, member]
      return member
    })
  }

  /**
   * Takes a member that holds nothing in force out of the pool, durably. Its device stays open.
   * @throws DeviceError when no other member could be told
   */
  remove(member: Member): Promise<void> {
    return this.#oneAtATime(async () => {
      assert(member.isDraining && this.#members.includes(member), `spare ${member.name} is not being removed`)
      await this.#settle()
      const { uuid } = member.spare.header
      const left = this.#record.members.filter((it) => !it.uuid.equals(uuid))
      const gone = this.#record.members.filter((it) => it.uuid.equals(uuid))
      const removed = [...gone, ...this.#record.removed].slice(0, REMOVED_MAX)
      const record = changed({ ...this.#record, ...fitted(left, removed) }, {})
      const others = this.#members.filter((it) => it !== member)
      await this.#orTakeBack(() => this.#tell(others, record))
      this.#members = others
      this.records.clear(member.base, member.spare.geometry.slots)
      try {
        await member.spare.update({ clean: true, pool: { ...record, standing: 'removed' } })
      } catch (error) {
        if (!(error instanceof DeviceError)) throw error
        this.#log.warn(`spare ${member.name} is removed, and cannot be marked as such: ${error.message}`)
      }
    })
  }

  /** @param change tells members of another list; when that fails, all are told that the one until now holds */
  async #orTakeBack(change: () => Promise<void>): Promise<void> {
    const before = this.#record
    try {
      await change()
    } catch (error) {
      this.#disputed = before
      await this.#settle().catch((other: unknown) => {
        this.#log.error(`no spare can note that the pool stays as it was: ${messageOf(other)}`)
      })
      throw error
    }
  }

  async #settle(): Promise<void> {
    if (!this.#disputed) return
    const { members, removed } = this.#disputed
    await this.#tell(this.#members, changed(this.#record, { members, removed }))
    this.#disputed = undefined
  }

  async #refuseUnfit(
    device: Device,
    options: Parameters<typeof Spare.refuseUnfit>[1],
    record: PoolRecord,
  ): Promise<void> {
    if (record.members.length > POOL_MEMBERS_MAX) {
      throw new RefusedError(`there are ${POOL_MEMBERS_MAX} spares already, and more are not possible`)
    }
    for (const { spare } of this.#members) {
      const { header } = spare
      encodeHeader({ ...header, notes: { ...header.notes, pool: record } }, 0) // throws when it does not fit
    }
    await Spare.refuseUnfit(device, options)
  }

  /** One that cannot be told is told at the next start, as long as another one knows. */
  async #tell(members: readonly Member[], record: PoolRecord): Promise<void> {
    // No two lists have one number: a member that cannot say whether it knows this one may know it.
    this.#record = { ...this.#record, sequence: record.sequence }
    let told = 0
    let failure: unknown
    for (const member of members) {
      try {
        await member.spare.update({ pool: record })
        told++
      } catch (error) {
        if (!(error instanceof DeviceError)) throw error
        this.#log.error(`spare ${member.name} cannot note who is in the pool: ${messageOf(error)}`)
        member.isSuspect = true
        failure = error
      }
    }
    if (told === 0) throw failure
    this.#record = record
  }

  async #admit(spare: PoolSpare): Promise<void> {
    this.#members = [...this.#members, await this.#load(spare)]
  }

  async #load(found: PoolSpare): Promise<Member> {
    const base = roomFor(found.header.geometry.slots, this.#members)
    const spare = await Spare.load(found.device, found, this.#log, { records: this.records, base })
    spare.counted = () => this.counted()
    return new Member(spare, found.location, base)
  }

  #locations(): Pick<PoolRecord, 'members' | 'removed'> {
    const members = this.#members.map(({ spare, location }) => ({ uuid: spare.header.uuid, location }))
    return fitted(members, this.#record.removed)
  }

  /** Resolves when changes of membership and of notes that are under way have ended. */
  settled(): Promise<void> {
    return this.#changing
  }

  #oneAtATime<T>(change: () => Promise<T>): Promise<T> {
    const step = this.#changing.then(change)
    this.#changing = step.then(
      () => undefined,
      () => undefined,
    )
    return step
  }
}

async function commitOn(member: Member, updates: readonly SlotUpdate[]): Promise<CommitFailure | undefined> {
  const { slots } = member.spare
  const local = updates.map(({ number, slot }) => ({ number: member.local(number), slot }))
  try {
    await member.spare.commit(local)
    member.isSuspect = false
    return undefined
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error
    member.isSuspect = true
    // What was never applied in memory was never sent to the disk.
    const isInDoubt = local.some(
      ({ number, slot }) => slots.has(number) && slots.get(number).generation === slot.generation,
    )
    if (isInDoubt) for (const { number } of local) member.spare.avoidPage(number)
    return { member, updates, error, isInDoubt }
  }
}

/** The lowest base at which `slots` numbers, and one more, are not in use. @throws RefusedError */
function roomFor(slots: number, members: readonly Member[]): number {
  let base = 0
  for (const member of [...members].sort((a, b) => a.base - b.base)) {
    if (base + slots < member.base) break
    base = member.base + member.spare.geometry.slots + 1
  }
  if (base + slots > SLOTS_MAX) throw new RefusedError(`all spares together have more than ${SLOTS_MAX} blocks`)
  return base
}

/** The end of a path tells more than its beginning; one that was cut is not found by itself. */
function fitted(
  members: readonly PoolMember[],
  removed: readonly PoolMember[],
): Pick<PoolRecord, 'members' | 'removed'> {
  const share = Math.floor(LOCATIONS_LENGTH_MAX / (members.length + removed.length))
  const bytesMax = Math.min(share, LOCATION_LENGTH_MAX)
  const fit = ({ uuid, location }: PoolMember): PoolMember => ({ uuid, location: lastBytes(location, bytesMax) })
  return { members: members.map(fit), removed: removed.map(fit) }
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, n) => total + n, 0)
