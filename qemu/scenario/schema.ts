/**
 * docs/scenario.schema.json, for editors: from the table that reads the files. Where only certain words or numbers fit, `{{NAME}}` of
 * a parameter does, too: what it stands for is known when the file is read.
 */
import { scenarioShape } from './format.js'
import { stepDefinitions } from './format-steps.js'
import type { JsonSchema } from './shape.js'

const PARAMETER = { $ref: '#/$defs/parameter' }

export const scenarioSchema = (): JsonSchema => ({
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title: 'A scenario of nbd-remap',
  ...(withParameters(scenarioShape.schema) as JsonSchema),
  $defs: {
    parameter: { type: 'string', pattern: '^\\{\\{ *[\\w-]+ *\\}\\}$', description: 'A parameter of the scenario.' },
    ...(withParameters(stepDefinitions()) as object),
  },
})

function withParameters(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(withParameters)
  if (typeof schema !== 'object' || schema === null) return schema
  if (isLeaf(schema as JsonSchema)) return orParameter(schema as JsonSchema)
  return Object.fromEntries(
    Object.entries(schema).map(([key, value]) => [key, LITERAL.has(key) ? value : withParameters(value)]),
  )
}

/** Below these stand values and names, and no schemas of what stands in the file. */
const LITERAL: ReadonlySet<string> = new Set(['enum', 'default', 'required', 'propertyNames', 'type', 'oneOf'])

const isLeaf = ({ type, enum: words, pattern }: JsonSchema): boolean =>
  words !== undefined || type === 'number' || type === 'integer' || type === 'boolean' || pattern !== undefined

const orParameter = ({ description, default: byDefault, ...rest }: JsonSchema): JsonSchema => ({
  ...(description === undefined ? {} : { description }),
  ...(byDefault === undefined ? {} : { default: byDefault }),
  anyOf: [rest, PARAMETER],
})
