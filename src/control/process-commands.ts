/**
 * The command of the control socket that tells of the processes of the server. It is for those who watch them from outside,
 * so it is answered whatever the disks do, and before they are open.
 */
import { readFileSync, readlinkSync } from 'node:fs'
import { command, type Command, type ValueOf } from '../qmp/schema.js'
import type { DataPlane } from './data-plane.js'

const PROCESS = {
  kind: 'object',
  members: {
    pid: { kind: 'int', description: 'of the process that serves' },
    'supervisor-pid': {
      kind: 'int',
      optional: true,
      description: 'with --supervise: of the process that starts the other',
    },
    machine: {
      kind: 'str',
      description: 'where these numbers mean something: equal for processes that can signal each other',
    },
    'data-plane': {
      kind: 'enum',
      values: ['starting', 'running', 'stalled'],
      description: 'starting: the disks are not open yet',
    },
    main: { kind: 'str', optional: true, description: 'where the main disk is, once it is open' },
  },
} as const

/** What `query-process` returns. */
export type ServerProcess = ValueOf<typeof PROCESS>

/** Equal in two processes of one boot of one machine that share their process numbers. */
export const thisMachine = (): string =>
  `${readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()} ${readlinkSync('/proc/self/ns/pid')}`

export const processCommands = (
  subject: Pick<DataPlane, 'isOpen' | 'facts' | 'answersAtOnce'>,
  supervisorPid: number | undefined,
): Record<string, Command> => ({
  'query-process': command({
    description: 'Which processes serve, and whether they do; answered while the disks are opened, and while one hangs',
    returns: PROCESS,
    handler: async (): Promise<ServerProcess> => ({
      pid: process.pid,
      ...(supervisorPid !== undefined && { 'supervisor-pid': supervisorPid }),
      machine: thisMachine(),
      'data-plane': !subject.isOpen ? 'starting' : (await subject.answersAtOnce()) ? 'running' : 'stalled',
      ...(subject.isOpen && { main: (await subject.facts).main.location }),
    }),
  }),
})
