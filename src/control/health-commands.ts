/** The command of the control socket that tells the health of the pair. */
import { command, type Command, type ValueOf } from '../qmp/schema.js'
import { HEALTH_FACTORS, HEALTH_STATUSES } from './health.js'
import { TRENDS, type WatchedHealth } from './health-watch.js'

export const HEALTH = {
  kind: 'object',
  members: {
    score: { kind: 'int', description: 'from 0 to 100' },
    status: { kind: 'enum', values: HEALTH_STATUSES },
    trend: { kind: 'enum', values: TRENDS },
    'score-before': { kind: 'int', description: 'an hour ago, or at the start' },
    reasons: {
      kind: 'array',
      of: {
        kind: 'object',
        members: {
          factor: { kind: 'enum', values: HEALTH_FACTORS },
          points: { kind: 'int' },
          text: { kind: 'str' },
        },
      },
    },
    'failed-blocks-per-day': { kind: 'number', description: 'at the present rate' },
    'days-left': { kind: 'number', optional: true, description: 'until no spare block is left, at that rate' },
  },
} as const

/** What `query-health` returns. */
export type HealthReply = ValueOf<typeof HEALTH>

/** @param look how it is now */
export const healthCommands = (look: () => Promise<WatchedHealth>): Record<string, Command> => ({
  'query-health': command({
    description: 'How well the pair is, and why',
    returns: HEALTH,
    handler: async () => describe(await look()),
  }),
})

function describe({
  score,
  status,
  trend,
  scoreBefore,
  reasons,
  failedBlocksPerDay,
  daysLeft,
}: WatchedHealth): HealthReply {
  return {
    score,
    status,
    trend,
    'score-before': scoreBefore,
    reasons,
    'failed-blocks-per-day': failedBlocksPerDay,
    ...(daysLeft !== undefined && { 'days-left': daysLeft }),
  }
}
