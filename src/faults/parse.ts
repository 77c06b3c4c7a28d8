/** Rules as a program or a person has written them, checked: what is contradictory is refused in words. Pure. */
import { abbreviate, checkMembers } from '../qmp/schema.js'
import { isObject } from '../qmp/message.js'
import { QmpReplyError } from '../qmp/error.js'
import {
  EFFECTS,
  FAULT_FILE_MEMBERS,
  FAULT_MEMBERS,
  type FaultEffect,
  type FaultMember,
  type FaultOperation,
  type FaultRule,
} from './vocabulary.js'

/** A rule that says nothing, or two things at once. */
export class FaultRuleError extends Error {
  override name = 'FaultRuleError'
  /** Which member is to blame, if it is one: `delay-ms`, `grow.sectors`. */
  readonly member: string | undefined

  /** @param where the rule, for people: `rules[2]` */
  constructor(
    readonly where: string,
    problem: string,
    member?: string,
  ) {
    super(problem)
    this.member = member
  }
}

export interface FaultFile {
  readonly seed?: string
  readonly rules: readonly FaultRule[]
}

/** What a file of rules holds: `{"seed": ..., "rules": [...]}`, or the list alone. @throws FaultRuleError */
export function parseFaultFile(value: unknown): FaultFile {
  if (Array.isArray(value)) return { rules: parseFaultRules(value) }
  if (!isObject(value)) throw new FaultRuleError('', 'the file should hold {"rules": [...]}, or a list of rules')
  const { rules, ...others } = value
  checkWords('', () => {
    checkMembers(FAULT_FILE_MEMBERS, { ...others, rules: Array.isArray(rules) ? [] : rules })
  })
  return { ...(others as { seed?: string }), rules: parseFaultRules(rules) }
}

/** @throws FaultRuleError */
export function parseFaultRules(value: unknown): readonly FaultRule[] {
  if (!Array.isArray(value)) throw new FaultRuleError('rules', "'rules' should be a list of rules")
  return value.map((rule, n) => parseFaultRule(rule, `rules[${n}]`))
}

/** @param where what the rule is called in messages @throws FaultRuleError */
export function parseFaultRule(value: unknown, where = 'rule'): FaultRule {
  if (!isObject(value)) throw new FaultRuleError(where, `'${where}' should be an object`)
  checkWords(where, () => {
    checkMembers(FAULT_MEMBERS, value, `${where}.`)
  })
  const rule = value as FaultRule
  for (const check of CHECKS) check(rule, where)
  return rule
}

/** The words of QMP, as an error of ours. */
function checkWords(where: string, check: () => void): void {
  try {
    check()
  } catch (error) {
    if (!(error instanceof QmpReplyError)) throw error
    const [, name = ''] = /'([^']*)'/.exec(error.desc) ?? []
    throw new FaultRuleError(where, error.desc, name.startsWith(`${where}.`) ? name.slice(where.length + 1) : undefined)
  }
}

type Check = (rule: FaultRule, where: string) => void

function refuse(where: string, member: string, problem: string): never {
  throw new FaultRuleError(where, `${where}: '${member}' ${problem}`, member)
}

const PLACES = ['sector', 'sectors', 'random-sectors', 'percent', 'clusters', 'map', 'map-file'] as const
const DRAWN = ['random-sectors', 'percent', 'clusters'] as const
const EFFECT_MEMBERS = Object.values(EFFECTS).flatMap(({ members }) => members)

/** A member that means something only beside one of others. */
const BESIDE: Readonly<Partial<Record<FaultMember, readonly FaultMember[]>>> = {
  count: ['sector'],
  'cluster-sectors': ['percent', 'clusters'],
  within: [...DRAWN, 'grow'],
  'map-format': ['map', 'map-file'],
  'map-unit': ['map', 'map-file'],
  'map-statuses': ['map', 'map-file'],
}

export const effectOf = ({ effect = 'error' }: FaultRule): FaultEffect => effect
export const operationsOf = (rule: FaultRule): readonly FaultOperation[] =>
  rule.operations ?? EFFECTS[effectOf(rule)].operations

