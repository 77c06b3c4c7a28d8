/** The commands of the control socket: one table of name, arguments, result and handler. */
import { addRemaps, listRemaps, RemapRequestError, type RemapRange } from '../remap/admin.js'
import type { ReadPolicy } from '../remap/policy.js'
import type { Pair } from '../remap/pair.js'
import { command, type CommandTable, type ValueOf } from '../qmp/schema.js'
import { QmpReplyError } from '../qmp/error.js'
import { describeSpares, SPARE, spareCommands } from './spare-commands.js'

/** A client of the NBD server, as the status shows it. */
export interface NbdClient {
  readonly id: number
  readonly address: string
  readonly exportName: string
  readonly since: Date
  readonly requestsInFlight: number
}

/** What the commands act on. */
export interface ControlSubject {
  readonly pair: Pair
  readonly policy: ReadPolicy
  readonly version: string
  readonly exportName: string
  readonly uri: string
  readonly startedAt: Date
  nbdClients(): readonly NbdClient[]
  /** Begins a graceful stop and returns at once. */
  quit(): void
}

const REMAPS_LIMIT_DEFAULT = 1000

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
    pid: { kind: 'int' },
    version: { kind: 'str' },
    'started-at': { kind: 'str' },
    'read-only': { kind: 'bool' },
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
    'failed-requests': { kind: 'size', description: 'requests that were answered with an error' },
    'uptime-seconds': { kind: 'number' },
  },
} as const

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
  const { target } = subject.pair
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
      handler: () => ({
        remaps: target.table.count,
        buckets: target.table.buckets,
        load: target.table.load,
        resizes: target.table.resizes,
      }),
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
      returns: {
        kind: 'object',
        members: {
          remaps: { kind: 'array', of: { kind: 'object', members: RANGE } },
          total: { kind: 'size', description: 'number of ranges without from-sector and limit' },
        },
      },
      handler: (args) => {
        const ranges = listRemaps(target)
        const from = args['from-sector'] ?? 0
        const wanted = ranges.filter((range) => range.mainSector + range.sectors > from)
        const limited = wanted.slice(0, args.limit ?? REMAPS_LIMIT_DEFAULT)
        return { remaps: limited.map(describe), total: ranges.length }
      },
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
        spare: {
          kind: 'str',
          optional: true,
          description: 'name or uuid of the spare that spare-sector counts on; needed when there are several',
        },
        copy: { kind: 'bool', optional: true, description: 'false: the blocks read as whatever the spare blocks hold' },
      },
      returns: { kind: 'object', members: { blocks: { kind: 'size', description: 'number of blocks remapped' } } },
      handler: async (args) => {
        if (target.readOnly) throw new QmpReplyError('the pair is served read-only')
        const request = {
          mainSector: args['main-sector'],
          sectors: args.sectors,
          spareSector: args['spare-sector'],
          spare: args.spare,
          copy: args.copy ?? true,
        }
        try {
          return { blocks: await addRemaps(target, request, subject.policy) }
        } catch (error) {
          if (error instanceof RemapRequestError) throw new QmpReplyError(error.message)
          throw error
        }
      },
    }),
    ...spareCommands(subject),
    quit: command({
      description: 'Finishes what is in flight, flushes, marks the metadata clean and exits',
      handler: () => {
        subject.quit()
      },
    }),
  }
}

function queryStatus(subject: ControlSubject): ValueOf<typeof STATUS> {
  const { target } = subject.pair
  return {
    status: 'running',
    pid: process.pid,
    version: subject.version,
    'started-at': subject.startedAt.toISOString(),
    'read-only': target.readOnly,
    uri: subject.uri,
    'export-name': subject.exportName,
    'block-size': target.pool.blockSize,
    main: { name: target.main.name, size: target.main.size },
    spares: describeSpares(subject.pair),
    remaps: target.table.count,
    clients: subject.nbdClients().map((client) => ({
      id: client.id,
      address: client.address,
      'export-name': client.exportName,
      since: client.since.toISOString(),
      'requests-in-flight': client.requestsInFlight,
    })),
  }
}

function queryStats({ pair, startedAt }: ControlSubject): ValueOf<typeof STATISTICS> {
  const { statistics } = pair.target
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
    'failed-requests': statistics.failedRequests,
    'uptime-seconds': (Date.now() - startedAt.getTime()) / 1000,
  }
}

const describe = (range: RemapRange): ValueOf<{ kind: 'object'; members: typeof RANGE }> => ({
  'main-sector': range.mainSector,
  'spare-sector': range.spareSector,
  sectors: range.sectors,
  spare: range.spare,
  state: range.state,
})
