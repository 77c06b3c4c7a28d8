/**
 * The data plane's side of the control commands: what only the thread with the disks can carry out, by the name of the
 * command. Arguments have been checked in the control thread.
 */
import { QmpReplyError } from '../qmp/error.js'
import type { JsonObject } from '../qmp/message.js'
import { addRemaps, listRemaps, RemapRequestError, type RemapRange } from '../remap/admin.js'
import type { ReadPolicy } from '../remap/policy.js'
import type { Pair } from '../remap/pair.js'
import { spareOperations } from './spare-operations.js'
import { REMAPS_LIMIT_DEFAULT, type Added, type Remaps } from './commands.js'

export interface OperationsSubject {
  readonly pair: Pair
  readonly policy: ReadPolicy
  /** Begins a graceful stop and returns at once. */
  quit(): void
}

/** @throws QmpReplyError to choose the words and the class of the error */
export type Operations = ReadonlyMap<string, (args: JsonObject) => unknown>

export const controlOperations = (subject: OperationsSubject): Operations =>
  new Map<string, (args: JsonObject) => unknown>([
    ['query-remaps', (args) => queryRemaps(subject, args)],
    ...spareOperations(subject.pair),
    ['remap-add', (args) => remapAdd(subject, args as unknown as AddArguments)],
    [
      'quit',
      () => {
        subject.quit()
      },
    ],
  ])

function queryRemaps({ pair }: OperationsSubject, args: { 'from-sector'?: number; limit?: number }): Remaps {
  const ranges = listRemaps(pair.target)
  const from = args['from-sector'] ?? 0
  const wanted = ranges.filter((range) => range.mainSector + range.sectors > from)
  const limited = wanted.slice(0, args.limit ?? REMAPS_LIMIT_DEFAULT)
  return { remaps: limited.map(describe), total: ranges.length }
}

const describe = (range: RemapRange): Remaps['remaps'][number] => ({
  'main-sector': range.mainSector,
  'spare-sector': range.spareSector,
  sectors: range.sectors,
  spare: range.spare,
  state: range.state,
})

interface AddArguments {
  readonly 'main-sector': number
  readonly sectors: number
  readonly 'spare-sector'?: number
  readonly spare?: string
  readonly copy?: boolean
}

async function remapAdd({ pair: { target }, policy }: OperationsSubject, args: AddArguments): Promise<Added> {
  if (target.readOnly) throw new QmpReplyError('the pair is served read-only')
  const request = {
    mainSector: args['main-sector'],
    sectors: args.sectors,
    spareSector: args['spare-sector'],
    spare: args.spare,
    copy: args.copy ?? true,
  }
  try {
    return { blocks: await addRemaps(target, request, policy) }
  } catch (error) {
    if (error instanceof RemapRequestError) throw new QmpReplyError(error.message)
    throw error
  }
}
