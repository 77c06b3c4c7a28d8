/** docs/status.schema.json: what `nbd-remap status --json` prints, from the definitions of the answers that it is made of. */
import { STATUS } from '../../control/commands.js'
import { HEALTH } from '../../control/health-commands.js'
import { TABLE } from '../../control/remap-commands.js'
import { STATISTICS } from '../../control/statistics-commands.js'
import type { QmpMember, QmpMembers } from '../../qmp/schema.js'

type JsonSchema = Readonly<Record<string, unknown>>

export function statusSchema(): JsonSchema {
  const { latency, ...counters } = STATISTICS.members
  const figures = Object.fromEntries(Object.entries(latency.of.members).filter(([name]) => name !== 'histogram'))
  const latencies = { kind: 'array', of: { kind: 'object', members: figures } } as const
  const statistics = { kind: 'object', members: { ...counters, latency: latencies } } as const
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'nbd-remap status --json',
    description: 'Written by `npm run docs`. What the members mean stands in CONTROL.md.',
    ...ofObject({ ...STATUS.members, table: TABLE, statistics, health: HEALTH }),
  }
}

function ofMember(member: QmpMember): JsonSchema {
  const { description } = member
  return { ...(description === undefined ? {} : { description }), ...ofType(member) }
}

function ofType(type: QmpMember): JsonSchema {
  switch (type.kind) {
    case 'size':
      return { type: 'integer', minimum: 0 }
    case 'int': {
      const { min, max } = type
      return { type: 'integer', ...(min !== undefined && { minimum: min }), ...(max !== undefined && { maximum: max }) }
    }
    case 'number':
      return { type: 'number' }
    case 'bool':
      return { type: 'boolean' }
    case 'str':
      return { type: 'string' }
    case 'enum':
      return { enum: type.values }
    case 'array':
      return { type: 'array', items: ofMember(type.of) }
    case 'object':
      return ofObject(type.members)
    case 'any':
      return {}
  }
}

const ofObject = (members: QmpMembers): JsonSchema => ({
  type: 'object',
  properties: Object.fromEntries(Object.entries(members).map(([name, member]) => [name, ofMember(member)])),
  required: Object.entries(members)
    .filter(([, { optional }]) => optional !== true)
    .map(([name]) => name),
  additionalProperties: false,
})
