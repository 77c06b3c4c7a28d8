/** The events of the control socket, for its schema. Their data is documented in `remap/events.ts`. */
import type { EventTable } from '../qmp/schema.js'
import { FAULT_ENTRY_MEMBERS } from './fault-entry.js'
import { HEALTH_STATUSES } from './health.js'
import type { KeptLevel } from '../util/log.js'

/** What an operator should be warned of. The other events write lines of their own into the log. */
const WARNINGS: ReadonlySet<string> = new Set([
  'REMAP_ADDED',
  'IO_ERROR',
  'IO_TIMEOUT',
  'SPARE_LOW',
  'SPARE_EXHAUSTED',
  'CLIENT_ERROR',
  'OWNERSHIP_LOST',
])

export const isWarning = (event: string): boolean => WARNINGS.has(event)
export const levelOf = (event: string): KeptLevel => (isWarning(event) ? 'warn' : 'info')

const FAULT = {
  kind: 'size',
  optional: true,
  description: 'its number in query-fault-log, when it was injected',
} as const
const DISK = ['main', 'spare']
const SCRUB = {
  position: { kind: 'size' },
  size: { kind: 'size' },
  'healed-blocks': { kind: 'size' },
  'lost-sectors': { kind: 'size' },
} as const
const GUARDED_DISK = ['main', 'spare', 'replica']
const METADATA_COPIES = {
  spare: { kind: 'str' },
  structure: { kind: 'enum', values: ['header', 'slot-page'] },
  number: { kind: 'size' },
  copies: { kind: 'array', of: { kind: 'int' } },
  reason: { kind: 'str' },
} as const

