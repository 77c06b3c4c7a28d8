/**
 * What is on one disk, for `scan.ts`. Disks may be in use, so nothing is locked and nothing is written, and whatever is odd
 * at a place is a reason to skip it.
 */
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { DeviceError, type Device } from '../device/device.js'
import { isNbdUri } from '../device/location.js'
import { isDiskInUse, openDisk, type OpenedDisk } from '../device/open.js'
import { geometryProblem, type BadCopy } from '../spare/choose.js'
import type { Header } from '../spare/format.js'
import { readHeader } from '../spare/header.js'
import { takeFingerprint, type SeenMain } from '../spare/identity.js'
import type { SlotSummary } from '../spare/slots.js'
import { Spare } from '../spare/spare.js'
import { messageOf } from '../util/errors.js'
import { silentLog } from '../util/log.js'

export interface SeenSpare {
  readonly kind: 'spare'
  readonly location: string
  readonly header: Header
  readonly inUse: boolean
  readonly blocks: SlotSummary
  readonly problems: readonly string[]
  /** Why it cannot be used as it is. */
  readonly lost: string | undefined
}

export interface SeenMainDisk {
  readonly kind: 'other'
  readonly location: string
  readonly main: SeenMain
}

export type SeenDisk =
  | SeenSpare
  | SeenMainDisk
  | { readonly kind: 'damaged' | 'skipped'; readonly location: string; readonly reason: string }

/** The disks at a place: of a folder every file and block device directly in it. @throws Error when there is nothing */
export function placesAt(path: string): string[] {
  if (isNbdUri(path) || !statSync(path).isDirectory()) return [path]
  return readdirSync(path)
    .sort()
    .map((name) => join(path, name))
    .filter((place) => {
      const stats = statSync(place, { throwIfNoEntry: false })
      return stats?.isFile() === true || stats?.isBlockDevice() === true
    })
}

/** @param patienceMs a disk that does not answer for so long is skipped */
export async function look(location: string, patienceMs: number): Promise<SeenDisk> {
  const skipped = (reason: string): SeenDisk => ({ kind: 'skipped', location, reason })
  const given = new AbortController()
  const late = pause(patienceMs, undefined, { signal: given.signal }).then(
    () => skipped(`it did not answer within ${patienceMs / 1000} s`),
    () => skipped(''),
  )
  try {
    return await Promise.race([lookAt(location, patienceMs), late])
  } catch (error) {
    return skipped(messageOf(error))
  } finally {
    given.abort()
  }
}

async function lookAt(location: string, patienceMs: number): Promise<SeenDisk> {
  const disk = await openDisk(location, { readOnly: true, unlocked: true, mayHang: true, patienceMs, log: silentLog })
  try {
    return await examine(location, disk)
  } finally {
    await disk.device.close().catch(() => undefined)
  }
}

async function examine(location: string, disk: OpenedDisk): Promise<SeenDisk> {
  const { device } = disk
  const choice = await readHeader(device)
  if (choice.kind === 'absent') return { kind: 'other', location, main: await seenMain(disk) }
  if (choice.kind === 'refused') return { kind: 'damaged', location, reason: choice.reason }
  const problem = geometryProblem(choice.header.geometry, device.size)
  if (problem !== undefined) return { kind: 'damaged', location, reason: problem }
  return seenSpare(location, device, choice, isDiskInUse(location))
}

async function seenMain({ device, identity }: OpenedDisk): Promise<SeenMain> {
  return { ...identity, size: device.size, fingerprint: await takeFingerprint(device) }
}

async function seenSpare(
  location: string,
  device: Device,
  { header, bad }: { readonly header: Header; readonly bad: readonly BadCopy[] },
  inUse: boolean,
): Promise<SeenSpare> {
  const seen = { kind: 'spare', location, header, inUse } as const
  const nothing = { total: header.geometry.slots, remapped: 0, retired: 0, lost: 0 }
  try {
    const spare = await Spare.load(device, { header, bad }, silentLog)
    const blocks = { ...nothing, ...spare.counts }
    // What is being written just now looks damaged.
    if (inUse) return { ...seen, blocks, problems: [], lost: undefined }
    spare.refuseIfLost()
    const { headerCopies, pages } = spare.findings
    const problems = [
      ...headerCopies.map(({ copy, reason }) => `header copy ${copy}: ${reason}`),
      ...pages.flatMap(({ page, bad }) => bad.map(({ copy, reason }) => `slot page ${page}, copy ${copy}: ${reason}`)),
    ]
    return { ...seen, blocks, problems, lost: undefined }
  } catch (error) {
    if (error instanceof DeviceError) throw error
    return { ...seen, blocks: nothing, problems: [], lost: inUse ? undefined : messageOf(error) }
  }
}
