/**
 * A main disk and its spares, opened together: every check that promises P5 and P6 ask for is made here, before the first
 * byte is written to any disk.
 */
import { randomBytes } from 'node:crypto'
import { resolveLocation } from '../device/location.js'
import { openDisk, samenessOf, type DiskOpener, type OpenedDisk } from '../device/open.js'
import {
  BLOCK_SIZE_DEFAULT,
  BLOCK_SIZE_MAX,
  BLOCK_SIZE_MIN,
  isBlockSize,
  POOL_MEMBERS_MAX,
  type MainIdentity,
  type PoolRecord,
} from '../spare/format.js'
import { formerName, mainMismatch, takeFingerprint } from '../spare/identity.js'
import { OwnershipLostError } from '../spare/ownership.js'
import { SparePool, type Member } from '../spare/pool.js'
import { Spare } from '../spare/spare.js'
import { messageOf, RefusedError, UsageError } from '../util/errors.js'
import { lastBytes } from '../util/last-bytes.js'
import type { Log } from '../util/log.js'
import { Drain, DrainError } from './drain.js'
import type { RemapEventSink } from './events.js'
import { OwnerWatch } from './owner-watch.js'
import { findSpares, placeOf, type FoundSpare, type FoundSpares } from './find-spares.js'
import { named, refuseOverlaps, refuseWrongDisks, relationOf, type NamedDisk, type PairDisks } from './pair-disks.js'
import { SPARE_POLICY_DEFAULT, type ReadPolicy, type SparePolicy } from './policy.js'
import type { Replica } from './replica.js'
import type { TableSettings } from './table-settings.js'
import { RemapTarget } from './target.js'

export interface FormatPairOptions {
  readonly blockSize?: number
  readonly force: boolean
  readonly log: Log
}

export interface OpenPairOptions {
  readonly policy: ReadPolicy
  readonly replica?: Replica | undefined
  /** dm-remap's if absent. */
  readonly tableSettings?: TableSettings
  readonly spares?: SparePolicy
  /** For spares that are found, or added. */
  readonly openSpare?: DiskOpener
  /** Take the main for the right one although it does not look like it. */
  readonly acceptMain: boolean
  /** How often it is looked whether the spares are still ours; without it only before metadata is written. */
  readonly ownerCheckMs?: number
  readonly emit: RemapEventSink
  readonly log: Log
}

/** Writes empty spares for this main, which make one pool. @throws RefusedError, UsageError; then nothing was written */
export async function formatPair(disks: PairDisks, options: FormatPairOptions): Promise<void> {
  const { main, spares } = disks
  const blockSize = options.blockSize ?? BLOCK_SIZE_DEFAULT
  if (!isBlockSize(blockSize)) {
    throw new UsageError(`block size ${blockSize} is not a power of two from ${BLOCK_SIZE_MIN} to ${BLOCK_SIZE_MAX}`)
  }
  if (spares.length > POOL_MEMBERS_MAX) throw new UsageError(`more than ${POOL_MEMBERS_MAX} spares are not possible`)
  await refuseWrongDisks(disks)
  if (main.device.size < blockSize) {
    throw new RefusedError(
      `main ${main.device.name} is too small: ${main.device.size} bytes, less than one block of ${blockSize}`,
    )
  }
  const identity = { ...(await identify(main)), size: main.device.size }
  const members = spares.map((disk) => ({ uuid: randomBytes(16), location: placeOf(disk) }))
  const [first] = members
  if (!first) throw new UsageError('there is no spare')
  const pool: PoolRecord = SparePool.newRecord(members)
  const formats = members.map(({ uuid }) => ({ blockSize, main: identity, force: options.force, uuid, pool }))
  for (const [n, format] of formats.entries()) await Spare.refuseUnfit(deviceAt(spares, n), format)
  for (const [n, format] of formats.entries()) await Spare.format(deviceAt(spares, n), format, options.log)
}

export interface Removal {
  readonly drain: Drain
  /** Resolves when the spare has left the pool and its disk is closed; rejects with a DrainError when it stays. */
  readonly done: Promise<void>
}

export class Pair {
  readonly target: RemapTarget
  /** Resolves when another server has taken the pair over, with the reason: nothing is written any more. */
  readonly lost: Promise<string>
  readonly #watch: OwnerWatch | undefined
  #main: OpenedDisk
  /** All that it had is on another disk now. */
  #wasMoved = false
  readonly #options: OpenPairOptions
  /** The disks of the spares by uuid, to know one again. */
  readonly #disks = new Map<string, NamedDisk>()
  readonly #removals = new Map<Member, Removal>()
  #isClosing = false