export const CONTROL_EVENTS = {
  REMAP_ADDED: {
    description: 'A block is served from the spare from now on',
    data: {
      'main-sector': { kind: 'size' },
      spare: { kind: 'str' },
      'spare-sector': { kind: 'size' },
      sectors: { kind: 'size' },
      reason: {
        kind: 'enum',
        values: ['write-error', 'read-error', 'weak', 'operator', 'spare-error', 'spare-removed', 'replica'],
      },
      'lost-sectors': { kind: 'size' },
    },
  },
  REMAP_REMOVED: {
    description: 'Blocks are served from the main disk again',
    data: {
      'main-sector': { kind: 'size' },
      spare: { kind: 'str' },
      'spare-sector': { kind: 'size' },
      sectors: { kind: 'size' },
    },
  },
  REMAP_BATCH: {
    description: 'So many ranges were remapped or moved back at once that each one is not announced',
    data: {
      operation: { kind: 'enum', values: ['add', 'remove'] },
      ranges: { kind: 'size' },
      blocks: { kind: 'size' },
    },
  },
  REMAP_PROGRESS: {
    description: 'Remapping or moving back takes longer than two seconds',
    data: {
      operation: { kind: 'enum', values: ['add', 'remove'] },
      phase: { kind: 'enum', values: ['copying', 'changing-over'] },
      'done-blocks': { kind: 'size' },
      'total-blocks': { kind: 'size' },
    },
  },
  IO_ERROR: {
    description: 'A disk failed a request',
    data: {
      disk: { kind: 'enum', values: DISK },
      operation: { kind: 'str' },
      sector: { kind: 'size' },
      sectors: { kind: 'size' },
      error: { kind: 'str' },
      action: { kind: 'enum', values: ['remapped', 'recovered', 'report'] },
      fault: FAULT,
    },
  },
  IO_TIMEOUT: {
    description: 'A disk has not answered a request in time',
    data: {
      disk: { kind: 'enum', values: GUARDED_DISK },
      name: { kind: 'str' },
      operation: { kind: 'str' },
      sector: { kind: 'size' },
      sectors: { kind: 'size' },
      seconds: { kind: 'number' },
      hangs: { kind: 'bool' },
      fault: FAULT,
    },
  },
  DISK_RESPONDS: {
    description: 'A disk that hung has answered something',
    data: { disk: { kind: 'enum', values: GUARDED_DISK }, name: { kind: 'str' } },
  },
  SCRUB_STARTED: { description: 'A scrub begins, or goes on', data: { ...SCRUB, speed: { kind: 'size' } } },
  SCRUB_STOPPED: { description: 'A scrub is not finished, but can go on', data: { ...SCRUB, error: { kind: 'str' } } },
  SCRUB_COMPLETED: { description: 'A scrub has read the whole disk', data: SCRUB },
  TABLE_RESIZED: {
    description: 'The remap table changed its number of buckets',
    data: { from: { kind: 'size' }, to: { kind: 'size' }, remaps: { kind: 'size' } },
  },
  SPARE_LOW: {
    description: 'Few spare blocks are left (serve --spare-low)',
    data: { 'free-blocks': { kind: 'size' }, 'total-blocks': { kind: 'size' } },
  },
  SPARE_EXHAUSTED: {
    description: 'A bad block found no free spare block, and its request failed',
    data: { 'total-blocks': { kind: 'size' } },
  },
  SPARE_ADDED: {
    description: 'A spare is in the pool from now on',
    data: { spare: { kind: 'str' }, uuid: { kind: 'str' }, 'total-blocks': { kind: 'size' } },
  },
  SPARE_REMOVED: {
    description: 'A spare holds nothing any more and has left the pool; its disk is closed',
    data: { spare: { kind: 'str' }, uuid: { kind: 'str' }, 'moved-blocks': { kind: 'size' } },
  },
  SPARE_REMOVAL_FAILED: {
    description: 'A spare that was to be removed stays in the pool',
    data: {
      spare: { kind: 'str' },
      uuid: { kind: 'str' },
      reason: { kind: 'str' },
      'remaining-blocks': { kind: 'size' },
    },
  },
  OWNERSHIP_LOST: {
    description: 'Another server has taken the pair over: this one writes nothing any more, and ends',
    data: { spare: { kind: 'str' }, reason: { kind: 'str' } },
  },
  METADATA_REPAIRED: {
    description: 'Copies of the metadata were damaged or stale and have been rewritten',
    data: METADATA_COPIES,
  },
  METADATA_DAMAGED: {
    description: 'Copies of the metadata are damaged or stale, and cannot be rewritten',
    data: METADATA_COPIES,
  },
  METADATA_PROGRESS: {
    description: 'Checking the metadata takes longer than two seconds',
    data: {
      operation: { kind: 'enum', values: ['verify', 'repair'] },
      spare: { kind: 'str' },
      'done-pages': { kind: 'size' },
      'total-pages': { kind: 'size' },
    },
  },
  HEALTH_CHANGED: {
    description: 'The health of the pair is another one',
    data: {
      score: { kind: 'int' },
      status: { kind: 'enum', values: HEALTH_STATUSES },
      'score-before': { kind: 'int' },
      'status-before': { kind: 'enum', values: HEALTH_STATUSES },
      reasons: { kind: 'array', of: { kind: 'str' } },
    },
  },
  CLIENT_CONNECTED: {
    description: 'An NBD client finished its handshake',
    data: { id: { kind: 'int' }, address: { kind: 'str' }, 'export-name': { kind: 'str' } },
  },
  CLIENT_ERROR: {
    description: 'A client was told that its request failed: neither a spare nor a replica could help',
    data: {
      id: { kind: 'int' },
      'export-name': { kind: 'str' },
      operation: { kind: 'enum', values: ['read', 'write', 'flush', 'trim', 'write-zeroes', 'block-status'] },
      sector: { kind: 'size' },
      sectors: { kind: 'size' },
      error: { kind: 'str' },
      reply: { kind: 'str' },
      'blocks-needed': { kind: 'size', optional: true },
      untold: { kind: 'size' },
      fault: FAULT,
    },
  },
  FAULT_INJECTED: {
    description: 'A rule of inject-error has struck a request; of many at once only some are told',
    data: {
      ...FAULT_ENTRY_MEMBERS,
      untold: { kind: 'size' },
    },
  },
  CLIENT_DISCONNECTED: {
    description: 'An NBD client is gone',
    data: { id: { kind: 'int' }, address: { kind: 'str' }, 'export-name': { kind: 'str' } },
  },
} as const satisfies EventTable
