/**
 * A main disk and its spare, opened together: every check that promises P5 and P6 ask for stands here, before the first
 * byte is written to either disk.
 */
import { openDisk, overlap, samenessOf, type OpenedDisk } from '../device/open.js'
import { BLOCK_SIZE_DEFAULT, BLOCK_SIZE_MAX, BLOCK_SIZE_MIN, isBlockSize, type MainIdentity } from '../spare/format.js'
import { hasHeader } from '../spare/header.js'
import { mainMismatch, takeFingerprint } from '../spare/identity.js'
import { Spare } from '../spare/spare.js'
import { messageOf, RefusedError, UsageError } from '../util/errors.js'
import type { Log } from '../util/log.js'
import type { RemapEventSink } from './events.js'
import type { ReadPolicy } from './policy.js'
import type { Replica } from './replica.js'
import { RemapTarget } from './target.js'

export interface PairDisks {
  readonly main: OpenedDisk
  readonly spare: OpenedDisk
}

export interface PairLocations {
  readonly main: string
  readonly spare: string
}

/**
 * Opens and locks both disks.
 * @throws RefusedError, UsageError, Error; then neither is open
 */
export async function openDisks(
  { main, spare }: PairLocations,
  options: {
    readonly mainMayHang?: boolean
    readonly mainReadOnly: boolean
    readonly spareReadOnly: boolean
    readonly log: Log
  },
): Promise<PairDisks> {
  const { mainMayHang = false, mainReadOnly, spareReadOnly, log } = options
  refuseOverlap({ name: main, sameness: samenessOf(main) }, { name: spare, sameness: samenessOf(spare) })
  const openedMain = await openDisk(main, { readOnly: mainReadOnly, mayHang: mainMayHang, log })
  try {
    return { main: openedMain, spare: await openDisk(spare, { readOnly: spareReadOnly, log }) }
  } catch (error) {
    await openedMain.device.close()
    throw error
  }
}

interface NamedDisk {
  readonly name: string
  readonly sameness: string | undefined
}

const named = ({ device, sameness }: OpenedDisk): NamedDisk => ({ name: device.name, sameness })

function refuseOverlap(main: NamedDisk, spare: NamedDisk): void {
  if (main.sameness === undefined || spare.sameness === undefined || !overlap(main.sameness, spare.sameness)) return
  const relation = main.sameness === spare.sameness ? 'are the same disk' : 'overlap: one is a part of the other'
  throw new RefusedError(`main ${main.name} and spare ${spare.name} ${relation}; the spare must be another disk`)
}

export interface FormatPairOptions {
  readonly blockSize?: number
  readonly force: boolean
  readonly log: Log
}

export interface OpenPairOptions {
  readonly policy: ReadPolicy
  readonly replica?: Replica | undefined
  /** Take the main for the right one although it does not look like it. */
  readonly acceptMain: boolean
  readonly emit: RemapEventSink
  readonly log: Log
}

/** Writes an empty spare for this main. @throws RefusedError, UsageError; then nothing was written */
export async function formatPair(disks: PairDisks, options: FormatPairOptions): Promise<void> {
  const { main, spare } = disks
  const blockSize = options.blockSize ?? BLOCK_SIZE_DEFAULT
  if (!isBlockSize(blockSize)) {
    throw new UsageError(`block size ${blockSize} is not a power of two from ${BLOCK_SIZE_MIN} to ${BLOCK_SIZE_MAX}`)
  }
  await refuseWrongDisks(disks)
  if (main.device.size < blockSize) {
    throw new RefusedError(
      `main ${main.device.name} is too small: ${main.device.size} bytes, less than one block of ${blockSize}`,
    )
  }
  const identity = { ...(await identify(main)), size: main.device.size }
  await Spare.format(spare.device, { blockSize, main: identity, force: options.force }, options.log)
}

export class Pair {
  readonly target: RemapTarget
  readonly #main: OpenedDisk

