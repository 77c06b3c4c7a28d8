/** docs/scenario.schema.json says of files what the reader says: the scenarios that come with nbd-remap fit, misspelt ones do not. */
import { readFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'
import t from 'tap'
import { parse } from 'yaml'
import { builtInScenarios } from '../../../qemu/scenario/built-in.js'
import { scenarioSchema } from '../../../qemu/scenario/schema.js'

const fits = new Ajv2020({ strict: false, validateFormats: false }).compile(scenarioSchema())

void t.test('every built-in scenario can be read, has a control run, and fits the schema', (t) => {
  const all = builtInScenarios()
  t.ok(all.length > 0)
  for (const file of all) {
    t.ok(file.scenario.control, `${file.name} has a control run`)
    t.ok(fits(parse(readFileSync(file.path, 'utf8'))), `${file.name}: ${JSON.stringify(fits.errors)}`)
  }
  t.end()
})

void t.test('what the reader refuses does not fit', (t) => {
  const scenario = (step: object, more = {}) => ({
    title: 'x',
    disks: { main: { size: '1M', via: 'storage-daemon' } },
    steps: [step],
    ...more,
  })
  t.ok(fits(scenario({ guest: 'sync' })))
  t.ok(fits(scenario({ repeat: { times: 2, steps: [{ fault: { on: 'main', clusters: 5 } }] } })))
  for (const wrong of [
    scenario({ gest: 'sync' }),
    scenario({ guest: 'sync', finish: 'w' }),
    scenario({ fault: { on: 'main', clutsers: 5 } }),
    scenario({ repeat: { times: 2, steps: [{ gest: 'sync' }] } }),
    scenario({ guest: 'sync' }, { tilte: 'x' }),
    scenario({ guest: 'sync' }, { timeout: 5 }),
    { ...scenario({ guest: 'sync' }), disks: { 'a b': { size: '1M' } } },
  ])
    t.notOk(fits(wrong), JSON.stringify(wrong))
  t.end()
})