const CHECKS: readonly Check[] = [
  onePlace,
  membersGoTogether,
  membersOfEffect,
  operationsOfEffect,
  numbersInRange,
  delayIsSaid,
  growthIsSaid,
  corruptionIsPossible,
  agesAscend,
  idIsAName,
]

function onePlace(rule: FaultRule, where: string): void {
  const [first, second] = PLACES.filter((place) => rule[place] !== undefined)
  if (second) refuse(where, second, `does not go with '${first ?? ''}': a rule is about one place`)
  if (first && effectOf(rule) === 'gone') refuse(where, first, 'does not go with the effect gone: all of the disk is')
  if (rule.sectors !== undefined) parseSectors(rule.sectors, where)
  if (rule.within !== undefined) parseWithin(rule.within, where)
}

function membersGoTogether(rule: FaultRule, where: string): void {
  for (const [member, others] of Object.entries(BESIDE)) {
    if (rule[member as FaultMember] === undefined || others.some((other) => rule[other] !== undefined)) continue
    refuse(where, member, `goes with ${others.map((other) => `'${other}'`).join(' or ')}`)
  }
  const isSpare = rule.disk?.startsWith('spare') ?? false
  if (rule.index !== undefined && !isSpare) refuse(where, 'index', 'is the number of a spare, and the disk is none')
}

function membersOfEffect(rule: FaultRule, where: string): void {
  const effect = effectOf(rule)
  for (const member of EFFECT_MEMBERS) {
    if (rule[member] === undefined || EFFECTS[effect].members.includes(member)) continue
    const others = Object.entries(EFFECTS).filter(([, { members }]) => members.includes(member))
    refuse(where, member, `goes with the effect ${others.map(([name]) => name).join(' or ')}, not with ${effect}`)
  }
}

function operationsOfEffect(rule: FaultRule, where: string): void {
  const effect = effectOf(rule)
  const { possible } = EFFECTS[effect]
  if (rule.operations?.length === 0) refuse(where, 'operations', 'is empty, so the rule would be for nothing')
  if (rule.operations && effect === 'gone') refuse(where, 'operations', 'does not go with the effect gone: all fail')
  for (const operation of rule.operations ?? []) {
    if (!possible.includes(operation))
      refuse(where, 'operations', `has ${operation}, and the effect ${effect} is for ${possible.join(', ')}`)
  }
}

/** A day: a timer cannot wait for more than 24 of them. */
export const DELAY_MAX_MS = 86_400_000

const RANGES: readonly (readonly [member: FaultMember, least: number, most: number])[] = [
  ['probability', 0, 1],
  ['percent', 0, 100],
  ['kept-percent', 0, 100],
  ['delay-ms', 0, DELAY_MAX_MS],
  ['delay-max-ms', 0, DELAY_MAX_MS],
  ['duration-ms', 1, DELAY_MAX_MS],
  ['shape', 0.01, 1000],
]

function numbersInRange(rule: FaultRule, where: string): void {
  for (const [member, least, most] of RANGES) {
    const value = rule[member] as number | undefined
    if (value !== undefined && !(value >= least && value <= most))
      refuse(where, member, `should be from ${least} to ${most}, not ${value}`)
  }
  const unit = rule['map-unit'] ?? 1024
  if (!Number.isInteger(Math.log2(unit))) refuse(where, 'map-unit', `should be a power of two, not ${unit}`)
  if (/[^?*/\-+]/.test(rule['map-statuses'] ?? '')) refuse(where, 'map-statuses', 'should be some of ?*/-+')
}

function delayIsSaid(rule: FaultRule, where: string): void {
  if (effectOf(rule) !== 'delay') return
  const { distribution = 'fixed', percentiles, 'delay-ms': ms, 'delay-max-ms': most } = rule
  if (distribution === 'percentiles') checkPercentiles(percentiles ?? [], where)
  else if (percentiles) refuse(where, 'percentiles', 'goes with the distribution percentiles')
  else if (ms === undefined) refuse(where, 'delay-ms', `is missing: the distribution ${distribution} needs it`)
  if (distribution === 'uniform' && (most === undefined || most < (ms ?? 0)))
    refuse(where, 'delay-max-ms', "should be at least 'delay-ms' for the distribution uniform")
  if (rule.shape !== undefined && distribution !== 'pareto') refuse(where, 'shape', 'goes with the distribution pareto')
}

