/** The commands of the control socket that concern the spares: list them, add one, remove one. */
import { command, type Command, type ValueOf } from '../qmp/schema.js'
import type { DataPlane } from './data-plane.js'

export const SPARE = {
  kind: 'object',
  members: {
    name: { kind: 'str' },
    uuid: { kind: 'str' },
    location: { kind: 'str', description: 'where the next start looks for it' },
    size: { kind: 'size' },
    state: { kind: 'enum', values: ['active', 'failing', 'draining'] },
    'total-blocks': { kind: 'size' },
    'free-blocks': { kind: 'size' },
    'remapped-blocks': { kind: 'size' },
    'retired-blocks': { kind: 'size', description: 'bad ones' },
    'lost-blocks': { kind: 'size', description: 'of the remapped ones those with lost sectors' },
    'blocks-to-move': { kind: 'size', description: 'while it is draining: all that it held when that began; else 0' },
    'blocks-moved': { kind: 'size' },
  },
} as const

/** A spare, as the status shows it. */
export type SpareState = ValueOf<typeof SPARE>

const SPARES = {
  kind: 'object',
  members: {
    spares: { kind: 'array', of: SPARE },
    'total-blocks': { kind: 'size' },
    'free-blocks': { kind: 'size' },
  },
} as const

export const spareCommands = (
  subject: Pick<DataPlane, 'statistics' | 'spares' | 'state' | 'ask'>,
): Record<string, Command> => ({
  'query-spares': command({
    description: 'The spares of the pool, in the order in which they are filled',
    returns: SPARES,
    handler: async () => {
      const { freeBlocks, spareBlocks } = await subject.statistics()
      // A data plane that hangs has told them when it last could.
      await subject.state()
      return { spares: [...subject.spares], 'total-blocks': spareBlocks, 'free-blocks': freeBlocks }
    },
  }),
  'spare-add': command({
    description: 'Formats a disk and takes it into the pool',
    arguments: {
      path: { kind: 'str', description: 'a file, a block device, or an NBD URI' },
      force: { kind: 'bool', optional: true, description: 'overwrite it if it is not blank' },
    },
    returns: SPARE,
    handler: async (args) => (await subject.ask('spare-add', args)) as SpareState,
  }),
  'spare-remove': command({
    description: 'Begins to move everything that a spare holds to the others; then it leaves the pool',
    arguments: {
      spare: { kind: 'str', description: 'its name, location or uuid' },
      cancel: { kind: 'bool', optional: true, description: 'true: let it stay; what was moved stays where it is now' },
    },
    handler: async (args) => {
      await subject.ask('spare-remove', args)
    },
  }),
})
