/**
 * The words of fault injection: one rule says on which disk, where, for which requests, when, and what is done. QMP's
 * `inject-error`, `nbd-remap inject`, the files of `serve --faults`, scenario files and the translation to blkdebug all
 * speak it. Described with QMP's types, so that types, checks, introspection and the table in docs/FAULTS.md are one.
 */
import type { QmpMembers, ValueOf } from '../qmp/schema.js'

export const FAULT_DISKS = ['main', 'spare', 'spare-metadata', 'spare-data', 'replica'] as const
export type FaultDisk = (typeof FAULT_DISKS)[number]

export const FAULT_OPERATIONS = ['read', 'write', 'trim', 'write-zeroes', 'flush'] as const
export type FaultOperation = (typeof FAULT_OPERATIONS)[number]

export const FAULT_EFFECTS = [
  'error',
  'delay',
  'hang',
  'corrupt',
  'tear',
  'lie',
  'gone',
  'drop-connection',
  'ageing',
] as const
export type FaultEffect = (typeof FAULT_EFFECTS)[number]

/** What a request of a disk can fail with, see `DeviceErrorCode`. */
export const FAULT_ERRNOS = [
  'EIO',
  'EPERM',
  'ENOMEM',
  'EINVAL',
  'ENOSPC',
  'EOVERFLOW',
  'ENOTSUP',
  'ESHUTDOWN',
  'ENODEV',
  'ETIMEDOUT',
] as const
export type FaultErrno = (typeof FAULT_ERRNOS)[number]

export const DISTRIBUTIONS = ['fixed', 'uniform', 'exponential', 'pareto', 'percentiles'] as const
export const CORRUPTIONS = ['bit-flip', 'zeros', 'garbage', 'stale', 'misdirected'] as const
export const TEARINGS = ['scattered', 'prefix'] as const
export const MAP_FORMATS = ['badblocks', 'ddrescue'] as const

export const GROWTH = {
  kind: 'object',
  members: {
    sectors: { kind: 'int', min: 1, description: 'so many more each time' },
    'every-requests': {
      kind: 'int',
      min: 1,
      optional: true,
      description: 'each time the disk has had so many requests',
    },
    'every-ms': {
      kind: 'int',
      min: 1,
      optional: true,
      description: 'each time so many milliseconds have passed: goes by the clock, so a second run is not the same',
    },
    'up-to': { kind: 'size', optional: true, description: 'no further than so many sectors in all' },
    where: {
      kind: 'enum',
      values: ['edges', 'anywhere'],
      optional: true,
      description: 'edges (default): what is bad grows at its ends; anywhere: new places within the disk, or `within`',
    },
  },
} as const

