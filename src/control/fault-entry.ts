/** An entry of the audit log of injected faults, in the answer to `query-fault-log` and in the event FAULT_INJECTED. */
import { DISK_ROLES } from '../faults/fault-log.js'
import { FAULT_EFFECTS, FAULT_OPERATIONS } from '../faults/vocabulary.js'

export const FAULT_ENTRY_MEMBERS = {
  number: { kind: 'size' },
  time: { kind: 'str' },
  rule: { kind: 'str' },
  disk: { kind: 'enum', values: DISK_ROLES },
  name: { kind: 'str' },
  operation: { kind: 'enum', values: FAULT_OPERATIONS },
  offset: { kind: 'size' },
  length: { kind: 'size' },
  effect: { kind: 'enum', values: FAULT_EFFECTS },
  error: { kind: 'str', optional: true, description: 'what the request failed with' },
  'delay-ms': { kind: 'number', optional: true },
  detail: { kind: 'str', optional: true },
} as const
