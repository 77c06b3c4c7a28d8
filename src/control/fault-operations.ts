/** The data plane's side of fault injection. Arguments have been checked in the control thread. */
import { loadMaps } from '../faults/fault-file.js'
import type { DiskRole } from '../faults/fault-log.js'
import type { FaultInjection } from '../faults/injection.js'
import { FaultRuleError } from '../faults/parse.js'
import type { FaultRule } from '../faults/vocabulary.js'
import { QmpReplyError } from '../qmp/error.js'
import type { JsonObject } from '../qmp/message.js'
import { SECTOR_SIZE } from '../util/units.js'

export interface FaultSubject {
  /** `undefined`: the server was started without. */
  readonly faults: FaultInjection | undefined
}

type Operation = (args: JsonObject) => unknown

export const faultOperations = ({ faults }: FaultSubject): [string, Operation][] => {
  const operation = (action: (faults: FaultInjection, args: JsonObject) => unknown): Operation => {
    return (args) => refusing(() => action(started(faults), args))
  }
  return [
    ['inject-error', operation(inject)],
    ['clear-errors', operation(async (on, { ids }) => ({ cleared: await on.clear(ids as string[] | undefined) }))],
    ['query-faults', operation(({ seed, rules }) => ({ seed, rules }))],
    ['query-fault-log', operation(queryLog)],
    ['power-cut', operation((on) => ({ disks: on.cutPower() }))],
  ]
}

function started(faults: FaultInjection | undefined): FaultInjection {
  if (faults) return faults
  throw new QmpReplyError(
    'this server was started without fault injection: start it with serve --fault-injection, --faults FILE or --fault-seed SEED',
  )
}

async function inject(faults: FaultInjection, { rules }: JsonObject): Promise<unknown> {
  const loaded = await loadMaps(rules as readonly FaultRule[], process.cwd())
  return { seed: faults.seed, rules: faults.inject(loaded) }
}

interface LogArguments {
  readonly since?: number
  readonly limit: number
  readonly rule?: string
  readonly disk?: DiskRole
  readonly sector?: number
}

function queryLog({ log }: FaultInjection, args: JsonObject): unknown {
  const { since = 0, limit, rule, disk, sector } = args as unknown as LogArguments
  const within = sector === undefined ? undefined : { start: sector * SECTOR_SIZE, end: (sector + 1) * SECTOR_SIZE }
  return { entries: log.query({ since, limit, rule, disk, within }), first: log.first, last: log.last }
}

async function refusing(action: () => unknown): Promise<unknown> {
  try {
    return await action()
  } catch (error) {
    if (error instanceof FaultRuleError) throw new QmpReplyError(error.message)
    throw error
  }
}