/** The members of a rule, in the order in which people read them. All are optional: `{}` is a main disk that fails. */
export const FAULT_MEMBERS = {
  id: { kind: 'str', optional: true, description: 'a name of its own; fault-1, fault-2, ... if absent' },
  disk: {
    kind: 'enum',
    values: FAULT_DISKS,
    optional: true,
    description: 'main (default); spare: all of it; spare-metadata, spare-data: that part of it alone; replica',
  },
  index: { kind: 'size', optional: true, description: 'which spare, from 0; every spare if absent' },

  sector: { kind: 'size', optional: true, description: 'the first of `count` sectors' },
  count: { kind: 'int', min: 1, optional: true, description: 'sectors from `sector` on; 1 if absent' },
  sectors: {
    kind: 'any',
    optional: true,
    description: 'a list: 2048, "4096-4103", "2048,4096-4103" or [2048, "4096-4103"]',
  },
  'random-sectors': { kind: 'int', min: 1, optional: true, description: 'so many single sectors, drawn by the seed' },
  percent: {
    kind: 'number',
    optional: true,
    description: 'this share of the disk, in clusters of `cluster-sectors`, drawn by the seed',
  },
  clusters: {
    kind: 'int',
    min: 1,
    optional: true,
    description: 'so many clusters of `cluster-sectors`, drawn by the seed',
  },
  'cluster-sectors': { kind: 'int', min: 1, optional: true, description: 'sectors of a cluster; 8 if absent' },
  within: {
    kind: 'str',
    optional: true,
    description: 'FIRST-LAST: what is drawn, or grows, lies in these sectors',
  },
  map: { kind: 'str', optional: true, description: 'the text of a badblocks list or a ddrescue map' },
  'map-file': {
    kind: 'str',
    optional: true,
    description: 'such a file, read once, when the rule is made, by whoever makes it',
  },
  'map-format': { kind: 'enum', values: MAP_FORMATS, optional: true, description: 'guessed if absent' },
  'map-unit': {
    kind: 'int',
    min: 512,
    optional: true,
    description: 'of a badblocks list: its block size; 1024 if absent',
  },
  'map-statuses': {
    kind: 'str',
    optional: true,
    description: 'of a ddrescue map: areas with one of these; -*/ if absent',
  },

  operations: {
    kind: 'array',
    of: { kind: 'enum', values: FAULT_OPERATIONS },
    optional: true,
    description: 'which requests; if absent those that go with the effect',
  },
  effect: { kind: 'enum', values: FAULT_EFFECTS, optional: true, description: 'what is done to them; error if absent' },
  after: { kind: 'size', optional: true, description: 'so many requests that it is for pass first' },
  times: { kind: 'int', min: 1, optional: true, description: 'it strikes so often, then no more' },
  probability: { kind: 'number', optional: true, description: 'from 0 to 1, for each request; 1 if absent' },
  'heals-on-write': {
    kind: 'bool',
    optional: true,
    description: 'sectors that are written whole are good again, as in a drive that reallocates them',
  },
  grow: { ...GROWTH, optional: true, description: 'it spreads' },
  seed: {
    kind: 'str',
    optional: true,
    description: 'what it draws from; made of the seed of the server and its id if absent',
  },

  errno: { kind: 'enum', values: FAULT_ERRNOS, optional: true, description: 'of error: EIO if absent' },
  'delay-ms': {
    kind: 'number',
    optional: true,
    description:
      'of delay: how long, the least, or the mean, as the distribution has it; of ageing: of the slowest read',
  },
  'delay-max-ms': { kind: 'number', optional: true, description: 'of delay: never longer' },
  distribution: {
    kind: 'enum',
    values: DISTRIBUTIONS,
    optional: true,
    description:
      'of delay: fixed (default); uniform up to `delay-max-ms`; exponential with that mean; pareto from that on; percentiles',
  },
  shape: { kind: 'number', optional: true, description: 'of a pareto distribution: its alpha; 1.5 if absent' },
  percentiles: {
    kind: 'array',
    of: { kind: 'object', members: { percent: { kind: 'number' }, ms: { kind: 'number' } } },
    optional: true,
    description:
      'of delay: what so many percent of the requests do not exceed, ascending; in between it is interpolated',
  },
  'duration-ms': {
    kind: 'int',
    min: 1,
    optional: true,
    description: 'of hang and gone: so long, by the clock; until it is cleared if absent',
  },
  corruption: {
    kind: 'enum',
    values: CORRUPTIONS,
    optional: true,
    description:
      'of corrupt: bit-flip (default), zeros, garbage; stale: a write is acknowledged and not done; misdirected: it goes to, or comes from, another place',
  },
  bits: { kind: 'int', min: 1, optional: true, description: 'of bit-flip: in each sector; 1 if absent' },
  tearing: {
    kind: 'enum',
    values: TEARINGS,
    optional: true,
    description: 'of tear: which sectors reach the disk: scattered (default), any of them; prefix, the first ones',
  },
  acknowledge: { kind: 'bool', optional: true, description: 'of tear: the write succeeds all the same' },
  'kept-percent': {
    kind: 'number',
    optional: true,
    description: 'of lie: so many percent of the sectors reach the disk all the same; 0 if absent',
  },
  connection: {
    kind: 'enum',
    values: ['upstream', 'clients'],
    optional: true,
    description:
      'of drop-connection: upstream (default), to the NBD server that has the disk; clients, those of all NBD clients',
  },
  'slow-after': {
    kind: 'size',
    optional: true,
    description: 'of ageing: requests of the disk until reads slow down; 0 if absent',
  },
  'weak-after': {
    kind: 'size',
    optional: true,
    description: 'of ageing: until half of the reads fail; 1000 if absent',
  },
  'bad-after': { kind: 'size', optional: true, description: 'of ageing: until all fail, writes too; 2000 if absent' },
} as const satisfies QmpMembers

