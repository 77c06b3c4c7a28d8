/** The data plane's side of the commands about the replica and the scrub. Arguments have been checked in the control thread. */
import { QmpReplyError } from '../qmp/error.js'
import type { JsonObject } from '../qmp/message.js'
import type { Pair } from '../remap/pair.js'
import { declareReplica } from '../remap/replica-open.js'
import { ScrubError, type Scrub } from '../remap/scrub.js'
import { RefusedError } from '../util/errors.js'
import type { ReplicaInfo, ScrubInfo } from './healing-commands.js'

export interface HealingSubject {
  readonly pair: Pair
  readonly scrub: Scrub
}

type Operation = (args: JsonObject) => unknown

export const healingOperations = (subject: HealingSubject): [string, Operation][] => [
  ['query-replica', () => queryReplica(subject)],
  ['replica-declare', () => replicaDeclare(subject)],
  ['query-scrub', () => queryScrub(subject.scrub)],
  [
    'scrub-start',
    (args) =>
      refusing(() => {
        subject.scrub.start(args)
      }),
  ],
  ['scrub-stop', () => refusing(() => subject.scrub.stop())],
]

function queryReplica({ pair }: HealingSubject): ReplicaInfo {
  const { replica } = pair.target
  if (!replica) return {}
  const { device, state, changedBytes, healedBlocks } = replica
  return { replica: { name: device.name, state, 'changed-bytes': changedBytes, 'healed-blocks': healedBlocks } }
}

function queryScrub({ progress }: Scrub): ScrubInfo {
  const { healed, lost, ...others } = progress
  return { ...others, 'healed-blocks': healed, 'lost-sectors': lost }
}

async function refusing(action: () => Promise<void> | void): Promise<void> {
  try {
    await action()
  } catch (error) {
    if (error instanceof ScrubError) throw new QmpReplyError(error.message)
    throw error
  }
}

async function replicaDeclare({ pair: { target } }: HealingSubject): Promise<void> {
  if (!target.replica) throw new QmpReplyError('there is no replica: serve was started without --replica')
  try {
    await declareReplica(target)
  } catch (error) {
    if (error instanceof RefusedError) throw new QmpReplyError(error.message)
    throw error
  }
}
