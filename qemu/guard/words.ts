/** What the guard says of an error, and of a machine that others have stopped. */
import type { MachineDisk } from '../attach/disk.js'
import { causeOf, deedsOf, type Cause, type Fact, type MachineError } from './cause.js'
import type { Report } from './report.js'

const CAUSES: Readonly<Record<Cause['kind'], string>> = {
  'no-spare': 'a bad block found no free spare block',
  unreadable: 'the content is lost',
  unwritable: 'the server could not write it',
  gone: 'a disk of the server does not answer',
  connection: 'the server was not reached',
  unknown: 'nobody knows why',
}

const OTHER_STATES: Readonly<Record<string, string>> = {
  paused: 'somebody has stopped it, and has to continue it (cont)',
  prelaunch: 'it was not started yet',
  'guest-panicked': 'the guest has panicked',
  shutdown: 'it is shut down',
}

/** Why a machine is left alone that is in this state of QEMU. */
export const othersReason = (status: string): string => OTHER_STATES[status] ?? `QEMU says that it is ${status}`

/** One line for an error, with what the server knows of it. */
export function errorReport(disk: MachineDisk, error: MachineError, pauses: boolean, facts: readonly Fact[]): Report {
  const cause = causeOf(error, facts)
  const { range } = cause
  const place = range === undefined ? '' : ` of ${range.sectors} sectors from ${range.sector}`
  const deeds = deedsOf(cause, error, facts)
  const effect = pauses ? 'the machine is paused' : 'the guest was told'
  const text = `${error.operation}${place} failed (${error.reason}): ${[CAUSES[cause.kind], ...deeds].join(', ')}; ${effect}`
  return {
    kind: 'error',
    device: disk.label,
    text,
    details: { operation: error.operation, cause: cause.kind, ...range, pauses },
  }
}
