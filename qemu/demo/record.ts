/** The demonstration as a record, from which its report is written. */
import { outcomeOf, type RunRecord } from '../report/record.js'
import type { Recording } from './recording.js'

const NAME = 'demo'

/** Act a, in which there is no nbd-remap. */
export function controlOf(recording: Recording, seed: string): RunRecord {
  const { checks, measurements } = recording.timeline
  const title = 'The guest sits on the failing disk itself'
  const found = { checks, measurements }
  return { name: NAME, title, seed, ...recording.told, ...found, outcome: outcomeOf(found) }
}

/** The acts after it. */
export function recordOf(recording: Recording, seed: string, control: RunRecord): RunRecord {
  const { checks, measurements } = recording.timeline
  const title = 'A virtual machine keeps its files while its disk fails, its server is killed, and the power is cut'
  const found = { checks, measurements, control }
  return { name: NAME, title, seed, ...recording.told, ...found, outcome: outcomeOf(found) }
}