  private constructor(target: RemapTarget, main: OpenedDisk) {
    this.target = target
    this.#main = main
  }

  /**
   * Opens the pair for serving: afterwards every metadata copy is intact and says that the pair is in use. A main that
   * was opened read-only leaves the spare untouched.
   * @throws RefusedError; then nothing was written
   */
  static async open(disks: PairDisks, options: OpenPairOptions): Promise<Pair> {
    const { main } = disks
    await refuseWrongDisks(disks)
    const spare = await Spare.open(disks.spare.device, options.log)
    spare.refuseIfLost()
    const identity = await identify(main)
    const mismatch = mainMismatch(recordedMain(spare), { ...identity, size: main.device.size })
    if (mismatch) acceptOrRefuse(main, spare, mismatch, options)
    const target = new RemapTarget({ ...options, main: main.device, spare })
    if (!main.device.readOnly) {
      await spare.takeOver({ ...identity, fingerprint: [] })
      await target.settle()
      reportRepairs(spare, options.emit, options.log)
    }
    return new Pair(target, main)
  }

  /**
   * Flushes, records a clean stop, and closes both disks.
   * @throws Error when something failed: both are closed then, too, and the metadata stays "not clean"
   */
  async close(): Promise<void> {
    const { target } = this
    try {
      if (!target.readOnly) {
        await target.flush()
        await target.spare.markClean(await identify(this.#main))
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
}

const uncleanStop = (cause: unknown): Error =>
  new Error(`the pair could not be stopped cleanly: ${messageOf(cause)}`, { cause })

const identify = async (main: OpenedDisk): Promise<MainIdentity> => ({
  id: shorten(main.identity.id),
  location: shorten(main.identity.location),
  fingerprint: await takeFingerprint(main.device),
})

/** Of a path that would not fit into the header the end tells more than the beginning. */
const IDENTITY_LENGTH_MAX = 1000
const shorten = (text: string): string => text.slice(-IDENTITY_LENGTH_MAX)

const recordedMain = (spare: Spare) => ({
  ...spare.header.notes.main,
  size: spare.geometry.mainSize,
  clean: spare.header.clean,
  remaps: spare.slots.countUsed(),
})

async function refuseWrongDisks({ main, spare }: PairDisks): Promise<void> {
  refuseOverlap(named(main), named(spare))
  if (await hasHeader(main.device)) {
    throw new RefusedError(
      `main ${main.device.name} carries the header of an nbd-remap spare: are --main and --spare swapped?`,
    )
  }
}

function acceptOrRefuse(main: OpenedDisk, spare: Spare, mismatch: string, options: OpenPairOptions): void {
  const sizesMatch = spare.geometry.mainSize === main.device.size
  if (options.acceptMain && sizesMatch) {
    options.log.warn(`main ${main.device.name} is accepted as told: ${mismatch}`)
    return
  }
  const hint = sizesMatch
    ? 'if it is the right disk all the same, add --accept-main'
    : 'serve it with a spare of its own, or give the main that this spare belongs to'
  throw new RefusedError(`main ${main.device.name} is refused: ${mismatch}; ${hint}`)
}

function reportRepairs(spare: Spare, emit: RemapEventSink, log: Log): void {
  for (const { copy, reason } of spare.findings.headerCopies) {
    log.warn(`spare ${spare.device.name}: header copy ${copy} was repaired: ${reason}`)
    emit('METADATA_REPAIRED', { structure: 'header', number: 0, copies: [copy], reason })
  }
  for (const { page, bad } of spare.findings.pages) {
    const reason = bad.map((entry) => `copy ${entry.copy} ${entry.reason}`).join(', ')
    log.warn(`spare ${spare.device.name}: slot page ${page} was repaired: ${reason}`)
    emit('METADATA_REPAIRED', { structure: 'slot-page', number: page, copies: bad.map((entry) => entry.copy), reason })
  }
}
