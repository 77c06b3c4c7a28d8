/**
 * The spares of a main disk, from those that were named: all members must be there, and one that was not named is looked
 * for where it was last in use. That is how a server that is started again with its old options finds the spare that was
 * added while the last one ran.
 */
import { resolveLocation } from '../device/location.js'
import { openDisk, type DiskOpener, type OpenedDisk } from '../device/open.js'
import type { PoolMember, PoolRecord } from '../spare/format.js'
import { choosePool, missingMessage, type LeftOut } from '../spare/membership.js'
import type { PoolSpare } from '../spare/pool.js'
import { Spare } from '../spare/spare.js'
import { messageOf, RefusedError } from '../util/errors.js'
import type { Log } from '../util/log.js'

export interface FoundSpare extends PoolSpare {
  readonly disk: OpenedDisk
  readonly name: string
  /** It was opened here, not by the caller. */
  readonly isOurs: boolean
}

export interface FoundSpares {
  readonly members: readonly FoundSpare[]
  readonly record: PoolRecord
  readonly leftOut: readonly LeftOut<FoundSpare>[]
}

export interface FindOptions {
  readonly readOnly: boolean
  readonly openSpare?: DiskOpener | undefined
  readonly log: Log
}

/** Where the disk is found again. */
export const placeOf = ({ identity }: OpenedDisk): string => resolveLocation(identity.location)

/**
 * Opens the spares on `disks`; writes nothing.
 * @throws RefusedError when they are not all of the pool, and nothing but the pool; disks opened here are closed then
 */
export async function findSpares(disks: readonly OpenedDisk[], options: FindOptions): Promise<FoundSpares> {
  const found: FoundSpare[] = []
  try {
    for (const disk of disks) found.push(await asFound(disk, false))
    for (;;) {
      const choice = choosePool(found)
      if (choice.kind === 'found') return choice
      if (choice.kind === 'refused') throw new RefusedError(choice.reason)
      // Each one that is found makes one less to be looked for; a newer list may name further ones.
      for (const member of choice.missing) found.push(await find(member, options))
    }
  } catch (error) {
    for (const { disk, isOurs } of found) if (isOurs) await disk.device.close()
    throw error
  }
}

async function asFound(disk: OpenedDisk, isOurs: boolean): Promise<FoundSpare> {
  const { device } = disk
  return { ...(await Spare.identify(device)), disk, device, location: placeOf(disk), name: device.name, isOurs }
}

async function find(member: PoolMember, options: FindOptions): Promise<FoundSpare> {
  let disk: OpenedDisk | undefined
  try {
    const { openSpare = openDisk, readOnly, log } = options
    disk = await openSpare(member.location, { readOnly, log })
    const found = await asFound(disk, true)
    if (!found.header.uuid.equals(member.uuid)) throw new Error('another spare is there now')
    log.info(`spare ${member.location} belongs to the pool, too`)
    return found
  } catch (error) {
    await disk?.device.close()
    throw new RefusedError(`${missingMessage(member)} (${messageOf(error)})`, { cause: error })
  }
}
