/** Looks at every copy of a spare's metadata without changing anything, and says what is intact and what is not. */
import type { Device } from '../device/device.js'
import { RefusedError } from '../util/errors.js'
import { silentLog } from '../util/log.js'
import { ageProblem, chooseHeader, geometryProblem } from './choose.js'
import type { Header } from './format.js'
import { readCopies } from './header.js'
import { SlotTable } from './slots.js'

export interface VerifyReport {
  readonly spare: string
  readonly clean: boolean
  readonly blockSize: number
  readonly main: { readonly location: string; readonly size: number }
  readonly headerCopies: number
  readonly slotPages: number
  readonly slots: { readonly total: number; readonly remapped: number; readonly retired: number; readonly lost: number }
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
    ...findings.flatMap(({ page, bad }) => bad.map(({ copy, reason }) => `slot page ${page}, copy ${copy}: ${reason}`)),
    ...findings
      .filter(({ lost }) => lost)
      .map(({ page }) => `slot page ${page}: no copy is intact, its remaps are lost`),
    ...(tooOld ? [tooOld] : []),
    ...contradictions(slots, header),
  ]
  return {
    spare: device.name,
    clean: header.clean,
    blockSize: header.geometry.blockSize,
    main: { location: header.notes.main.location, size: header.geometry.mainSize },
    headerCopies: copies.length,
    slotPages: header.initialisedPages,
    slots: countSlots(slots, header),
    problems,
  }
}

/** Slots that point outside the main disk, or twice to the same place. */
function contradictions(slots: SlotTable, { geometry }: Header): string[] {
  const problems: string[] = []
  const seen = new Set<number>()
  for (const { number, slot } of slots.used()) {
    if (slot.state !== 'remapped') continue
    if (slot.mainBlock * geometry.blockSize >= geometry.mainSize) {
      problems.push(`slot ${number}: stands for main block ${slot.mainBlock}, which lies outside the main disk`)
    }
    if (seen.has(slot.mainBlock)) problems.push(`slot ${number}: main block ${slot.mainBlock} has another slot, too`)
    seen.add(slot.mainBlock)
  }
  return problems
}

function countSlots(slots: SlotTable, { geometry }: Header): VerifyReport['slots'] {
  let remapped = 0
  let retired = 0
  let lost = 0
  for (const { slot } of slots.used()) {
    if (slot.state === 'retired') retired++
    else remapped++
    if (slot.lostMask !== 0n) lost++
  }
  return { total: geometry.slots, remapped, retired, lost }
}
