/** The commands of fault injection. Like all others they run in the control thread and ask the data plane. */
import { DISK_ROLES } from '../faults/fault-log.js'
import { FAULT_EFFECTS, FAULT_RULE } from '../faults/vocabulary.js'
import { command, type Command, type ValueOf } from '../qmp/schema.js'
import type { DataPlane } from './data-plane.js'
import { FAULT_ENTRY_MEMBERS } from './fault-entry.js'

const INJECTED = {
  kind: 'array',
  of: {
    kind: 'object',
    members: {
      id: { kind: 'str' },
      effect: { kind: 'enum', values: FAULT_EFFECTS },
      state: {
        kind: 'enum',
        values: ['active', 'spent', 'waiting'],
        description: 'spent: it strikes no more; waiting: for a spare, or for its metadata',
      },
      rule: { kind: 'any', description: 'as it was given' },
      parts: {
        kind: 'array',
        of: {
          kind: 'object',
          members: {
            disk: { kind: 'enum', values: DISK_ROLES },
            name: { kind: 'str' },
            sectors: { kind: 'size', description: 'that it is about now' },
            places: { kind: 'array', of: { kind: 'str' }, description: 'the first hundred of them' },
            requests: { kind: 'size', description: 'that it was for' },
            struck: { kind: 'size' },
            'slow-sectors': { kind: 'size', optional: true, description: 'of ageing' },
            'weak-sectors': { kind: 'size', optional: true },
            'bad-sectors': { kind: 'size', optional: true },
          },
        },
        description: 'on each disk that it is for',
      },
    },
  },
} as const

const FAULTS = { kind: 'object', members: { seed: { kind: 'str' }, rules: INJECTED } } as const

export const FAULT_ENTRY = { kind: 'object', members: FAULT_ENTRY_MEMBERS } as const

const FAULT_LOG = {
  kind: 'object',
  members: {
    entries: { kind: 'array', of: FAULT_ENTRY },
    first: { kind: 'size', description: 'number of the oldest entry that is kept' },
    last: { kind: 'size', description: 'number of the newest entry' },
  },
} as const

const POWER_CUT = {
  kind: 'object',
  members: {
    disks: {
      kind: 'array',
      of: {
        kind: 'object',
        members: {
          disk: { kind: 'enum', values: DISK_ROLES },
          name: { kind: 'str' },
          'lost-bytes': { kind: 'size' },
        },
      },
    },
  },
} as const

const RULES_MAX = 10_000
const ENTRIES_MAX = 1000

/** What `inject-error` and `query-faults` return. */
export type FaultsReply = ValueOf<typeof FAULTS>
export type InjectedRuleReply = FaultsReply['rules'][number]
/** What `query-fault-log` returns. */
export type FaultLogReply = ValueOf<typeof FAULT_LOG>

export const faultCommands = (subject: Pick<DataPlane, 'ask'>): Record<string, Command> => ({
  'inject-error': command({
    description: 'Makes the disks fail by these rules, all of them or none; needs serve --fault-injection',
    arguments: { rules: { kind: 'array', of: FAULT_RULE, itemsMax: RULES_MAX } },
    returns: FAULTS,
    handler: async (args) => (await subject.ask('inject-error', args)) as FaultsReply,
  }),
  'clear-errors': command({
    description: 'Takes rules out, and lets go what they hold up; what they damaged stays damaged',
    arguments: { ids: { kind: 'array', of: { kind: 'str' }, optional: true, description: 'all if absent' } },
    returns: { kind: 'object', members: { cleared: { kind: 'array', of: { kind: 'str' } } } },
    handler: async (args) => (await subject.ask('clear-errors', args)) as { cleared: string[] },
  }),
  'query-faults': command({
    description: 'The rules in force, and what they have done',
    returns: FAULTS,
    handler: async () => (await subject.ask('query-faults', {})) as FaultsReply,
  }),
  'query-fault-log': command({
    description: 'What was done to which request, by which rule; the oldest first',
    arguments: {
      since: { kind: 'size', optional: true, description: 'entries with higher numbers only' },
      limit: {
        kind: 'int',
        min: 1,
        max: ENTRIES_MAX,
        optional: true,
        description: `at most, ${ENTRIES_MAX} if absent`,
      },
      rule: { kind: 'str', optional: true },
      disk: { kind: 'enum', values: DISK_ROLES, optional: true },
      sector: { kind: 'size', optional: true, description: 'requests that touch it' },
    },
    returns: FAULT_LOG,
    handler: async (args) => (await subject.ask('query-fault-log', { limit: ENTRIES_MAX, ...args })) as FaultLogReply,
  }),
  'power-cut': command({
    description: 'What lying disks hold in memory is lost, as if their power were cut; the server goes on',
    returns: POWER_CUT,
    handler: async () => (await subject.ask('power-cut', {})) as ValueOf<typeof POWER_CUT>,
  }),
})