export const FAULT_RULE = { kind: 'object', members: FAULT_MEMBERS } as const
/** One rule, as people and programs write it. */
export type FaultRule = ValueOf<typeof FAULT_RULE>
export type FaultMember = keyof typeof FAULT_MEMBERS

/** What the files of `serve --faults` and `inject --from` hold. */
export const FAULT_FILE_MEMBERS = {
  seed: { kind: 'str', optional: true },
  rules: { kind: 'array', of: FAULT_RULE },
} as const satisfies QmpMembers

interface EffectDescription {
  /** Which operations it is for when the rule names none. */
  readonly operations: readonly FaultOperation[]
  /** Which it can be for at all. */
  readonly possible: readonly FaultOperation[]
  /** Members that go with it alone, or with a few. */
  readonly members: readonly FaultMember[]
  readonly description: string
}

const ALL = FAULT_OPERATIONS
const DATA = ['read', 'write', 'trim', 'write-zeroes'] as const

export const EFFECTS: Readonly<Record<FaultEffect, EffectDescription>> = {
  error: {
    operations: DATA,
    possible: ALL,
    members: ['errno'],
    description: 'the request fails, and the disk below is not touched',
  },
  delay: {
    operations: ALL,
    possible: ALL,
    members: ['delay-ms', 'delay-max-ms', 'distribution', 'shape', 'percentiles'],
    description: 'the request takes longer; further rules may strike it afterwards',
  },
  hang: {
    operations: ALL,
    possible: ALL,
    members: ['duration-ms'],
    description: 'the request is not answered until the rule is cleared, or its time is over; then it is carried out',
  },
  corrupt: {
    operations: ['read'],
    possible: ['read', 'write'],
    members: ['corruption', 'bits'],
    description: 'silently other data: reads bring it, writes put it on the disk; further rules may strike, too',
  },
  tear: {
    operations: ['write'],
    possible: ['write'],
    members: ['tearing', 'acknowledge'],
    description: 'some sectors of the write reach the disk, the others do not, and it fails',
  },
  lie: {
    operations: ['write', 'write-zeroes', 'flush'],
    possible: ['write', 'write-zeroes', 'flush'],
    members: ['kept-percent'],
    description:
      'writes are acknowledged and kept in memory, and so are flushes unless `operations` leaves them out; what is held is lost in a power cut',
  },
  gone: {
    operations: ALL,
    possible: ALL,
    members: ['duration-ms'],
    description:
      'the disk is unplugged: every request fails with ENODEV until the rule is cleared, or its time or `times` is over',
  },
  'drop-connection': {
    operations: ALL,
    possible: ALL,
    members: ['connection'],
    description: 'a connection is cut, and the request goes its way; `times` is 1 if absent',
  },
  ageing: {
    operations: ['read', 'write', 'write-zeroes'],
    possible: ['read', 'write', 'write-zeroes'],
    members: ['delay-ms', 'slow-after', 'weak-after', 'bad-after', 'errno'],
    description: 'sectors get slow, then need retries, then fail, as the disk is used; with `grow` they become more',
  },
}
