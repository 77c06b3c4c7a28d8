/**
 * The step `fault`: a rule in the vocabulary of docs/FAULTS.md, and what it is put on. A disk behind a storage daemon takes it by
 * blkdebug, with or without nbd-remap above; a server by its built-in fault device, which can do all effects.
 */
import { FaultRuleError, parseFaultRule } from '../../src/faults/parse.js'
import { FAULT_MEMBERS, type FaultRule } from '../../src/faults/vocabulary.js'
import type { QmpMember } from '../../src/qmp/index.js'
import { name } from './quantity.js'
import { kindOf, type JsonSchema, type Place, type Shape } from './shape.js'

export interface Fault {
  /** A disk behind a storage daemon, or a server. */
  readonly on: string
  readonly rule: FaultRule
}
export type FaultInput = { readonly on: string } & FaultRule

const description = 'From now on a disk has this fault, besides those that it has.'

export const fault: Shape<Fault, FaultInput | Fault> = {
  schema: faultSchema(),
  read: (value, at) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      return at.fail(`must be a mapping such as { on: main, clusters: 100, operations: [write] }, not ${kindOf(value)}`)
    const { on, ...rest } = value as Readonly<Record<string, unknown>>
    if (on === undefined) return at.fail("needs 'on', the name of a disk or a server")
    const below = at.below('on')
    const target = below.try(() => name.read(on, below)) ?? ''
    return { on: target, rule: readRule('rule' in rest ? rest['rule'] : rest, at) }
  },
}

function readRule(rule: unknown, at: Place): FaultRule {
  try {
    return parseFaultRule(rule, 'fault')
  } catch (error) {
    if (!(error instanceof FaultRuleError)) throw error
    const { member } = error
    if (member === undefined) return at.fail(error.message)
    at.note({ path: [...at.path, ...member.split('.')], what: error.message, atKey: true })
    return {}
  }
}

function faultSchema(): JsonSchema {
  const members = Object.entries(FAULT_MEMBERS).map(([key, member]) => [key, memberSchema(member)] as const)
  return {
    type: 'object',
    description,
    properties: {
      on: { type: 'string', description: 'Name of a disk behind a storage daemon, or of a server.' },
      ...Object.fromEntries(members),
    },
    required: ['on'],
    additionalProperties: false,
  }
}

function memberSchema(member: QmpMember): JsonSchema {
  const about = member.description === undefined ? {} : { description: member.description }
  switch (member.kind) {
    case 'str':
      return { type: 'string', ...about }
    case 'bool':
      return { type: 'boolean', ...about }
    case 'int':
    case 'size':
      return { type: 'integer', ...about }
    case 'number':
      return { type: 'number', ...about }
    case 'enum':
      return { enum: member.values, ...about }
    case 'array':
      return { type: 'array', items: memberSchema(member.of), ...about }
    case 'object':
      return {
        type: 'object',
        properties: Object.fromEntries(Object.entries(member.members).map(([key, it]) => [key, memberSchema(it)])),
        additionalProperties: false,
        ...about,
      }
    default:
      return about
  }
}
