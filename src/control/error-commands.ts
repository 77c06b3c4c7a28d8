/**
 * The commands of the control socket about the errors of each part of the main disk. The regions are read from shared memory, so
 * they are told while a disk hangs, too.
 */
import { command, type ArgumentsOf, type Command, type ValueOf } from '../qmp/schema.js'
import { ERROR_KINDS, openErrorCounts, type ErrorKind } from '../remap/error-counts.js'
import { ERROR_OUTCOMES } from '../remap/error-notes.js'
import { SECTOR_SIZE } from '../util/units.js'
import type { DataPlane } from './data-plane.js'

export const ERRORS_LIMIT_DEFAULT = 1000

export const ERROR_COUNTS = {
  'read-errors': { kind: 'size', description: 'blocks of the main disk that failed to be read' },
  'write-errors': { kind: 'size', description: 'blocks of the main disk that failed to be written' },
  'spare-errors': { kind: 'size', description: 'of the spare blocks that stood for them' },
  recovered: { kind: 'size', description: 'of these errors those after which all content was there nonetheless' },
  'slow-reads': { kind: 'size', description: 'reads that took longer than --slow-read' },
  timeouts: { kind: 'size', description: 'requests that were given up after --io-timeout' },
  'lost-sectors': { kind: 'size', description: 'sectors whose content was lost; they may have been healed since' },
} as const

const HISTORY = {
  kind: 'object',
  members: {
    blocks: {
      kind: 'array',
      of: {
        kind: 'object',
        members: {
          'main-sector': { kind: 'size' },
          sectors: { kind: 'size' },
          ...ERROR_COUNTS,
          first: { kind: 'str', description: 'ISO 8601' },
          last: { kind: 'str', description: 'ISO 8601' },
          outcome: { kind: 'enum', values: ERROR_OUTCOMES, description: 'what became of the block then' },
        },
      },
    },
    total: { kind: 'size', description: 'number of blocks without from-sector and limit' },
    dropped: { kind: 'size', description: 'number of blocks of which only the region is known any more' },
  },
} as const

const REGIONS = {
  kind: 'object',
  members: {
    'region-sectors': { kind: 'size', description: 'length of a region' },
    regions: {
      kind: 'array',
      of: { kind: 'object', members: { 'main-sector': { kind: 'size' }, ...ERROR_COUNTS } },
    },
    totals: { kind: 'object', members: ERROR_COUNTS },
    dropped: { kind: 'size', description: 'number of blocks of which only the region is known any more' },
  },
} as const

export type ErrorHistoryReply = ValueOf<typeof HISTORY>
export type ErrorRegionsReply = ValueOf<typeof REGIONS>
export type NamedErrorCounts = ArgumentsOf<typeof ERROR_COUNTS>

export const errorCommands = (subject: Pick<DataPlane, 'facts' | 'ask'>): Record<string, Command> => ({
  'query-error-history': command({
    description: 'The blocks of the main disk that failed or were late, with how often, when, and what became of them',
    arguments: {
      'from-sector': { kind: 'size', optional: true, description: 'leave out blocks that end before it' },
      limit: {
        kind: 'int',
        min: 1,
        optional: true,
        description: `blocks to return, ${ERRORS_LIMIT_DEFAULT} if absent`,
      },
      order: {
        kind: 'enum',
        values: ['sector', 'worst'],
        optional: true,
        description: 'worst: those with the most errors first; sector if absent',
      },
    },
    returns: HISTORY,
    handler: async (args) => (await subject.ask('query-error-history', args)) as ErrorHistoryReply,
  }),
  'query-error-regions': command({
    description: 'How many errors each part of the main disk had, and in all',
    returns: REGIONS,
    handler: async () => regionsReply((await subject.facts).errors),
  }),
})

function regionsReply(memory: SharedArrayBuffer): ErrorRegionsReply {
  const { regionSize, regions, totals, dropped } = openErrorCounts(memory)
  const regionSectors = regionSize / SECTOR_SIZE
  return {
    'region-sectors': regionSectors,
    regions: regions.map(({ number, counts }) => ({ 'main-sector': number * regionSectors, ...named(counts) })),
    totals: named(totals),
    dropped,
  }
}

/** @param counts in the order of `ERROR_KINDS` */
export function named(counts: readonly number[]): NamedErrorCounts {
  const of = (kind: ErrorKind): number => counts[ERROR_KINDS.indexOf(kind)] ?? 0
  return {
    'read-errors': of('readErrors'),
    'write-errors': of('writeErrors'),
    'spare-errors': of('spareErrors'),
    recovered: of('recovered'),
    'slow-reads': of('slowReads'),
    timeouts: of('timeouts'),
    'lost-sectors': of('lostSectors'),
  }
}
