/** The commands of the control socket that concern the spares: list them, add one, remove one. */
import type { Drain } from '../remap/drain.js'
import type { Pair } from '../remap/pair.js'
import type { Member } from '../spare/pool.js'
import { RefusedError, UsageError } from '../util/errors.js'
import { QmpReplyError } from '../qmp/error.js'
import { command, type CommandTable, type ValueOf } from '../qmp/schema.js'

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

const SPARES = {
  kind: 'object',
  members: {
    spares: { kind: 'array', of: SPARE },
    'total-blocks': { kind: 'size' },
    'free-blocks': { kind: 'size' },
  },
} as const

export function spareCommands({ pair }: { readonly pair: Pair }): CommandTable {
  return {
    'query-spares': command({
      description: 'The spares of the pool, in the order in which they are filled',
      returns: SPARES,
      handler: () => {
        const { pool } = pair.target
        return { spares: describeSpares(pair), 'total-blocks': pool.total, 'free-blocks': pool.free }
      },
    }),
    'spare-add': command({
      description: 'Formats a disk and takes it into the pool',
      arguments: {
        path: { kind: 'str', description: 'a file, a block device, or an NBD URI' },
        force: { kind: 'bool', optional: true, description: 'overwrite it if it is not blank' },
      },
      returns: SPARE,
      handler: async (args) => {
        try {
          return describeSpare(await pair.addSpare(args.path, args.force ?? false), undefined)
        } catch (error) {
          throw forPeople(error)
        }
      },
    }),
    'spare-remove': command({
      description: 'Begins to move everything that a spare holds to the others; then it leaves the pool',
      arguments: {
        spare: { kind: 'str', description: 'its name or uuid' },
        cancel: {
          kind: 'bool',
          optional: true,
          description: 'true: let it stay; what was moved stays where it is now',
        },
      },
      handler: (args) => {
        const { pool } = pair.target
        const member = pool.find(args.spare)
        if (!member) throw new QmpReplyError(`there is no spare ${args.spare} in the pool: see query-spares`)
        if (args.cancel) cancel(pair, member)
        else remove(pair, member)
      },
    }),
  }
}

function remove(pair: Pair, member: Member): void {
  try {
    // How it ends is told by an event, and in the log.
    pair.removeSpare(member).done.catch(() => undefined)
  } catch (error) {
    throw forPeople(error)
  }
}

function cancel(pair: Pair, member: Member): void {
  const drain = pair.drainOf(member)
  if (!drain) throw new QmpReplyError(`spare ${member.name} is not being removed`)
  drain.cancel()
}

export const describeSpares = (pair: Pair): ValueOf<typeof SPARE>[] =>
  pair.target.pool.members.map((member) => describeSpare(member, pair.drainOf(member)))

function describeSpare(
  { spare, name, uuid, location, isSuspect }: Member,
  drain: Drain | undefined,
): ValueOf<typeof SPARE> {
  return {
    name,
    uuid,
    location,
    size: spare.device.size,
    state: drain ? 'draining' : isSuspect ? 'failing' : 'active',
    'total-blocks': spare.geometry.slots,
    'free-blocks': spare.free,
    'remapped-blocks': spare.counts.remapped,
    'retired-blocks': spare.counts.retired,
    'lost-blocks': spare.counts.lost,
    'blocks-to-move': drain?.total ?? 0,
    'blocks-moved': drain?.moved ?? 0,
  }
}

/** What a disk or the operator is to blame for, as an answer; everything else is a bug. */
const forPeople = (error: unknown): unknown =>
  error instanceof RefusedError || error instanceof UsageError || isSystemError(error)
    ? new QmpReplyError((error as Error).message)
    : error

/** Disks that cannot be opened, reached or written fail with these; broken invariants have a name of their own. */
const isSystemError = (error: unknown): boolean =>
  error instanceof Error && ['Error', 'DeviceError', 'RangeError'].includes(error.name)
