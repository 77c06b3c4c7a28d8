/** The commands about remaps and their table. Like all others they run in the control thread and ask the data plane. */
import { command, type Command, type ValueOf } from '../qmp/schema.js'
import type { DataPlane } from './data-plane.js'

export const REMAPS_LIMIT_DEFAULT = 1000
/** Ranges of one message; more are sent in several. */
export const BATCH_MESSAGE_RANGES_MAX = 10_000

const REMAPS = {
  kind: 'object',
  members: {
    remaps: {
      kind: 'array',
      of: {
        kind: 'object',
        members: {
          'main-sector': { kind: 'size' },
          'spare-sector': { kind: 'size', description: "counted from the start of the spare's data area" },
          sectors: { kind: 'size' },
          spare: { kind: 'str' },
          state: { kind: 'enum', values: ['remapped', 'lost'] },
        },
      },
    },
    total: { kind: 'size', description: 'number of ranges without from-sector and limit' },
  },
} as const

const LOST = {
  kind: 'object',
  members: {
    lost: {
      kind: 'array',
      of: { kind: 'object', members: { 'main-sector': { kind: 'size' }, sectors: { kind: 'size' } } },
    },
    total: { kind: 'size', description: 'number of ranges without from-sector and limit' },
  },
} as const

const ADDED = {
  kind: 'object',
  members: {
    blocks: { kind: 'size', description: 'number of blocks remapped' },
    skipped: { kind: 'size', description: 'number of blocks left where they were' },
  },
} as const

const REMOVED = {
  kind: 'object',
  members: {
    blocks: { kind: 'size', description: 'number of blocks moved back to the main disk' },
    kept: { kind: 'size', description: 'number of blocks that keep their remap' },
  },
} as const

export const TABLE = {
  kind: 'object',
  members: {
    remaps: { kind: 'size' },
    buckets: { kind: 'size' },
    load: { kind: 'size', description: 'remaps * 100 / buckets' },
    resizes: { kind: 'size' },
    'min-buckets': { kind: 'size' },
    'grow-load': { kind: 'size' },
    'shrink-load': { kind: 'size' },
  },
} as const

/** What `query-remap-table` returns. */
export type RemapTable = ValueOf<typeof TABLE>

const APPENDED = {
  kind: 'object',
  members: { batch: { kind: 'int' }, ranges: { kind: 'size', description: 'number of ranges in it so far' } },
} as const

const RANGE = {
  'main-sector': { kind: 'size' },
  sectors: { kind: 'int', min: 1 },
  'spare-sector': { kind: 'size', optional: true, description: 'where on the spare; wherever there is room if absent' },
  spare: {
    kind: 'str',
    optional: true,
    description: 'name or uuid of the spare that spare-sector counts on; needed when there are several',
  },
  lost: { kind: 'bool', optional: true, description: 'true: the content of these sectors is lost, nobody reads them' },
} as const

const ADD_OPTIONS = {
  copy: { kind: 'bool', optional: true, description: 'false: the blocks read as whatever the spare blocks hold' },
  'skip-remapped': { kind: 'bool', optional: true, description: 'true: leave out blocks that are remapped already' },
} as const

const PAGE = {
  'from-sector': { kind: 'size', optional: true, description: 'leave out ranges that end before it' },
  limit: { kind: 'int', min: 1, optional: true, description: `ranges to return, ${REMAPS_LIMIT_DEFAULT} if absent` },
} as const

export type Remaps = ValueOf<typeof REMAPS>
export type Lost = ValueOf<typeof LOST>
export type Added = ValueOf<typeof ADDED>
export type Removed = ValueOf<typeof REMOVED>
export type Appended = ValueOf<typeof APPENDED>

type Subject = Pick<DataPlane, 'statistics' | 'ask'>

export const remapCommands = (subject: Subject): Record<string, Command> => ({
  ...tableCommands(subject),
  ...listCommands(subject),
  ...changeCommands(subject),
  ...batchCommands(subject),
})

