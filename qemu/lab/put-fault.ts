/** Puts a fault where it belongs: beneath the export of a disk, or into the fault device of a server. */
import path from 'node:path'
import { loadMaps } from '../../src/faults/fault-file.js'
import { operationsOf } from '../../src/faults/parse.js'
import type { Random } from '../../src/util/random.js'
import type { SectorRule } from '../faults.js'
import type { Fault } from '../scenario/format-faults.js'
import { LabDisk } from './disk.js'
import { LabError } from './error.js'
import type { Part } from './parts.js'
import { LabServer } from './server.js'

interface PutOptions {
  /** What the paths of maps are relative to. */
  readonly folder: string
  readonly draw: () => Random
}

/** @returns what was done, for the timeline. @throws LabError for a machine */
export async function putFault(it: Part, rule: Fault['rule'], { folder, draw }: PutOptions): Promise<string> {
  if (it instanceof LabDisk) {
    const [read = rule] = await loadMaps([rule], folder)
    const rules = await it.fault(read, draw())
    return `bad for ${operationsOf(rule).join(', ')}: ${sectorsOf(rules)}`
  }
  if (!(it instanceof LabServer))
    throw new LabError(`faults can be put beneath a disk or into a server, and '${it.name}' is a machine`)
  const seed = draw().uint32().toString(16)
  const map = rule['map-file'] === undefined ? {} : { 'map-file': path.resolve(folder, rule['map-file']) }
  await it.execute('inject-error', { rules: [{ seed, ...rule, ...map }] })
  return JSON.stringify(rule)
}

const SECTORS_SHOWN = 12

/** Enough of them to see that two runs had the same. */
function sectorsOf(rules: readonly SectorRule[]): string {
  const [first] = rules
  if (rules.length === 1 && first?.sector === undefined) return 'all sectors'
  const shown = rules.slice(0, SECTORS_SHOWN).map(({ sector = 0 }) => sector)
  return `${rules.length} sectors: ${shown.join(', ')}${rules.length > SECTORS_SHOWN ? ', ...' : ''}`
}
