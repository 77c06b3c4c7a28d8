/** The commands of the control socket that check the metadata of the spares. */
import { command, type Command, type ValueOf } from '../qmp/schema.js'
import type { DataPlane } from './data-plane.js'

const REPORT = {
  kind: 'object',
  members: {
    headers: { kind: 'size', description: 'one for each spare, in five copies' },
    'slot-pages': { kind: 'size', description: 'in two copies each' },
    damaged: { kind: 'size', description: 'of both, those with a copy that is not what it should be' },
    repaired: { kind: 'size' },
    findings: {
      kind: 'array',
      description: 'the first 1000 of them',
      of: {
        kind: 'object',
        members: {
          spare: { kind: 'str' },
          structure: { kind: 'enum', values: ['header', 'slot-page'] },
          number: { kind: 'size', description: 'of the slot page' },
          copies: { kind: 'array', of: { kind: 'int' } },
          reason: { kind: 'str' },
          repaired: { kind: 'bool' },
        },
      },
    },
  },
} as const

export type MetadataAnswer = ValueOf<typeof REPORT>

export const metadataCommands = (subject: Pick<DataPlane, 'ask'>): Record<string, Command> => ({
  'metadata-verify': command({
    description: 'Reads all copies of the metadata and compares them with memory; changes nothing',
    returns: REPORT,
    handler: async () => (await subject.ask('metadata-verify', {})) as MetadataAnswer,
  }),
  'metadata-repair': command({
    description: 'The same, and rewrites what is not what it should be, also copies that could not be written before',
    returns: REPORT,
    handler: async () => (await subject.ask('metadata-repair', {})) as MetadataAnswer,
  }),
})
