/**
 * The data plane's side of the control commands: what only the thread with the disks can carry out, by the name of the
 * command. Arguments have been checked in the control thread.
 */
import type { JsonObject } from '../qmp/message.js'
import { deviceOperations } from './device-operations.js'
import { errorOperations } from './error-operations.js'
import { faultOperations, type FaultSubject } from './fault-operations.js'
import { healingOperations, type HealingSubject } from './healing-operations.js'
import { metadataOperations, type MetadataSubject } from './metadata-operations.js'
import { remapOperations, type RemapSubject } from './remap-operations.js'
import { spareOperations } from './spare-operations.js'

export interface OperationsSubject extends RemapSubject, HealingSubject, MetadataSubject, FaultSubject {
  /** Reads the configuration again. @throws Error with a sentence for people */
  reload(): unknown
  /** Begins a graceful stop and returns at once. */
  quit(): void
}

/** @throws QmpReplyError to choose the words and the class of the error */
export type Operations = ReadonlyMap<string, (args: JsonObject) => unknown>

export const controlOperations = (subject: OperationsSubject): Operations =>
  new Map<string, (args: JsonObject) => unknown>([
    ...remapOperations(subject),
    ...spareOperations(subject.pair),
    ...healingOperations(subject),
    ...metadataOperations(subject),
    ...errorOperations(subject.pair),
    ...faultOperations(subject),
    ...deviceOperations(subject),
    ['reload', () => subject.reload()],
    ['reset-stats', ({ lifetime }) => resetStatistics(subject, lifetime === true)],
    [
      'quit',
      () => {
        subject.quit()
      },
    ],
  ])

/** That the lifetime begins anew, and the history of errors with it, is durable when it resolves. */
async function resetStatistics({ pair: { target } }: OperationsSubject, all: boolean): Promise<void> {
  target.lifetime.reset(all)
  if (!all) return
  target.errors.clear()
  if (!target.readOnly) await target.pool.noteCounts()
}
