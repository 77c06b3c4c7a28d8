/**
 * The data plane's side of the control commands: what only the thread with the disks can carry out, by the name of the
 * command. Arguments have been checked in the control thread.
 */
import { QmpReplyError } from '../qmp/error.js'
import type { JsonObject } from '../qmp/message.js'
import { addRemaps, listRemaps, RemapRequestError, type RemapRange } from '../remap/admin.js'
import { declareReplica } from '../remap/replica-open.js'
import type { ReadPolicy } from '../remap/policy.js'
import { RefusedError } from '../util/errors.js'
import { ScrubError, type Scrub } from '../remap/scrub.js'
import type { RemapTarget } from '../remap/target.js'
import { REMAPS_LIMIT_DEFAULT, type Added, type Remaps, type ReplicaInfo, type ScrubInfo } from './commands.js'

export interface OperationsSubject {
  readonly target: RemapTarget
  readonly policy: ReadPolicy
  readonly scrub: Scrub
  /** Begins a graceful stop and returns at once. */
  quit(): void
}

/** @throws QmpReplyError to choose the words and the class of the error */
export type Operations = ReadonlyMap<string, (args: JsonObject) => unknown>

export const controlOperations = (subject: OperationsSubject): Operations =>
  new Map<string, (args: JsonObject) => unknown>([
    ['query-remaps', (args) => queryRemaps(subject, args)],
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
    ['remap-add', (args) => remapAdd(subject, args as unknown as AddArguments)],
    [
      'quit',
      () => {
        subject.quit()
      },
    ],
  ])

function queryRemaps({ target }: OperationsSubject, args: { 'from-sector'?: number; limit?: number }): Remaps {
  const ranges = listRemaps(target)
  const from = args['from-sector'] ?? 0
  const wanted = ranges.filter((range) => range.mainSector + range.sectors > from)
  const limited = wanted.slice(0, args.limit ?? REMAPS_LIMIT_DEFAULT)
  return { remaps: limited.map((range) => describe(range, target)), total: ranges.length }
}

const describe = (range: RemapRange, target: RemapTarget): Remaps['remaps'][number] => ({
  'main-sector': range.mainSector,
  'spare-sector': range.spareSector,
  sectors: range.sectors,
  spare: target.spare.device.name,
  state: range.state,
})

function queryReplica({ target: { replica } }: OperationsSubject): ReplicaInfo {
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

async function replicaDeclare({ target }: OperationsSubject): Promise<void> {
  if (!target.replica) throw new QmpReplyError('there is no replica: serve was started without --replica')
  try {
    await declareReplica(target)
  } catch (error) {
    if (error instanceof RefusedError) throw new QmpReplyError(error.message)
    throw error
  }
}

interface AddArguments {
  readonly 'main-sector': number
  readonly sectors: number
  readonly 'spare-sector'?: number
  readonly copy?: boolean
}

async function remapAdd({ target, policy }: OperationsSubject, args: AddArguments): Promise<Added> {
  if (target.readOnly) throw new QmpReplyError('the pair is served read-only')
  const request = {
    mainSector: args['main-sector'],
    sectors: args.sectors,
    spareSector: args['spare-sector'],
    copy: args.copy ?? true,
  }
  try {
    return { blocks: await addRemaps(target, request, policy) }
  } catch (error) {
    if (error instanceof RemapRequestError) throw new QmpReplyError(error.message)
    throw error
  }
}