  private constructor(target: RemapTarget, main: OpenedDisk, spares: readonly FoundSpare[], options: OpenPairOptions) {
    this.target = target
    this.#main = main
    this.#options = options
    for (const [n, member] of target.pool.members.entries()) {
      const found = spares[n]
      if (found) this.#disks.set(member.uuid, named(found.disk))
    }
    this.lost = this.#whenLost()
    this.#confirmReconnections(spares)
    const { ownerCheckMs } = options
    if (ownerCheckMs !== undefined && !target.readOnly) this.#watch = new OwnerWatch(target.pool, ownerCheckMs)
  }

  #whenLost(): Promise<string> {
    const { target } = this
    const { emit } = this.#options
    return new Promise((resolve) => {
      target.pool.onLost((spare, reason) => {
        target.fence()
        emit('OWNERSHIP_LOST', { spare, reason })
        resolve(`spare ${spare} belongs to another server now: ${reason}`)
      })
    })
  }

  /** What was not flushed before a connection broke must not be written over what another server has written since. */
  #confirmReconnections(spares: readonly FoundSpare[]): void {
    const { pool } = this.target
    for (const [n, member] of pool.members.entries()) confirmReconnection(member, spares[n]?.disk)
    if (this.#main.reconnection) this.#main.reconnection.confirm = () => pool.examineOwner()
  }

  /**
   * Opens the pair for serving: afterwards every metadata copy is intact and says that the pair is in use. A main that
   * was opened read-only leaves the spares untouched.
   * @throws RefusedError; then nothing was written
   */
  static async open(disks: PairDisks, options: OpenPairOptions): Promise<Pair> {
    const { main } = disks
    await refuseWrongDisks(disks)
    const { log, openSpare } = options
    const found = await findSpares(disks.spares, { readOnly: main.device.readOnly, openSpare, log })
    try {
      refuseUnopened(disks, found, log)
      return await Pair.#openWith(main, found, options)
    } catch (error) {
      for (const { disk, isOurs } of found.members) if (isOurs) await disk.device.close()
      throw error instanceof OwnershipLostError ? new RefusedError(error.message, { cause: error }) : error
    }
  }

  static async #openWith(main: OpenedDisk, found: FoundSpares, options: OpenPairOptions): Promise<Pair> {
    const { emit, log, spares = SPARE_POLICY_DEFAULT } = options
    refuseOverlaps(
      named(main),
      found.members.map(({ disk }) => named(disk)),
    )
    let pool = await SparePool.open(found.members, found.record, log)
    for (const { spare } of pool.members) spare.refuseIfLost()
    const identity = await identify(main)
    const mismatch = mainMismatch(recordedMain(pool), { ...identity, size: main.device.size })
    if (mismatch) acceptOrRefuse(main, pool, mismatch, options)
    if (!main.device.readOnly) {
      const mayBeInUse = !pool.isClean && found.members.some(({ disk }) => disk.reconnection !== undefined)
      await pool.takeOver({ ...identity, fingerprint: [] })
      for (const { spare } of pool.members) reportRepairs(spare, emit, log)
      if (mayBeInUse) pool = await pool.reread()
    }
    const target = new RemapTarget({ ...options, spares, main: main.device, pool })
    if (!main.device.readOnly) await target.settle()
    for (const { candidate, why } of found.leftOut) await leaveOut(candidate, why, log)
    return new Pair(target, main, found.members, options)
  }

  /**
   * Formats a disk and takes it into the pool while clients go on. Closes it when that fails.
   * @param force overwrite it if it is not blank
   * @throws RefusedError, UsageError, Error; then it is no member
   */
  async addSpare(location: string, force: boolean): Promise<Member> {
    this.#refuseUnlessServing()
    this.#refuseMember({ name: location, sameness: samenessOf(location) })
    const { openSpare = openDisk, log } = this.#options
    return this.addOpened(await openSpare(location, { readOnly: false, log }), force)
  }

  /** The same with a disk that is open. */
  async addOpened(disk: OpenedDisk, force: boolean): Promise<Member> {
    const { pool } = this.target
    const { emit, log } = this.#options
    try {
      this.#refuseUnlessServing()
      this.#refuseMember(named(disk))
      const member = await pool.add(disk.device, placeOf(disk), force)
      this.#disks.set(member.uuid, named(disk))
      confirmReconnection(member, disk)
      this.target.poolChanged()
      const blocks = member.spare.geometry.slots
      log.info(`spare ${member.name} (${member.uuid}) is in the pool now: ${blocks} blocks`)
      emit('SPARE_ADDED', { spare: member.name, uuid: member.uuid, 'total-blocks': blocks })
      return member
    } catch (error) {
      await disk.device.close()
      throw error
    }
  }

  /** The removal of this spare that is under way. */
  drainOf(member: Member): Drain | undefined {
    return this.#removals.get(member)?.drain
  }

  /**
   * Begins to remove a spare; the events SPARE_REMOVED and SPARE_REMOVAL_FAILED say how it ends.
   * @throws RefusedError when it cannot leave
   */
  removeSpare(member: Member): Removal {
    this.#refuseUnlessServing()
    const drain = new Drain(this.target, member, this.#options.policy)
    const done = this.#finishRemoval(drain).finally(() => this.#removals.delete(member))
    const removal = { drain, done }
    this.#removals.set(member, removal)
    return removal
  }

  async #finishRemoval(drain: Drain): Promise<void> {
    const { member } = drain
    const { emit, log } = this.#options
    const { uuid, name: spare } = member
    this.target.poolChanged()
    try {
      await drain.run()
      await this.target.pool.remove(member)
    } catch (error) {
      member.isDraining = false
      this.target.poolChanged()
      const remaining = member.spare.counts.remapped
      log.error(`spare ${spare} stays in the pool: ${messageOf(error)}`)
      emit('SPARE_REMOVAL_FAILED', { spare, uuid, reason: messageOf(error), 'remaining-blocks': remaining })
      throw error instanceof DrainError ? error : new DrainError(messageOf(error), { cause: error })
    }
    this.#disks.delete(uuid)
    await member.flush().catch((error: unknown) => {
      log.warn(`spare ${spare}: ${messageOf(error)}`)
    })
    await member.spare.device.close()
    log.info(`spare ${spare} (${uuid}) was removed from the pool: ${drain.moved} blocks moved`)
    emit('SPARE_REMOVED', { spare, uuid, 'moved-blocks': drain.moved })
  }

  /**
   * Flushes, records a clean stop, and closes all disks.
   * @throws Error when something failed: they are closed then, too, and the metadata stays "not clean"
   */
  async close(): Promise<void> {
    const { target } = this
    this.#isClosing = true
    try {
      await this.#watch?.stop()
      await Promise.all([this.#stopRemovals(), target.relocations.stop(), target.pool.settled()])
      if (!target.readOnly) {
        await (this.#wasMoved ? target.pool.flush() : target.flush())
        await target.pool.markClean(await identify(this.#main))
      }
    } catch (error) {
      // A disk that hangs cannot be closed either: what comes first says more.
      await target.close().catch(() => undefined)
      throw uncleanStop(error)
    }
    await target.close().catch((error: unknown) => {
      throw uncleanStop(error)
    })
  }

  /**
   * Makes `to` the main disk of the pair: it has all that is served, durably. The remaps are needed no more, but for blocks
   * with lost sectors. Nothing can be read or written afterwards; `to` stays open when the pair is closed.
   * @throws DeviceError, InDoubtError: then some remaps may be left, which do no harm
   */
  async rebind(to: OpenedDisk): Promise<void> {
    const { target } = this
    const { pool, placement, table } = target
    const identity = { ...(await identify(to)), fingerprint: [] }
    target.fence()
    const former = formerName({ id: shorten(this.#main.identity.id) })
    await pool.moveMain(identity, to.device.size, former)
    this.#main = to
    this.#wasMoved = true
    const remaps = [...table.entries()].map(([block, slot]) => ({ block, slot }))
    const needless = remaps.filter(({ slot }) => !pool.hasLost(slot))
    for (let n = 0; n < needless.length; n += REMAPS_PER_STEP) {
      await placement.remove(needless.slice(n, n + REMAPS_PER_STEP), true)
    }
  }

  /** That the disk there is neither main nor spare of this pair, nor a part of one. @throws RefusedError */
  refuseOwn(location: string, sameness = samenessOf(location)): void {
    for (const own of [named(this.#main), ...this.#disks.values()]) {
      const relation = relationOf(own, { name: location, sameness })
      if (relation) throw new RefusedError(`${own.name} and ${location} ${relation}; the new one must be another disk`)
    }
  }

  async #stopRemovals(): Promise<void> {
    const removals = [...this.#removals.values()]
    for (const { drain } of removals) drain.cancel()
    await Promise.allSettled(removals.map(({ done }) => done))
  }

  #refuseUnlessServing(): void {
    if (this.#isClosing) throw new RefusedError('the server is stopping')
    if (this.target.readOnly) throw new RefusedError('the pair is served read-only')
  }

  #refuseMember(disk: NamedDisk): void {
    for (const other of this.#disks.values()) {
      if (relationOf(other, disk) === 'are the same disk')
        throw new RefusedError(`${disk.name} is a spare of this pool already`)
    }
    refuseOverlaps(named(this.#main), [...this.#disks.values(), disk])
  }
}

function confirmReconnection({ spare }: Member, disk: OpenedDisk | undefined): void {
  if (!disk?.reconnection) return
  disk.reconnection.confirm = async (source) => {
    await spare.examineOwner(source)
  }
}

function deviceAt(spares: readonly OpenedDisk[], n: number): OpenedDisk['device'] {
  const spare = spares[n]
  if (!spare) throw new RangeError(`there is no spare ${n}`)
  return spare.device
}

const uncleanStop = (cause: unknown): Error =>
  new Error(`the pair could not be stopped cleanly: ${messageOf(cause)}`, { cause })

const identify = async (main: OpenedDisk): Promise<MainIdentity> => ({
  id: shorten(main.identity.id),
  location: shorten(main.identity.location),
  fingerprint: await takeFingerprint(main.device),
})

/** Of a path that would not fit into the header the end tells more than the beginning. */
const IDENTITY_LENGTH_MAX = 512
const shorten = (text: string): string => lastBytes(text, IDENTITY_LENGTH_MAX)

/** Remaps that are taken out of force together. */
const REMAPS_PER_STEP = 4096

const recordedMain = (pool: SparePool) => ({
  ...pool.main,
  former: pool.moves.former,
  id: shorten(pool.main.id),
  size: pool.mainSize,
  clean: pool.isClean,
  remaps: pool.used,
})

/** @throws what opening failed with, unless the pool does without */
function refuseUnopened({ unopened = [] }: PairDisks, { record }: FoundSpares, log: Log): void {
  for (const { location, error } of unopened) {
    if (!record.removed.some((member) => member.location === resolveLocation(location))) throw error
    log.warn(`spare ${location} was removed from the pool, and is not needed: ${messageOf(error)}`)
  }
}

async function leaveOut({ disk }: FoundSpare, why: 'removed' | 'unfinished', log: Log): Promise<void> {
  const again = 'to use it again, add it with "nbd-remap spare add --force"'
  log.warn(
    why === 'removed'
      ? `spare ${disk.device.name} was removed from the pool and is left alone; ${again}`
      : `the addition of spare ${disk.device.name} to the pool was cut off, and it is left alone; ${again}`,
  )
  await disk.device.close()
}

function acceptOrRefuse(main: OpenedDisk, pool: SparePool, mismatch: string, options: OpenPairOptions): void {
  const sizesMatch = pool.mainSize === main.device.size
  if (options.acceptMain && sizesMatch) {
    options.log.warn(`main ${main.device.name} is accepted as told: ${mismatch}`)
    return
  }
  const hint = sizesMatch
    ? 'if it is the right disk all the same, add --accept-main'
    : 'serve it with a spare of its own, or give the main that this spare belongs to'
  throw new RefusedError(`main ${main.device.name} is refused: ${mismatch}; ${hint}`)
}

function reportRepairs({ device, findings }: Spare, emit: RemapEventSink, log: Log): void {
  const spare = device.name
  for (const { copy, reason } of findings.headerCopies) {
    log.warn(`spare ${spare}: header copy ${copy} was repaired: ${reason}`)
    emit('METADATA_REPAIRED', { spare, structure: 'header', number: 0, copies: [copy], reason })
  }
  for (const { page, bad } of findings.pages) {
    const reason = bad.map((entry) => `copy ${entry.copy} ${entry.reason}`).join(', ')
    const copies = bad.map((entry) => entry.copy)
    log.warn(`spare ${spare}: slot page ${page} was repaired: ${reason}`)
    emit('METADATA_REPAIRED', { spare, structure: 'slot-page', number: page, copies, reason })
  }
}
