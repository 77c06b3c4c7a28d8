/**
 * What of the vocabulary of docs/FAULTS.md QEMU's blkdebug can say, and in which words. The rest is for the built-in fault
 * device of `nbd-remap serve --fault-injection`. Pure.
 *
 * The surprise: blkdebug has a rule for each single sector, and adding many takes quadratic time. So of places that are
 * drawn in clusters of whole 4 KiB only the first sector of each 4 KiB is named: whoever asks in whole blocks meets it.
 */
import { effectOf, operationsOf } from '../src/faults/parse.js'
import { placeOf } from '../src/faults/place.js'
import type { FaultErrno, FaultMember, FaultRule } from '../src/faults/vocabulary.js'
import type { Random } from '../src/util/random.js'
import { assert } from '../src/util/assert.js'
import { isAligned, sector, SECTOR_SIZE } from '../src/util/units.js'
import type { SectorRule } from './faults.js'

/** A rule that needs the built-in fault device. */
export class BeyondBlkdebugError extends Error {
  override name = 'BeyondBlkdebugError'
}

/** What blkdebug does not know. */
const UNKNOWN = ['disk', 'index', 'after', 'probability', 'heals-on-write', 'grow'] as const satisfies FaultMember[]

/** Linux's numbers; over NBD all others arrive as EINVAL. */
const ERRNOS: Partial<Record<FaultErrno, number>> = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
}

/** What keeps a rule from being put beneath a disk by blkdebug: `'probability'`, `the effect 'delay'`. */
export function beyondBlkdebug(rule: FaultRule): string | undefined {
  if (effectOf(rule) !== 'error') return `the effect '${effectOf(rule)}'`
  const member = UNKNOWN.find((name) => rule[name] !== undefined)
  if (member !== undefined) return `'${member}'`
  if (ERRNOS[rule.errno ?? 'EIO'] === undefined) return `the errno '${rule.errno ?? ''}'`
  // A flush that fails could never be healed: taking the rule away flushes first.
  const operation = rule.operations?.find((name) => name === 'trim' || name === 'flush')
  return operation === undefined ? undefined : `the operation '${operation}'`
}

/**
 * The rules of `FaultInjector` that a rule comes to: the same for the same draws.
 * @param size of the disk in bytes
 * @throws BeyondBlkdebugError, FaultRuleError
 */
export function sectorRules(rule: FaultRule, size: number, random: Random): SectorRule[] {
  const beyond = beyondBlkdebug(rule)
  if (beyond !== undefined)
    throw new BeyondBlkdebugError(
      `${rule.id ?? 'the rule'} has ${beyond}, which blkdebug cannot do: the built-in fault device can (nbd-remap serve --fault-injection)`,
    )
  assert(rule['map-file'] === undefined, "whoever takes rules from people reads their 'map-file'")
  const rest = {
    operation: operationOf(rule),
    errno: ERRNOS[rule.errno ?? 'EIO'] ?? 0,
    ...(rule.times !== undefined && { times: rule.times }),
  }
  return isWholeDisk(rule) ? [rest] : sectorsOf(rule, size, random).map((at) => ({ sector: sector(at), ...rest }))
}

function operationOf(rule: FaultRule): SectorRule['operation'] {
  const operations = operationsOf(rule)
  if (!operations.includes('read')) return 'write'
  return operations.includes('write') || operations.includes('write-zeroes') ? 'both' : 'read'
}

const PLACES = ['sector', 'sectors', 'random-sectors', 'percent', 'clusters', 'map', 'within'] as const
const isWholeDisk = (rule: FaultRule): boolean => PLACES.every((place) => rule[place] === undefined)

/** Of a file system, and of the remapper. */
const BLOCK = 4096

function sectorsOf(rule: FaultRule, size: number, random: Random): number[] {
  const isDrawnInBlocks = rule.clusters !== undefined || rule.percent !== undefined
  const sectors: number[] = []
  for (const { start, end } of placeOf(
    rule,
    { title: 'the disk', size, part: [{ start: 0, end: size }] },
    random,
  ).ranges()) {
    const step = isDrawnInBlocks && isAligned(start, BLOCK) && isAligned(end, BLOCK) ? BLOCK : SECTOR_SIZE
    for (let at = start; at < end; at += step) sectors.push(at / SECTOR_SIZE)
  }
  return sectors
}
