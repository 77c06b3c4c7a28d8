/** The events of the control socket, for its schema. Their data is documented in `remap/events.ts`. */
import type { EventTable } from '../qmp/schema.js'

const DISK = ['main', 'spare']
const SCRUB = {
  position: { kind: 'size' },
  size: { kind: 'size' },
  'healed-blocks': { kind: 'size' },
  'lost-sectors': { kind: 'size' },
} as const
const GUARDED_DISK = ['main', 'replica']

export const CONTROL_EVENTS = {
  REMAP_ADDED: {
    description: 'A block is served from the spare from now on',
    data: {
      'main-sector': { kind: 'size' },
      'spare-sector': { kind: 'size' },
      sectors: { kind: 'size' },
      reason: { kind: 'enum', values: ['write-error', 'read-error', 'weak', 'operator', 'spare-error', 'replica'] },
      'lost-sectors': { kind: 'size' },
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
    },
  },
  IO_TIMEOUT: {
    description: 'A disk has not answered a request in time',
    data: {
      disk: { kind: 'enum', values: GUARDED_DISK },
      operation: { kind: 'str' },
      sector: { kind: 'size' },
      sectors: { kind: 'size' },
      seconds: { kind: 'number' },
      hangs: { kind: 'bool' },
    },
  },
  DISK_RESPONDS: {
    description: 'A disk that hung has answered something',
    data: { disk: { kind: 'enum', values: GUARDED_DISK } },
  },
  SCRUB_STARTED: { description: 'A scrub begins, or goes on', data: { ...SCRUB, speed: { kind: 'size' } } },
  SCRUB_STOPPED: { description: 'A scrub is not finished, but can go on', data: { ...SCRUB, error: { kind: 'str' } } },
  SCRUB_COMPLETED: { description: 'A scrub has read the whole disk', data: SCRUB },
  TABLE_RESIZED: {
    description: 'The remap table changed its number of buckets',
    data: { from: { kind: 'size' }, to: { kind: 'size' }, remaps: { kind: 'size' } },
  },
  SPARE_LOW: {
    description: 'Less than a tenth of the spare blocks are free',
    data: { 'free-blocks': { kind: 'size' }, 'total-blocks': { kind: 'size' } },
  },
  SPARE_EXHAUSTED: {
    description: 'A bad block found no free spare block: its requests fail from now on',
    data: { 'total-blocks': { kind: 'size' } },
  },
  METADATA_REPAIRED: {
    description: 'Copies of the metadata were damaged or stale and have been rewritten',
    data: {
      structure: { kind: 'enum', values: ['header', 'slot-page'] },
      number: { kind: 'size' },
      copies: { kind: 'array', of: { kind: 'int' } },
      reason: { kind: 'str' },
    },
  },
  CLIENT_CONNECTED: {
    description: 'An NBD client finished its handshake',
    data: { id: { kind: 'int' }, address: { kind: 'str' }, 'export-name': { kind: 'str' } },
  },
  CLIENT_DISCONNECTED: {
    description: 'An NBD client is gone',
    data: { id: { kind: 'int' }, address: { kind: 'str' }, 'export-name': { kind: 'str' } },
  },
} as const satisfies EventTable
