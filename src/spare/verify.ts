/** Looks at every copy of a spare's metadata without changing anything, and says what is intact and what is not. */
import type { Device } from '../device/device.js'
import { RefusedError } from '../util/errors.js'
import { silentLog } from '../util/log.js'
import type { SlotNumber } from '../util/units.js'
import { ageProblem, chooseHeader, geometryProblem, MISSED } from './choose.js'
import type { Header } from './format.js'
import { readCopies } from './header.js'
import { SlotTable, type SlotSummary, type SlotUpdate } from './slots.js'

export interface VerifyReport {
  readonly spare: string
  readonly clean: boolean
  readonly blockSize: number
  readonly main: { readonly location: string; readonly size: number }
  readonly headerCopies: number
  readonly slotPages: number
  readonly slots: SlotSummary
  /** One sentence for each thing that is wrong; empty: all copies are intact and agree. */
  readonly problems: readonly string[]
}

/** @throws RefusedError when there is no header that can be believed */
export async function verifySpare(device: Device): Promise<VerifyReport> {
  const copies = await readCopies(device)
  const choice = chooseHeader(copies)
  if (choice.kind === 'absent') throw new RefusedError(`${device.name} carries no nbd-remap header: it is not a spare`)
  if (choice.kind === 'refused') throw new RefusedError(`spare ${device.name} is damaged: ${choice.reason}`)
  const { header } = choice
  const problem = geometryProblem(header.geometry, device.size)
  if (problem) throw new RefusedError(`spare ${device.name} is damaged: ${problem}`)
  const slots = new SlotTable(device, header.geometry, header.uuid, silentLog)
  const findings = await slots.load(header.initialisedPages, header.notes.slotTable?.staleCopies)
  const tooOld = findings.some(({ lost }) => lost) ? undefined : ageProblem(header, slots.age)
  const problems = [
    ...choice.bad.map(({ copy, reason }) => `header copy ${copy}: ${reason}`),
    ...findings.flatMap(({ page, bad }) =>
      bad.map(({ copy, reason }) => `slot page ${page}, copy ${copy}: ${reason}${adviceOn(reason)}`),
    ),
    ...findings
      .filter(({ lost }) => lost)
      .map(({ page }) => `slot page ${page}: no copy is intact, its remaps are lost`),
    ...(tooOld ? [tooOld] : []),
    ...contradictionsIn(slots, header).map(({ number, problem: what }) => `slot ${number}: ${what}`),
  ]
  return {
    spare: device.name,
    clean: header.clean,
    blockSize: header.geometry.blockSize,
    main: { location: header.notes.main.location, size: header.geometry.mainSize },
    headerCopies: copies.length,
    slotPages: header.initialisedPages,
    slots: { total: header.geometry.slots, ...slots.count() },
    problems,
  }
}

export interface Contradiction {
  readonly number: SlotNumber
  readonly problem: string
}

/** A copy that could not be written has a bad sector beneath it, most likely. */
const adviceOn = (reason: string): string =>
  reason.endsWith(MISSED)
    ? ', for it could not be written, and is not believed; run "nbd-remap repair", and if it is said again, replace the spare: "nbd-remap spare add" another one and "nbd-remap spare remove" this one'
    : ''

/** Slots that point outside the main disk, and of two that point to the same place the older one. */
export function contradictionsIn(slots: SlotTable, { geometry }: Header): Contradiction[] {
  const found: Contradiction[] = []
  const seen = new Map<number, SlotUpdate>()
  for (const update of slots.used()) {
    const { number, slot } = update
    if (slot.state !== 'remapped') continue
    const { mainBlock } = slot
    if (mainBlock * geometry.blockSize >= geometry.mainSize) {
      found.push({ number, problem: `stands for main block ${mainBlock}, which lies outside the main disk` })
      continue
    }
    const other = seen.get(mainBlock)
    const isNewest = !other || other.slot.generation < slot.generation
    if (isNewest) seen.set(mainBlock, update)
    const loser = isNewest ? other : update
    if (loser) found.push({ number: loser.number, problem: `main block ${mainBlock} has a newer slot` })
  }
  return found
}
