/** The data plane's side of the commands about remaps. Arguments have been checked in the control thread. */
import { QmpReplyError } from '../qmp/error.js'
import type { JsonObject } from '../qmp/message.js'
import { addRemaps, batchOf, clearRemaps, newBatch, removeRemaps } from '../remap/admin.js'
import { RemapRequestError, type BatchRange, type RemapBatch } from '../remap/batch.js'
import { listLost, listRemaps, type Page } from '../remap/listing.js'
import type { Pair } from '../remap/pair.js'
import type { ReadPolicy } from '../remap/policy.js'
import { refuseSuspended } from './device-operations.js'
import { settingsProblem } from '../remap/table-settings.js'
import type { RemapTarget } from '../remap/target.js'
import {
  REMAPS_LIMIT_DEFAULT,
  type Added,
  type Appended,
  type Lost,
  type Removed,
  type Remaps,
} from './remap-commands.js'

export interface RemapSubject {
  readonly pair: Pair
  readonly policy: ReadPolicy
}

type Operation = (args: JsonObject) => unknown

export function remapOperations(subject: RemapSubject): [string, Operation][] {
  const { target } = subject.pair
  const batches = new Batches(target)
  // What the control thread has checked has the type that it was checked for.
  const row = (name: string, run: (args: never) => unknown): [string, Operation] => [
    name,
    (args) => answering(() => run(args as never)),
  ]
  const writing = (name: string, run: (args: never) => unknown): [string, Operation] =>
    row(name, (args) => {
      if (target.readOnly) throw new QmpReplyError('the pair is served read-only')
      refuseSuspended(target)
      return run(args)
    })
  return [
    row('query-remaps', (args: PageArguments) => queryRemaps(target, args)),
    row('query-lost', (args: PageArguments) => queryLost(target, args)),
    row('remap-table-set', (args: TableArguments) => {
      setTable(target, args)
    }),
    writing('remap-add', (args: RangeArguments & AddArguments) => add(subject, batchOf(target, rangeOf(args)), args)),
    writing('remap-remove', (args: RangeArguments) => removeRemaps(target, batchOf(target, rangeOf(args)))),
    writing('remap-clear', (): Promise<Removed> => clearRemaps(target)),
    writing('remap-batch-append', (args: AppendArguments) => batches.append(args)),
    writing('remap-batch-run', (args: RunArguments) => run(subject, batches.take(args.batch), args)),
    row('remap-batch-drop', (args: { readonly batch: number }) => {
      batches.take(args.batch)
    }),
  ]
}

interface PageArguments {
  readonly 'from-sector'?: number
  readonly limit?: number
}

interface RangeArguments {
  readonly 'main-sector': number
  readonly sectors: number
  readonly 'spare-sector'?: number
  readonly spare?: string
  readonly lost?: boolean
  readonly line?: number
}

interface AddArguments {
  readonly copy?: boolean
  readonly 'skip-remapped'?: boolean
}

interface RunArguments extends AddArguments {
  readonly batch: number
  readonly operation?: 'add' | 'remove'
}

interface AppendArguments {
  readonly batch?: number
  readonly ranges: readonly RangeArguments[]
}

interface TableArguments {
  readonly 'min-buckets'?: number
  readonly 'grow-load'?: number
  readonly 'shrink-load'?: number
}

async function answering(run: () => unknown): Promise<unknown> {
  try {
    return await run()
  } catch (error) {
    if (error instanceof RemapRequestError) throw new QmpReplyError(error.message)
    throw error
  }
}

const pageOf = (args: PageArguments): Page => ({
  fromSector: args['from-sector'] ?? 0,
  limit: args.limit ?? REMAPS_LIMIT_DEFAULT,
})

async function queryRemaps(target: RemapTarget, args: PageArguments): Promise<Remaps> {
  const { ranges, total } = await listRemaps(target, pageOf(args))
  const remaps = ranges.map((range) => ({
    'main-sector': range.mainSector,
    'spare-sector': range.spareSector,
    sectors: range.sectors,
    spare: range.spare,
    state: range.state,
  }))
  return { remaps, total }
}

async function queryLost(target: RemapTarget, args: PageArguments): Promise<Lost> {
  const { ranges, total } = await listLost(target, pageOf(args))
  return { lost: ranges.map(({ mainSector, sectors }) => ({ 'main-sector': mainSector, sectors })), total }
}

const rangeOf = (args: RangeArguments): BatchRange => ({
  mainSector: args['main-sector'],
  sectors: args.sectors,
  spareSector: args['spare-sector'],
  spare: args.spare,
  lost: args.lost,
  line: args.line,
})

const add = ({ pair, policy }: RemapSubject, batch: RemapBatch, args: AddArguments): Promise<Added> =>
  addRemaps(pair.target, batch, { copy: args.copy ?? true, skipRemapped: args['skip-remapped'] ?? false, policy })

async function run(subject: RemapSubject, batch: RemapBatch, args: RunArguments): Promise<Added> {
  if (args.operation !== 'remove') return add(subject, batch, args)
  const { blocks, kept } = await removeRemaps(subject.pair.target, batch)
  return { blocks, skipped: kept }
}

function setTable(target: RemapTarget, args: TableArguments): void {
  const { bucketsMin, growLoad, shrinkLoad } = target.table.settings
  const settings = {
    bucketsMin: args['min-buckets'] ?? bucketsMin,
    growLoad: args['grow-load'] ?? growLoad,
    shrinkLoad: args['shrink-load'] ?? shrinkLoad,
  }
  const problem = settingsProblem(settings)
  if (problem !== undefined) throw new QmpReplyError(problem)
  target.configureTable(settings)
}

/** Batches that are being put together. There are few at once; a new one drives out the one that was longest untouched. */
const BATCHES_MAX = 4

class Batches {
  readonly #target: RemapTarget
  /** The one that was touched last stands last. */
  readonly #batches = new Map<number, RemapBatch>()
  #lastId = 0

  constructor(target: RemapTarget) {
    this.#target = target
  }

  /** @throws RemapRequestError; the batch is then forgotten, for nobody knows which of the ranges it has */
  append(args: AppendArguments): Appended {
    const id = args.batch ?? ++this.#lastId
    const batch = args.batch === undefined ? newBatch(this.#target) : this.take(id)
    for (const range of args.ranges) batch.append(rangeOf(range))
    this.#batches.set(id, batch)
    const [oldest] = this.#batches.keys()
    if (this.#batches.size > BATCHES_MAX && oldest !== undefined) this.#batches.delete(oldest)
    return { batch: id, ranges: batch.count }
  }

  /** It is forgotten. @throws RemapRequestError */
  take(id: number): RemapBatch {
    const batch = this.#batches.get(id)
    if (batch === undefined) throw new RemapRequestError(`there is no batch ${id}: it was run, dropped, or refused`)
    this.#batches.delete(id)
    return batch
  }
}
