/** The table of layers in docs/ARCHITECTURE.md is the one that test/layers.test.ts checks. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { Document, namesIn, ROOT } from '../support/documents.js'

const document = new Document('docs/ARCHITECTURE.md')

const quoted = (text: string): string[] => [...text.matchAll(/'([^']+)'/g)].map(([, name = '']) => name)

void t.test('the layers are those that are checked', (t) => {
  const source = readFileSync(join(ROOT, 'test/layers.test.ts'), 'utf8')
  const [, table = ''] = /const ALLOWED[^=]*= {\n([^]*?)\n}\n/.exec(source) ?? []
  const checked = table.split('\n').map((line) => {
    const [folder = '', allowed = ''] = line.split(': ')
    return [folder.trim().replaceAll("'", ''), quoted(allowed).sort()]
  })
  const documented = document.table('Layers', 'folder').rows.map(([folder = '', allowed = '']) => {
    // A cell that is nothing but one name has lost its backticks.
    const names = allowed === '' || allowed.includes('`') ? namesIn(allowed) : [allowed]
    return [folder, names.sort()]
  })
  t.ok(checked.length >= 10)
  t.same(documented, checked)
  t.end()
})

void t.test('every promise stands in the table, with a test or the words that there is none', (t) => {
  const rows = document.table('The promises', 'promise').rows
  t.equal(rows.length, 10)
  for (const [n, [promise = '', tests = '']] of rows.entries()) {
    t.match(promise, `**P${n + 1}**`)
    t.match(tests, /\]\(\.\.\/test\/[^)]+\.test\.ts\)|no test yet/)
  }
  t.end()
})
