/**
 * The commands of the control socket: one table of name, arguments, result and handler. They run in the control thread.
 * Those that need the disks are carried out by the data plane, see operations.ts.
 */
import { command, type CommandTable, type ValueOf } from '../qmp/schema.js'
import type { DataPlane } from './data-plane.js'

/** What the commands act on. */
export type ControlSubject = Pick<DataPlane, 'facts' | 'statistics' | 'clients' | 'state' | 'ask'>

export const REMAPS_LIMIT_DEFAULT = 1000

const DISK = { name: { kind: 'str' }, size: { kind: 'size' } } as const
const RANGE = {
  'main-sector': { kind: 'size' },
  'spare-sector': { kind: 'size', description: "counted from the start of the spare's data area" },
  sectors: { kind: 'size' },
  spare: { kind: 'str' },
  state: { kind: 'enum', values: ['remapped', 'lost'] },
} as const

const STATUS = {
  kind: 'object',
  members: {
    status: { kind: 'enum', values: ['running'] },
    'data-plane': { kind: 'enum', values: ['running', 'stalled'], description: 'stalled: a disk hangs' },
    pid: { kind: 'int' },
    version: { kind: 'str' },
    'started-at': { kind: 'str' },
    'read-only': { kind: 'bool' },
    uri: { kind: 'str' },
    'export-name': { kind: 'str' },
    'block-size': { kind: 'size' },
    main: { kind: 'object', members: DISK },
    spare: {
      kind: 'object',
      members: { ...DISK, 'total-blocks': { kind: 'size' }, 'free-blocks': { kind: 'size' }, uuid: { kind: 'str' } },
    },
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

const STATISTICS = {
  kind: 'object',
  members: {
    reads: { kind: 'size' },
    writes: { kind: 'size' },
    flushes: { kind: 'size' },
    trims: { kind: 'size' },
    'write-zeroes': { kind: 'size' },
    'bytes-read': { kind: 'size' },
    'bytes-written': { kind: 'size' },
    'remapped-requests': { kind: 'size', description: 'requests near a remapped block' },
    'main-read-errors': { kind: 'size', description: 'blocks of the main disk that failed to read' },
    'main-write-errors': { kind: 'size', description: 'blocks of the main disk that failed to write' },
    'spare-errors': { kind: 'size', description: 'blocks of the spare that failed' },
    'slow-reads': { kind: 'size', description: 'reads of the main disk that took longer than --slow-read' },
    'retried-reads': { kind: 'size', description: 'blocks that were read only when tried again' },
    'failed-requests': { kind: 'size', description: 'requests that were answered with an error' },
    'uptime-seconds': { kind: 'number' },
  },
} as const

const REMAPS = {
  kind: 'object',
  members: {
    remaps: { kind: 'array', of: { kind: 'object', members: RANGE } },
    total: { kind: 'size', description: 'number of ranges without from-sector and limit' },
  },
} as const

const ADDED = {
  kind: 'object',
  members: { blocks: { kind: 'size', description: 'number of blocks remapped' } },
} as const

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

export type Remaps = ValueOf<typeof REMAPS>
export type Added = ValueOf<typeof ADDED>

const TABLE = {
  kind: 'object',
  members: {
    remaps: { kind: 'size' },
    buckets: { kind: 'size' },
    load: { kind: 'size', description: 'remaps * 100 / buckets' },
    resizes: { kind: 'size' },
  },
} as const

export function controlCommands(subject: ControlSubject): CommandTable {
  return {
    'query-status': command({
      description: 'The disk pair, the export and its clients',
      returns: STATUS,
      handler: () => queryStatus(subject),
    }),
    'query-stats': command({
      description: 'Counters since the server was started',
      returns: STATISTICS,
      handler: () => queryStats(subject),
    }),
    'query-remap-table': command({
      description: 'Size and load of the remap table',
      returns: TABLE,
      handler: async () => {
        const { remaps, buckets, resizes } = await subject.statistics()
        return { remaps, buckets, load: Math.floor((remaps * 100) / buckets), resizes }
      },
    }),
    'query-remaps': command({
      description: 'The remaps in the order of the main disk, neighbours joined',
      arguments: {
        'from-sector': { kind: 'size', optional: true, description: 'leave out ranges that end before it' },
        limit: {
          kind: 'int',
          min: 1,
          optional: true,
          description: `ranges to return, ${REMAPS_LIMIT_DEFAULT} if absent`,
        },
      },
      returns: REMAPS,
      handler: async (args) => (await subject.ask('query-remaps', args)) as Remaps,
    }),
    'remap-add': command({
      description: 'Remaps the blocks that hold these sectors, with their content',
      arguments: {
        'main-sector': { kind: 'size' },
        sectors: { kind: 'int', min: 1 },
        'spare-sector': {
          kind: 'size',
          optional: true,
          description: 'where on the spare; wherever there is room if absent',
        },
        copy: { kind: 'bool', optional: true, description: 'false: the blocks read as whatever the spare blocks hold' },
      },
      returns: ADDED,
      handler: async (args) => (await subject.ask('remap-add', args)) as Added,
    }),
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
    quit: command({
      description: 'Finishes what is in flight, flushes, marks the metadata clean and exits',
      handler: async () => {
        await subject.ask('quit', {})
      },
    }),
  }
}

async function queryStatus(subject: ControlSubject): Promise<ValueOf<typeof STATUS>> {
  const { main, spare, ...facts } = await subject.facts
  const state = await subject.state()
  const { remaps, freeBlocks } = await subject.statistics()
  return {
    status: 'running',
    'data-plane': state,
    pid: process.pid,
    version: facts.version,
    'started-at': facts.startedAt.toISOString(),
    'read-only': facts.readOnly,
    uri: facts.uri,
    'export-name': facts.exportName,
    'block-size': facts.blockSize,
    main,
    spare: {
      name: spare.name,
      size: spare.size,
      'total-blocks': spare.totalBlocks,
      'free-blocks': freeBlocks,
      uuid: spare.uuid,
    },
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

async function queryStats(subject: ControlSubject): Promise<ValueOf<typeof STATISTICS>> {
  const { startedAt } = await subject.facts
  const statistics = await subject.statistics()
  return {
    reads: statistics.reads,
    writes: statistics.writes,
    flushes: statistics.flushes,
    trims: statistics.trims,
    'write-zeroes': statistics.writeZeroes,
    'bytes-read': statistics.bytesRead,
    'bytes-written': statistics.bytesWritten,
    'remapped-requests': statistics.remappedRequests,
    'main-read-errors': statistics.mainReadErrors,
    'main-write-errors': statistics.mainWriteErrors,
    'spare-errors': statistics.spareErrors,
    'slow-reads': statistics.slowReads,
    'retried-reads': statistics.retriedReads,
    'failed-requests': statistics.failedRequests,
    'uptime-seconds': (Date.now() - startedAt.getTime()) / 1000,
  }
}