function checkPercentiles(steps: NonNullable<FaultRule['percentiles']>, where: string): void {
  if (steps.length === 0) refuse(where, 'percentiles', 'is missing or empty: the distribution percentiles needs it')
  let last = { percent: 0, ms: 0 }
  for (const step of steps) {
    if (!(step.percent >= last.percent && step.percent <= 100 && step.ms >= last.ms && step.ms <= DELAY_MAX_MS))
      refuse(where, 'percentiles', 'should ascend, from 0 to 100 percent')
    last = step
  }
}

function growthIsSaid({ grow }: FaultRule, where: string): void {
  if (grow === undefined) return
  const isBoth = grow['every-requests'] !== undefined && grow['every-ms'] !== undefined
  const isNone = grow['every-requests'] === undefined && grow['every-ms'] === undefined
  if (isBoth || isNone) refuse(where, 'grow', "needs one of 'every-requests' and 'every-ms'")
}

/** A request has thousands of sectors, and they are drawn one by one. */
const BITS_MAX = 64

function corruptionIsPossible(rule: FaultRule, where: string): void {
  const { corruption = 'bit-flip', bits } = rule
  if (corruption === 'stale' && operationsOf(rule).includes('read'))
    refuse(where, 'corruption', 'stale is of writes, which are not done: add "operations": ["write"]')
  if (bits !== undefined && corruption !== 'bit-flip') refuse(where, 'bits', 'goes with the corruption bit-flip')
  if (bits !== undefined && bits > BITS_MAX) refuse(where, 'bits', `should be at most ${BITS_MAX}: garbage has more`)
}

export const AGES_DEFAULT = { slow: 0, weak: 1000, bad: 2000 } as const

function agesAscend(rule: FaultRule, where: string): void {
  const slow = rule['slow-after'] ?? AGES_DEFAULT.slow
  const weak = rule['weak-after'] ?? AGES_DEFAULT.weak
  const bad = rule['bad-after'] ?? AGES_DEFAULT.bad
  if (slow > weak) refuse(where, 'weak-after', `should be at least 'slow-after', ${slow}`)
  if (weak > bad) refuse(where, 'bad-after', `should be at least 'weak-after', ${weak}`)
}

const ID_LENGTH_MAX = 64

function idIsAName({ id }: FaultRule, where: string): void {
  if (id !== undefined && (id.length > ID_LENGTH_MAX || !/^[A-Za-z0-9][\w.:-]*$/.test(id)))
    refuse(where, 'id', `should be of up to ${ID_LENGTH_MAX} letters, digits, and -_.: , not ${abbreviate(id)}`)
}

/** First sector, and one more than the last. */
export type SectorRange = readonly [first: number, end: number]

/** `"FIRST-LAST"`, or `"SECTOR"`. @throws FaultRuleError */
export function parseWithin(text: string, where = 'rule'): SectorRange {
  const [range, another] = parseSectors(text, where, 'within')
  if (!range || another) refuse(where, 'within', `should be FIRST-LAST, not ${abbreviate(text)}`)
  return range
}

/** A number, a text of numbers and ranges, or a list of these; in the order given. @throws FaultRuleError */
export function parseSectors(value: unknown, where = 'rule', member = 'sectors'): SectorRange[] {
  if (Array.isArray(value)) return value.flatMap((item: unknown) => parseSectors(item, where, member))
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return [[value, value + 1]]
  if (typeof value !== 'string') refuse(where, member, 'should be sectors: 2048, "4096-4103", or a list of these')
  return value.split(',').map((part) => {
    const [, first = '', last = first] = /^\s*(\d+)(?:-(\d+))?\s*$/.exec(part) ?? []
    const range = [Number(first), Number(last) + 1] as const
    if (first === '' || !Number.isSafeInteger(range[1]) || range[1] <= range[0])
      refuse(where, member, `has ${JSON.stringify(abbreviate(part))}, and should have sectors: 2048 or 4096-4103`)
    return range
  })
}
