/**
 * The commands of the control socket: one table of name, arguments, result and handler. They run in the control thread.
 * Those that need the disks are carried out by the data plane, see operations.ts.
 */
import { silentLog, type Log } from '../util/log.js'
import { command, type CommandTable, type ValueOf } from '../qmp/schema.js'
import type { DataPlane } from './data-plane.js'
import { deviceCommands } from './device-commands.js'
import { errorCommands } from './error-commands.js'
import { faultCommands } from './fault-commands.js'
import { healingCommands } from './healing-commands.js'
import { healthCommands } from './health-commands.js'
import type { WatchedHealth } from './health-watch.js'
import { logCommands } from './log-commands.js'
import { metadataCommands } from './metadata-commands.js'
import { processCommands } from './process-commands.js'
import { remapCommands } from './remap-commands.js'
import { SPARE, spareCommands } from './spare-commands.js'
import { statisticsCommands } from './statistics-commands.js'

/** What the commands act on. */
export type ControlSubject = Pick<
  DataPlane,
  'isOpen' | 'facts' | 'statistics' | 'clients' | 'spares' | 'state' | 'answersAtOnce' | 'ask' | 'log'
>

const DISK = {
  name: { kind: 'str' },
  location: { kind: 'str', description: 'with the whole path' },
  size: { kind: 'size' },
} as const
export const STATUS = {
  kind: 'object',
  members: {
    status: { kind: 'enum', values: ['running'] },
    'data-plane': { kind: 'enum', values: ['running', 'stalled'], description: 'stalled: a disk hangs' },
    pid: { kind: 'int' },
    version: { kind: 'str' },
    'started-at': { kind: 'str' },
    'read-only': { kind: 'bool' },
    suspended: { kind: 'bool', description: 'true: requests are held until it is resumed' },
    uri: { kind: 'str' },
    'export-name': { kind: 'str' },
    'block-size': { kind: 'size' },
    main: { kind: 'object', members: DISK },
    spares: { kind: 'array', of: SPARE },
    remaps: { kind: 'size' },
    clients: {
      kind: 'array',
      of: {
        kind: 'object',
        members: {
          id: { kind: 'int' },
          address: { kind: 'str' },
          'export-name': { kind: 'str' },
          since: { kind: 'str' },
          'requests-in-flight': { kind: 'size' },
        },
      },
    },
  },
} as const

const RELOADED = {
  kind: 'object',
  members: {
    changed: { kind: 'array', of: { kind: 'str' }, description: 'options that have another value from now on' },
    'needs-restart': {
      kind: 'array',
      of: { kind: 'str' },
      description: 'options that differ from what is in force, and cannot change before a restart',
    },
  },
} as const

/** What `query-status` returns. */
export type ServerStatus = ValueOf<typeof STATUS>

/**
 * @param look how healthy the pair is now
 * @param supervisorPid with `--supervise`
 */
export function controlCommands(
  subject: ControlSubject,
  look: () => Promise<WatchedHealth>,
  log: Log = silentLog,
  supervisorPid?: number,
): CommandTable {
  return {
    'query-status': command({
      description: 'The disk pair, the export and its clients',
      returns: STATUS,
      handler: () => queryStatus(subject),
    }),
    ...processCommands(subject, supervisorPid),
    ...statisticsCommands(subject),
    ...errorCommands(subject),
    ...healthCommands(look),
    ...remapCommands(subject),
    ...spareCommands(subject),
    ...healingCommands(subject),
    ...faultCommands(subject),
    ...deviceCommands(subject, look, log),
    ...metadataCommands(subject),
    ...logCommands(subject.log),
    reload: command({
      description: 'Reads the configuration file again, and changes what can be changed while clients go on',
      returns: RELOADED,
      handler: async () => (await subject.ask('reload', {})) as ValueOf<typeof RELOADED>,
    }),
    quit: command({
      description: 'Finishes what is in flight, flushes, marks the metadata clean and exits',
      handler: async () => {
        await subject.ask('quit', {})
      },
    }),
  }
}

async function queryStatus(subject: ControlSubject): Promise<ServerStatus> {
  const { main, ...facts } = await subject.facts
  const state = await subject.state()
  const { remaps, suspended } = await subject.statistics()
  return {
    status: 'running',
    'data-plane': state,
    pid: process.pid,
    version: facts.version,
    'started-at': facts.startedAt.toISOString(),
    'read-only': facts.readOnly,
    suspended: suspended === 1,
    uri: facts.uri,
    'export-name': facts.exportName,
    'block-size': facts.blockSize,
    main: { name: main.name, location: main.location, size: main.size },
    spares: [...subject.spares],
    remaps,
    clients: subject.clients.map((client) => ({
      id: client.id,
      address: client.address,
      'export-name': client.exportName,
      since: client.since.toISOString(),
      'requests-in-flight': client.requestsInFlight,
    })),
  }
}
