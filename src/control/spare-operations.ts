/** The data plane's side of the commands that concern the spares. */
import type { JsonObject } from '../qmp/message.js'
import { QmpReplyError } from '../qmp/error.js'
import type { Drain } from '../remap/drain.js'
import type { Pair } from '../remap/pair.js'
import type { Member } from '../spare/pool.js'
import type { SpareState } from './spare-commands.js'

export const spareOperations = (pair: Pair): [string, (args: JsonObject) => unknown][] => [
  ['spare-add', (args) => add(pair, args as unknown as { path: string; force?: boolean })],
  [
    'spare-remove',
    (args) => {
      removeOrCancel(pair, args as unknown as { spare: string; cancel?: boolean })
    },
  ],
]

async function add(pair: Pair, { path, force = false }: { path: string; force?: boolean }): Promise<SpareState> {
  return describe(await pair.addSpare(path, force), undefined)
}

function removeOrCancel(pair: Pair, { spare, cancel }: { spare: string; cancel?: boolean }): void {
  const member = pair.target.pool.find(spare)
  if (!member) throw new QmpReplyError(`there is no spare ${spare} in the pool: see query-spares`)
  if (!cancel) {
    // How it ends is told by an event, and in the log.
    pair.removeSpare(member).done.catch(() => undefined)
    return
  }
  const drain = pair.drainOf(member)
  if (!drain) throw new QmpReplyError(`spare ${member.name} is not being removed`)
  drain.cancel()
}

export const describeSpares = (pair: Pair): SpareState[] =>
  pair.target.pool.members.map((member) => describe(member, pair.drainOf(member)))

function describe(member: Member, drain: Drain | undefined): SpareState {
  const { spare, name, uuid, location } = member
  return {
    name,
    uuid,
    location,
    size: spare.device.size,
    state: drain ? 'draining' : member.isSuspect ? 'failing' : 'active',
    'total-blocks': spare.geometry.slots,
    'free-blocks': spare.free,
    'remapped-blocks': spare.counts.remapped,
    'retired-blocks': spare.counts.retired,
    'lost-blocks': spare.counts.lost,
    'blocks-to-move': drain?.total ?? 0,
    'blocks-moved': drain?.moved ?? 0,
  }
}
