/** The commands about the replica and the scrub. Like all others they run in the control thread and ask the data plane. */
import { command, type Command, type ValueOf } from '../qmp/schema.js'
import type { DataPlane } from './data-plane.js'

const REPLICA = {
  kind: 'object',
  members: {
    replica: {
      kind: 'object',
      optional: true,
      description: 'absent: there is none',
      members: {
        name: { kind: 'str' },
        state: {
          kind: 'enum',
          values: ['identical', 'in-sync', 'stale'],
          description: 'stale: nothing is taken from it',
        },
        'changed-bytes': { kind: 'size', description: 'changed since it was identical, and not taken from it' },
        'healed-blocks': { kind: 'size', description: 'blocks of which something was taken from it' },
      },
    },
  },
} as const

const SCRUB = {
  kind: 'object',
  members: {
    state: { kind: 'enum', values: ['idle', 'running', 'stopped', 'completed'] },
    position: { kind: 'size', description: 'bytes of the disk that are read' },
    size: { kind: 'size' },
    speed: { kind: 'size', description: 'bytes per second at most, 0: no limit' },
    'healed-blocks': { kind: 'size', description: 'bad blocks that have all their content on the spare now' },
    'lost-sectors': { kind: 'size', description: 'sectors that were found to be lost' },
  },
} as const

export type ScrubInfo = ValueOf<typeof SCRUB>
export type ReplicaInfo = ValueOf<typeof REPLICA>

export const healingCommands = (subject: Pick<DataPlane, 'ask'>): Record<string, Command> => ({
  'query-replica': command({
    description: 'The replica, and what may be taken from it',
    returns: REPLICA,
    handler: async () => (await subject.ask('query-replica', {})) as ReplicaInfo,
  }),
  'replica-declare': command({
    description: 'The replica holds what is served, as of now: only what is changed later is not taken from it',
    handler: async () => {
      await subject.ask('replica-declare', {})
    },
  }),
  'query-scrub': command({
    description: 'How far the scrub is, and what it has found',
    returns: SCRUB,
    handler: async () => (await subject.ask('query-scrub', {})) as ScrubInfo,
  }),
  'scrub-start': command({
    description: 'Reads the whole disk in the background and repairs what cannot be read; goes on where one stopped',
    arguments: {
      speed: { kind: 'size', optional: true, description: 'bytes per second, 0: no limit' },
      restart: { kind: 'bool', optional: true, description: 'from the beginning' },
    },
    handler: async (args) => {
      await subject.ask('scrub-start', args)
    },
  }),
  'scrub-stop': command({
    description: 'Stops the scrub and keeps its position',
    handler: async () => {
      await subject.ask('scrub-stop', {})
    },
  }),
})
