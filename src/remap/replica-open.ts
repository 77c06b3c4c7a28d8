/** From a disk to a replica: that it can be one, and whether it still is what it was when it was declared identical. */
import { createHash } from 'node:crypto'
import { openDisk, overlap, samenessOf, type OpenedDisk } from '../device/open.js'
import { RefusedError } from '../util/errors.js'
import { DeviceError, type Device } from '../device/device.js'
import type { Log } from '../util/log.js'
import { alignDown, KiB, mainBlock, SECTOR_SIZE } from '../util/units.js'
import { healingNotes, type ReplicaNote } from './healing-notes.js'
import type { PairDisks } from './pair-disks.js'
import type { Replica } from './replica.js'
import type { RemapTarget } from './target.js'

const SAMPLES = 64
const SAMPLE_SIZE = 4 * KiB

/**
 * Opens a replica for reading, with a lock that keeps off servers that would write to it.
 * @throws RefusedError when it is one of the pair's disks, or cannot be a copy
 */
export async function openReplica(
  location: string,
  { main, spares }: PairDisks,
  options: { readonly mayHang: boolean; readonly log: Log },
): Promise<OpenedDisk> {
  const sameness = samenessOf(location)
  for (const disk of [main, ...spares]) {
    if (sameness === undefined || !overlap(sameness, disk.sameness)) continue
    throw new RefusedError(
      `replica ${location} and ${disk === main ? 'main' : 'spare'} ${disk.device.name} are the same disk, or share a part`,
    )
  }
  const opened = await openDisk(location, { readOnly: true, ...options })
  if (opened.device.size === main.device.size) return opened
  await opened.device.close()
  throw new RefusedError(
    `replica ${location} has ${opened.device.size} bytes, and main ${main.device.name} has ${main.device.size}: it is no copy`,
  )
}

/**
 * Decides what may be taken from the replica of a pair that was just opened, and notes it down.
 * @throws RefusedError when it was to be identical and is not
 */
export async function admitReplica(target: RemapTarget, log: Log): Promise<void> {
  const { replica, pool } = target
  if (!replica || replica.state === 'in-sync') return
  const { ownerEpoch } = pool
  const note = healingNotes(pool.healing).replica
  const id = hashOf(replica.id)
  const lastEpoch = target.readOnly ? ownerEpoch : ownerEpoch - 1
  const doubt = doubtAbout(note, id, lastEpoch)
  if (doubt !== undefined) {
    log.warn(
      `replica ${replica.device.name} is stale: ${doubt}, so nothing is taken from it; copy the disk anew and say replica-declare`,
    )
    return
  }
  await replica.declareIdentical(() => refuseDifferent(target, replica))
  if (!target.readOnly) await noteIdentical(target, id)
  log.info(`replica ${replica.device.name} is taken as identical to what is served, as of now`)
}

/** Why it may not be what is served now: also one that was in use before another one was. */
function doubtAbout(note: ReplicaNote | undefined, id: string, lastEpoch: number): string | undefined {
  if (note === undefined) return undefined
  if (note.id !== id)
    return 'another replica was in use before, and whether blocks were changed since this one was copied is not known'
  if (note.identicalIn === lastEpoch) return undefined
  return 'blocks were changed since it was identical, and which is not known any more'
}

const hashOf = (id: string): string => createHash('sha256').update(id).digest('hex').slice(0, 32)

/** The operator says that the replica is identical now. */
export async function declareReplica(target: RemapTarget): Promise<void> {
  const { replica } = target
  if (!replica || replica.state === 'in-sync') return
  await replica.declareIdentical(() => refuseDifferent(target, replica))
  if (!target.readOnly) await noteIdentical(target, hashOf(replica.id))
}

/**
 * From the first change on, the note of this start is worth nothing at the next one: it says another epoch. Where
 * nothing was changed, a clean stop says so.
 */
export async function noteUnchanged(target: RemapTarget): Promise<void> {
  const { replica, pool } = target
  const { replica: note } = healingNotes(pool.healing)
  if (replica?.state !== 'identical' || replica.changedBytes > 0 || !note || target.readOnly) return
  await noteReplica(target, { ...note, identicalIn: pool.ownerEpoch })
}

/** Until a clean stop says otherwise, this start may change anything: the note names an epoch that is over. */
const noteIdentical = (target: RemapTarget, id: string): Promise<void> =>
  noteReplica(target, { id, identicalIn: target.pool.ownerEpoch - 1 })

const noteReplica = ({ pool }: RemapTarget, replica: ReplicaNote): Promise<void> =>
  pool.noteHealing((healing) => ({ ...healingNotes(healing), replica }))

/** A stale copy differs somewhere, which samples may miss; what is no copy at all differs nearly everywhere. */
async function refuseDifferent(target: RemapTarget, replica: Replica): Promise<void> {
  let [compared, different] = [0, 0]
  const length = Math.min(SAMPLE_SIZE, target.size)
  for (let n = 0; n < SAMPLES; n++) {
    const offset = alignDown(Math.floor(((target.size - length) * n) / (SAMPLES - 1)), SECTOR_SIZE)
    const [ours, theirs] = [await sample(target, offset, length), await contentOf(replica.device, offset, length)]
    if (!ours || !theirs) continue
    compared++
    if (!ours.equals(theirs)) different++
  }
  if (different === 0) return
  throw new RefusedError(
    `replica ${replica.device.name} differs from main ${target.main.name} in ${different} of ${compared} samples: it is no copy of what is served, or an old one`,
  )
}

/** Of main, where it can be read and is in force. */
async function sample(target: RemapTarget, offset: number, length: number): Promise<Buffer | undefined> {
  const first = Math.floor(offset / target.pool.blockSize)
  const end = Math.ceil((offset + length) / target.pool.blockSize)
  for (let block = first; block < end; block++) {
    if (target.table.lookup(mainBlock(block)) !== undefined) return undefined
  }
  return contentOf(target.main, offset, length)
}

async function contentOf(device: Device, offset: number, length: number): Promise<Buffer | undefined> {
  const into = Buffer.alloc(length)
  try {
    await device.read(offset, into)
    return into
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error
    return undefined
  }
}
