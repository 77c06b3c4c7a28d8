/** docs/scenario.schema.json, for editors: from the table that reads the files. */
import { scenarioShape } from './format.js'
import { stepDefinitions } from './format-steps.js'
import type { JsonSchema } from './shape.js'

export const scenarioSchema = (): JsonSchema => ({
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title: 'A scenario of nbd-remap',
  ...scenarioShape.schema,
  $defs: stepDefinitions(),
})