async function tableOf(subject: Subject): Promise<RemapTable> {
  const { remaps, buckets, resizes, bucketsMin, growLoad, shrinkLoad } = await subject.statistics()
  const load = Math.floor((remaps * 100) / buckets)
  return {
    remaps,
    buckets,
    load,
    resizes,
    'min-buckets': bucketsMin,
    'grow-load': growLoad,
    'shrink-load': shrinkLoad,
  }
}

const tableCommands = (subject: Subject): Record<string, Command> => ({
  'query-remap-table': command({
    description: 'Size, load and settings of the remap table',
    returns: TABLE,
    handler: () => tableOf(subject),
  }),
  'remap-table-set': command({
    description: 'Changes the settings of the remap table; it is resized bit by bit',
    arguments: {
      'min-buckets': { kind: 'int', optional: true, description: 'a power of two' },
      'grow-load': { kind: 'int', optional: true, description: 'above this load the buckets double' },
      'shrink-load': { kind: 'int', optional: true, description: 'below this load they halve' },
    },
    returns: TABLE,
    handler: async (args) => {
      await subject.ask('remap-table-set', args)
      return tableOf(subject)
    },
  }),
})

const listCommands = (subject: Subject): Record<string, Command> => ({
  'query-remaps': command({
    description: 'The remaps in the order of the main disk, neighbours joined',
    arguments: PAGE,
    returns: REMAPS,
    handler: async (args) => (await subject.ask('query-remaps', args)) as Remaps,
  }),
  'query-lost': command({
    description: 'The sectors whose content is lost, in the order of the main disk, neighbours joined',
    arguments: PAGE,
    returns: LOST,
    handler: async (args) => (await subject.ask('query-lost', args)) as Lost,
  }),
})

const changeCommands = (subject: Subject): Record<string, Command> => ({
  'remap-add': command({
    description: 'Remaps the blocks that hold these sectors, with their content',
    arguments: { ...RANGE, ...ADD_OPTIONS },
    returns: ADDED,
    handler: async (args) => (await subject.ask('remap-add', args)) as Added,
  }),
  'remap-remove': command({
    description: 'Moves the blocks that hold these sectors back to the main disk, if it takes them',
    arguments: { 'main-sector': { kind: 'size' }, sectors: { kind: 'int', min: 1 } },
    returns: REMOVED,
    handler: async (args) => (await subject.ask('remap-remove', args)) as Removed,
  }),
  'remap-clear': command({
    description: 'Moves all blocks back that the main disk takes',
    returns: REMOVED,
    handler: async () => (await subject.ask('remap-clear', {})) as Removed,
  }),
})

/** Ranges that come in several messages, and are carried out together. */
const batchCommands = (subject: Subject): Record<string, Command> => ({
  'remap-batch-append': command({
    description: 'Adds ranges to a batch, which is carried out by remap-batch-run',
    arguments: {
      batch: { kind: 'int', optional: true, description: 'a new one if absent' },
      ranges: {
        kind: 'array',
        itemsMax: BATCH_MESSAGE_RANGES_MAX,
        of: {
          kind: 'object',
          members: { ...RANGE, line: { kind: 'int', min: 1, optional: true, description: 'for messages' } },
        },
      },
    },
    returns: APPENDED,
    handler: async (args) => (await subject.ask('remap-batch-append', args)) as Appended,
  }),
  'remap-batch-run': command({
    description: 'Remaps all blocks of a batch, or moves them back, or none',
    arguments: {
      batch: { kind: 'int' },
      operation: { kind: 'enum', values: ['add', 'remove'], optional: true, description: 'add if absent' },
      ...ADD_OPTIONS,
    },
    returns: ADDED,
    handler: async (args) => (await subject.ask('remap-batch-run', args)) as Added,
  }),
  'remap-batch-drop': command({
    description: 'Forgets a batch that was not run',
    arguments: { batch: { kind: 'int' } },
    handler: async (args) => {
      await subject.ask('remap-batch-drop', args)
    },
  }),
})
