/** Every feature that docs/FEATURES.md says is there names tests, which are there, too. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { Document, ROOT } from '../support/documents.js'

const document = new Document('docs/FEATURES.md')

void t.test('what is there has a test, and what is not says "no" or "partly"', (t) => {
  const rows = document.tables.flatMap(({ columns, rows }) => {
    t.same(columns, ['feature', 'here', 'test'])
    return rows
  })
  t.ok(rows.length > 40, 'the tables were found')
  for (const [feature = '', here = '', tests = ''] of rows) {
    t.match(here, /^(yes|no|partly: .+|no: .+)$/, feature)
    const named = [...tests.matchAll(/\]\(\.\.\/(test\/[^)]+)\)/g)].map(([, path = '']) => path)
    if (!here.startsWith('no')) t.ok(named.length > 0, feature)
    for (const path of named) t.ok(path.endsWith('.test.ts') && existsSync(join(ROOT, path)), `${feature}: ${path}`)
  }
  t.end()
})
