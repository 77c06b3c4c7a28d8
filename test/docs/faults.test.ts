/** docs/FAULTS.md against the vocabulary that the program works from. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { withFaultTables } from '../../src/faults/markdown.js'
import { parseFaultFile, parseFaultRule } from '../../src/faults/parse.js'
import { EFFECTS, FAULT_MEMBERS } from '../../src/faults/vocabulary.js'
import { Document, ROOT } from '../support/documents.js'

const document = new Document('docs/FAULTS.md')

void t.test('the tables of the vocabulary are up to date; else run npm run docs', (t) => {
  const text = readFileSync(join(ROOT, 'docs/FAULTS.md'), 'utf8')
  t.equal(text, withFaultTables(text))
  t.ok(document.table('A rule', 'member').rows.length > Object.keys(FAULT_MEMBERS).length)
  t.same(
    document.table('Effects', 'effect').rows.map(([name]) => name),
    Object.keys(EFFECTS),
  )
  t.end()
})

void t.test('every member and effect is described', (t) => {
  for (const [name, { description }] of Object.entries(FAULT_MEMBERS)) t.match(description, /\S/, name)
  for (const [name, { description }] of Object.entries(EFFECTS)) t.match(description, /\S/, name)
  t.end()
})

void t.test('every rule shown is accepted', (t) => {
  const examples = document.blocks.filter(({ language }) => language === 'json')
  t.ok(examples.length > 0)
  for (const { text } of examples) {
    const value = JSON.parse(text) as object
    t.doesNotThrow(
      () => ('rules' in value || Array.isArray(value) ? parseFaultFile(value) : parseFaultRule(value)),
      text,
    )
  }
  t.end()
})
