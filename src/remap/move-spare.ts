/**
 * Moves what a spare holds to another disk, while nobody uses the pair: the new one joins the pool, and the old one leaves
 * it, each crash-safe by itself (pool.ts, drain.ts). Cut off in between, both are members, and the next attempt goes on.
 */
import { resolveLocation } from '../device/location.js'
import type { OpenedDisk } from '../device/open.js'
import { layOut } from '../spare/format.js'
import { readHeader } from '../spare/header.js'
import type { Member } from '../spare/pool.js'
import { RefusedError } from '../util/errors.js'
import type { Pair } from './pair.js'

/** The member at this place. @throws RefusedError */
export function memberAt({ target: { pool } }: Pair, location: string): Member {
  const member = pool.find(location) ?? pool.find(resolveLocation(location))
  if (!member) throw new RefusedError(`${location} is no spare of this pair`)
  return member
}

/** Whether `location` is in the pool already, by an attempt that was cut off. */
export const isMember = ({ target: { pool } }: Pair, location: string): boolean =>
  pool.find(resolveLocation(location)) !== undefined

/**
 * Takes `to` into the pool in place of `from`. Closes it when that fails.
 * @throws RefusedError, Error: then it is no member
 */
export async function addInPlaceOf(pair: Pair, from: Member, to: OpenedDisk, force: boolean): Promise<void> {
  const { pool } = pair.target
  try {
    refuseTooSmall(pair, from, to)
  } catch (error) {
    await to.device.close()
    throw error
  }
  await pair.addOpened(to, force || (await wasJoining(to, pool.record.uuid)))
}

function refuseTooSmall({ target: { pool } }: Pair, from: Member, { device }: OpenedDisk): void {
  const own = layOut(pool.mainSize, device.size, pool.blockSize)?.slots ?? 0
  const others = pool.members.filter((member) => member !== from).reduce((sum, { spare }) => sum + spare.free, 0)
  const { remapped } = from.spare.counts
  if (own + others >= remapped) return
  throw new RefusedError(
    `spare ${device.name} is too small: it has room for ${own} blocks, and ${from.name} holds ${remapped}`,
  )
}

/** It was formatted for this pool, and holds nothing yet: nobody needs to be asked before it is formatted again. */
async function wasJoining({ device }: OpenedDisk, pool: Buffer): Promise<boolean> {
  const choice = await readHeader(device)
  if (choice.kind !== 'chosen') return false
  const { uuid, standing } = choice.header.notes.pool
  return uuid.equals(pool) && standing === 'joining'
}
