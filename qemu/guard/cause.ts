/**
 * Why a request of the machine failed. QEMU's BLOCK_IO_ERROR tells the disk and whether it was a read or a write, but not
 * where; the server's events tell where and why. The two are brought together by operation and time, which is enough: a
 * machine that an error has paused sends nothing more. Pure.
 */
import type { JsonObject } from '../../src/qmp/index.js'

/** An event of the server, as its log has it. */
export interface Fact {
  readonly event: string
  readonly data: JsonObject
  /** By the server's clock, as `Date.now()`. */
  readonly timeMs: number
}

/** A BLOCK_IO_ERROR of a disk that the server provides. */
export interface MachineError {
  readonly operation: 'read' | 'write'
  /** The disk had no room: what nbd-remap says with `--on-exhausted pause`. */
  readonly noSpace: boolean
  /** QEMU's word for the error. */
  readonly reason: string
  readonly timeMs: number
}

/** In sectors of 512 bytes. */
export interface SectorRange {
  readonly sector: number
  readonly sectors: number
}

/**
 * `no-spare`: a bad block found no free spare block. `unreadable`: content is lost. `unwritable`: a write failed for another
 * reason. `gone`: a disk of the server does not answer. `connection`: the server was not reached. `unknown`: the machine
 * was paused before anybody watched.
 */
export interface Cause {
  readonly kind: 'no-spare' | 'unreadable' | 'unwritable' | 'gone' | 'connection' | 'unknown'
  /** Of the request that failed. */
  readonly range?: SectorRange
  /** What the server's disk failed with, such as `EIO`. */
  readonly error?: string
  /** So many spare blocks have to be free. */
  readonly blocksNeeded?: number
}

/** How much earlier than QEMU's event the server's may be. QEMU tells at once; a busy machine may not. */
const WINDOW_MS = 15_000
/** Clocks of one machine agree, but a message may overtake another. */
const SLACK_MS = 5000

const GONE: ReadonlySet<unknown> = new Set(['ENODEV', 'ESHUTDOWN', 'ETIMEDOUT'])

/** @param facts in the order of time */
export function causeOf(error: MachineError, facts: readonly Fact[]): Cause {
  const near = facts.filter(({ timeMs }) => timeMs >= error.timeMs - WINDOW_MS && timeMs <= error.timeMs + SLACK_MS)
  const at = near.findLastIndex((fact) => isAnswerTo(fact, error))
  const answer = near[at]
  if (answer === undefined || near.slice(at + 1).some((fact) => isEnd(fact, error))) {
    return { kind: error.noSpace ? 'no-spare' : 'connection' }
  }
  const { sector, sectors, error: code, 'blocks-needed': blocksNeeded } = answer.data
  const where = { range: { sector: Number(sector), sectors: Number(sectors) }, error: String(code) }
  if (typeof blocksNeeded === 'number') return { kind: 'no-spare', ...where, blocksNeeded }
  if (error.noSpace) return { kind: 'no-spare', ...where }
  if (GONE.has(code)) return { kind: 'gone', ...where }
  return { kind: error.operation === 'read' ? 'unreadable' : 'unwritable', ...where }
}

/** Errors that are looked at one by one. */
const PAUSING_MAX = 20

/**
 * Why a machine stands still: for each error that was seen, or for what can be known when nobody has watched.
 * @param ioStatus of the disk, as QEMU has it
 * @returns at least one
 */
export function causesOf(
  errors: readonly MachineError[],
  ioStatus: string | undefined,
  facts: readonly Fact[],
): readonly Cause[] {
  if (errors.length === 0) return [lateCause(ioStatus, facts)]
  const causes = errors.slice(-PAUSING_MAX).map((error) => causeOf(error, facts))
  return [...new Map(causes.map((cause) => [`${cause.kind} ${cause.range?.sector ?? ''}`, cause])).values()]
}

/** The last error that a client was told is the one: a machine that is paused sends nothing more. */
function lateCause(ioStatus: string | undefined, facts: readonly Fact[]): Cause {
  const last = facts.findLast(({ event }) => event === 'CLIENT_ERROR')
  // QEMU keeps the first bad status of a disk, so what the server says counts more.
  if (last === undefined) return { kind: ioStatus === 'nospace' ? 'no-spare' : 'unknown' }
  const operation = last.data['operation'] === 'read' ? 'read' : 'write'
  return causeOf({ operation, noSpace: last.data['reply'] === 'ENOSPC', reason: '', timeMs: last.timeMs }, facts)
}

/** Of a connection, before the machine was told. */
const isEnd = ({ event, timeMs }: Fact, error: MachineError): boolean =>
  event === 'CLIENT_DISCONNECTED' && timeMs <= error.timeMs

function isAnswerTo({ event, data }: Fact, { operation }: MachineError): boolean {
  if (event !== 'CLIENT_ERROR') return false
  return (data['operation'] === 'read') === (operation === 'read')
}

/** What the server did about the request: the events that touch its range. */
export function deedsOf({ range }: Cause, error: MachineError, facts: readonly Fact[]): string[] {
  if (range === undefined) return []
  const near = facts.filter(({ timeMs }) => timeMs >= error.timeMs - WINDOW_MS)
  const remapped = near.filter(
    ({ event, data }) => event === 'REMAP_ADDED' && touches(data['main-sector'], data, range),
  )
  const failed = near.filter(({ event, data }) => event === 'IO_ERROR' && touches(data['sector'], data, range))
  const sectors = [...new Set(failed.map(({ data }) => String(data['sector'])))]
  return [
    ...(sectors.length > 0
      ? [`bad at sector ${sectors.slice(0, SHOWN).join(', ')}${sectors.length > SHOWN ? ', ...' : ''}`]
      : []),
    ...(remapped.length > 0 ? [`${remapped.length} of its blocks were remapped`] : []),
  ]
}

const SHOWN = 4

function touches(start: unknown, { sectors }: JsonObject, range: SectorRange): boolean {
  const from = Number(start)
  return from < range.sector + range.sectors && from + Number(sectors) > range.sector
}
