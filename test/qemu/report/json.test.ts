/** What `writeJson` writes can be read again, obeys the published schema, and is refused with a reason when it is damaged. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import t from 'tap'
import { readJson, RecordFormatError, writeJson } from '../../../qemu/report/json.js'
import { RUNS_SCHEMA } from '../../../qemu/report/schema.js'
import { packageRoot } from '../../../src/cli/package-version.js'
import { seededRandom } from '../../support/random.js'
import { killedControl, killedRun, randomRun } from '../../support/run-records.js'

const validate = new Ajv2020({ allowUnionTypes: true }).compile(RUNS_SCHEMA)

void t.test('what was written is read again, and obeys the schema', (t) => {
  const random = seededRandom(t)
  const runs = [killedRun({ control: killedControl() }), ...Array.from({ length: 100 }, () => randomRun(random))]
  const text = writeJson(runs)
  t.same(readJson(text), runs)
  t.ok(validate(JSON.parse(text)), JSON.stringify(validate.errors))
  t.end()
})

void t.test('the schema in docs/ is the one that is checked', (t) => {
  const published: unknown = JSON.parse(readFileSync(join(packageRoot(), 'docs/runs.schema.json'), 'utf8'))
  t.same(published, JSON.parse(JSON.stringify(RUNS_SCHEMA)), 'npm run docs writes it')
  t.end()
})

void t.test('damage is refused where it is', (t) => {
  const refuses = (text: string, message: RegExp): void => {
    t.throws(() => readJson(text), { name: RecordFormatError.name, message }, message.source)
  }
  const damaged = (change: object): string => JSON.stringify({ version: 1, runs: [{ ...killedRun(), ...change }] })
  refuses('{"version": 1, "runs": [', /^not JSON: /)
  refuses('vm\n', /^not JSON: [^\n]*$/)
  refuses('[]', /^the document must be an object/)
  refuses('{"runs": []}', /^version: none, but this program reads 1 only/)
  refuses('{"version": 2, "runs": []}', /^version: 2/)
  refuses('{"version": 1}', /^runs must be an array/)
  refuses(damaged({ name: 7 }), /^runs\[0\]\.name must be a string/)
  refuses(damaged({ startedAt: 'yesterday' }), /^runs\[0\]\.startedAt must be a date/)
  refuses(damaged({ outcome: 'great' }), /^runs\[0\]\.outcome must be one of passed, failed, broken/)
  refuses(damaged({ durationMs: -1 }), /^runs\[0\]\.durationMs must be a number of milliseconds/)
  refuses(damaged({ checks: [{}] }), /^runs\[0\]\.checks\[0\]\.name must be a string/)
  refuses(
    damaged({ marks: [{ atMs: 0, kind: 'party', text: '' }] }),
    /^runs\[0\]\.marks\[0\]\.kind must be one of step,/,
  )
  const series = [{ lane: '', name: '', unit: '', points: [[0, 1], [1]] }]
  refuses(damaged({ series }), /^runs\[0\]\.series\[0\]\.points\[1\] must be a time and a value/)
  const control = { ...killedControl(), control: killedControl() }
  refuses(damaged({ control }), /^runs\[0\]\.control\.control must be absent/)
  t.end()
})

void t.test('the schema refuses what the reader refuses', (t) => {
  for (const change of [{ name: 7 }, { outcome: 'great' }, { durationMs: -1 }, { checks: [{}] }, { series: 7 }]) {
    t.notOk(validate({ version: 1, runs: [{ ...killedRun(), ...change }] }), JSON.stringify(change))
  }
  t.end()
})
