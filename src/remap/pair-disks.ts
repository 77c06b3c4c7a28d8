/** The disks of a pair, opened and locked together; that no two of them are one, and that main and spare are not swapped. */
import { openDisk, overlap, samenessOf, type DiskOpener, type OpenedDisk } from '../device/open.js'
import { hasHeader } from '../spare/header.js'
import { RefusedError, UsageError } from '../util/errors.js'
import type { Log } from '../util/log.js'

export interface PairDisks {
  readonly main: OpenedDisk
  readonly spares: readonly OpenedDisk[]
  /** Spares that could not be opened: only those may be among them that were removed from the pool. */
  readonly unopened?: readonly { readonly location: string; readonly error: unknown }[]
}

export interface PairLocations {
  readonly main: string
  readonly spares: readonly string[]
}

/**
 * Opens and locks all disks.
 * @throws RefusedError, UsageError, Error; then none is open
 */
export async function openDisks(
  { main, spares }: PairLocations,
  options: {
    readonly mainMayHang?: boolean
    readonly mainReadOnly: boolean
    /** Main may be open in a QEMU. */
    readonly mainBesideQemu?: boolean
    readonly spareReadOnly: boolean
    readonly openSpare?: DiskOpener
    readonly log: Log
  },
): Promise<PairDisks> {
  const { mainMayHang = false, mainBesideQemu = false, spareReadOnly, openSpare = openDisk, log } = options
  refuseOverlaps(
    { name: main, sameness: samenessOf(main) },
    spares.map((spare) => ({ name: spare, sameness: samenessOf(spare) })),
  )
  const ofMain = { readOnly: options.mainReadOnly, mayHang: mainMayHang, besideQemu: mainBesideQemu }
  const openedMain = await openDisk(main, { ...ofMain, log })
  const opened = { main: openedMain, spares: [] as OpenedDisk[] }
  const unopened: { location: string; error: unknown }[] = []
  for (const location of spares) {
    try {
      opened.spares.push(await openSpare(location, { readOnly: spareReadOnly, log }))
    } catch (error) {
      if (!isAway(error)) {
        await closeDisks(opened)
        throw error
      }
      unopened.push({ location, error })
    }
  }
  if (opened.spares.length === 0 && unopened[0]) {
    await closeDisks(opened)
    throw unopened[0].error
  }
  return { ...opened, unopened }
}

/** Refused is what is there, and is not what it should be. */
const isAway = (error: unknown): boolean => !(error instanceof RefusedError || error instanceof UsageError)

export async function closeDisks({ main, spares }: PairDisks): Promise<void> {
  for (const { device } of [main, ...spares]) await device.close()
}

/** What two disks can be compared by. */
export interface NamedDisk {
  readonly name: string
  readonly sameness: string | undefined
}

export const named = ({ device, sameness }: OpenedDisk): NamedDisk => ({ name: device.name, sameness })

/** @throws RefusedError when one is another, or a part of it */
export function refuseOverlaps(main: NamedDisk, spares: readonly NamedDisk[]): void {
  for (const [n, spare] of spares.entries()) {
    const relation = relationOf(main, spare)
    if (relation)
      throw new RefusedError(`main ${main.name} and spare ${spare.name} ${relation}; the spare must be another disk`)
    for (const other of spares.slice(0, n)) {
      const relation = relationOf(other, spare)
      if (relation) throw new RefusedError(`spares ${other.name} and ${spare.name} ${relation}; give it once`)
    }
  }
}

/** @returns what one is to the other, if not another disk */
export function relationOf(a: NamedDisk, b: NamedDisk): string | undefined {
  if (a.sameness === undefined || b.sameness === undefined || !overlap(a.sameness, b.sameness)) return undefined
  return a.sameness === b.sameness ? 'are the same disk' : 'overlap: one is a part of the other'
}

/** @throws RefusedError */
export async function refuseWrongDisks({ main, spares }: PairDisks): Promise<void> {
  refuseOverlaps(named(main), spares.map(named))
  if (await hasHeader(main.device)) {
    throw new RefusedError(
      `main ${main.device.name} carries the header of an nbd-remap spare: are --main and --spare swapped?`,
    )
  }
}
