/** The command of the control socket that shows the log. It is answered in the control thread, whatever the disks do. */
import { command, type Command } from '../qmp/schema.js'
import { KEPT_LEVELS } from '../util/log.js'
import type { LogRing } from './log-ring.js'

const LIMIT_DEFAULT = 1000
const WAIT_MAX_SECONDS = 60

const LOG = {
  kind: 'object',
  members: {
    entries: {
      kind: 'array',
      of: {
        kind: 'object',
        members: {
          number: { kind: 'size', description: '1, 2, 3, ... since the server was started' },
          time: { kind: 'str' },
          level: { kind: 'enum', values: KEPT_LEVELS },
          message: { kind: 'str' },
          event: { kind: 'str', optional: true, description: 'the name of the event that the entry tells of' },
        },
      },
    },
    first: { kind: 'size', description: 'number of the oldest entry that is kept' },
    last: { kind: 'size', description: 'number of the newest entry' },
  },
} as const

/** What `query-log` returns. */

export const logCommands = (log: LogRing): Record<string, Command> => ({
  'query-log': command({
    description: 'What the server has logged and what events there were; the oldest first',
    arguments: {
      since: { kind: 'size', optional: true, description: 'entries with higher numbers only' },
      limit: {
        kind: 'int',
        min: 1,
        max: LIMIT_DEFAULT,
        optional: true,
        description: `at most, ${LIMIT_DEFAULT} if absent`,
      },
      level: { kind: 'enum', values: KEPT_LEVELS, optional: true, description: 'this one, and what is worse' },
      'wait-seconds': {
        kind: 'int',
        min: 0,
        max: WAIT_MAX_SECONDS,
        optional: true,
        description: 'wait for a new entry',
      },
    },
    returns: LOG,
    handler: async ({ since = 0, limit = LIMIT_DEFAULT, level = 'info', ...args }) => {
      await log.newer(since, (args['wait-seconds'] ?? 0) * 1000)
      return { entries: log.query({ since, limit, level }), first: log.first, last: log.last }
    },
  }),
})
