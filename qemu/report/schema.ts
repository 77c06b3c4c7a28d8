/** JSON schema of the document that `writeJson` writes; `npm run docs` puts it into docs/runs.schema.json. */
import { RUNS_VERSION } from './json.js'
import { MARK_KINDS, OUTCOMES } from './record.js'

const STRING = { type: 'string' }
const NUMBER = { type: 'number' }
const TIME = { type: 'number', minimum: 0, description: 'milliseconds since the run began' }

const object = (properties: Record<string, object>, optional: readonly string[] = []): object => ({
  type: 'object',
  properties,
  required: Object.keys(properties).filter((name) => !optional.includes(name)),
  additionalProperties: false,
})

const array = (items: object): object => ({ type: 'array', items })

const CHECK = object({ name: STRING, ok: { type: 'boolean' }, detail: STRING, atMs: TIME }, ['detail'])

const MEASUREMENT = object(
  {
    name: STRING,
    value: { type: ['number', 'null'], description: 'null: it could not be measured' },
    unit: STRING,
    limit: { ...NUMBER, description: 'the most that is allowed' },
  },
  ['limit'],
)

const POINT = {
  type: 'array',
  prefixItems: [
    { ...NUMBER, description: TIME.description },
    { type: ['number', 'null'], description: 'null: a gap' },
  ],
  minItems: 2,
  maxItems: 2,
}

const SERIES = object({ lane: STRING, name: STRING, unit: STRING, points: array(POINT) })

const MARK = object({ atMs: TIME, kind: { enum: MARK_KINDS }, text: STRING, durationMs: TIME }, ['durationMs'])

const RUN = {
  name: STRING,
  title: STRING,
  seed: STRING,
  startedAt: { type: 'string', description: 'ISO 8601' },
  durationMs: TIME,
  outcome: { enum: OUTCOMES },
  error: STRING,
  checks: array(CHECK),
  measurements: array(MEASUREMENT),
  series: array(SERIES),
  marks: array(MARK),
}

export const RUNS_SCHEMA = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title: 'Runs of nbd-remap scenarios',
  ...object({ version: { const: RUNS_VERSION }, runs: array({ $ref: '#/$defs/run' }) }),
  $defs: {
    run: object({ ...RUN, control: { $ref: '#/$defs/control' } }, ['error', 'control']),
    control: object(RUN, ['error']),
  },
}
