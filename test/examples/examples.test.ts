/** The programs of examples/, run as their comments say. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { PROGRAM } from '../support/cli.js'
import { Document, ROOT } from '../support/documents.js'
import { requireTool, run } from '../support/tools.js'

t.setTimeout(900_000)

const EXAMPLES = join(ROOT, 'examples')
const examples = (suffix: string): string[] => readdirSync(EXAMPLES).filter((name) => name.endsWith(suffix))

/** Without what tap puts into the environment of its children. */
const node = (...args: string[]) =>
  run('env', '--unset=NODE_OPTIONS', '--unset=NODE_TEST_CONTEXT', process.execPath, ...args)

for (const name of examples('.test.mjs')) {
  void t.test(`${name} passes`, async (t) => {
    requireTool('sqlite3')
    const { status, stdout, stderr } = await node('--test', join(EXAMPLES, name))
    t.equal(status, 0, status === 0 ? 'done' : stdout + stderr)
    t.match(stdout, /^# pass [1-9]/m)
    t.match(stdout, /^# SEED=\w+ repeats this run$/m)
    t.match(stdout, /^# [1-9]\d* blocks are on the spare$/m)
  })
}

for (const name of examples('.yaml')) {
  void t.test(`${name} passes, and its control run fails as it says`, async (t) => {
    const { status, stdout, stderr } = await node(PROGRAM, 'scenario', 'run', join(EXAMPLES, name), '--set', 'files=60')
    t.equal(status, 0, status === 0 ? 'done' : stdout + stderr)
    t.match(stdout, /ok \d+ - without nbd-remap it fails/)
  })
}

void t.test('what the jobs for continuous integration call is there', (t) => {
  for (const name of readdirSync(join(EXAMPLES, 'ci'))) {
    const text = readFileSync(join(EXAMPLES, 'ci', name), 'utf8')
    t.type(parse(text), 'object', name)
    t.match(text, /node_modules\/nbd-remap\/scripts\/setup\n/)
    t.match(text, /npx nbd-remap scenario run \S+ --seed "\$SEED" --junit \S+ --html \S+\n/)
  }
  const { files } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { files: string[] }
  for (const part of ['scripts', 'images', 'dist/qemu', 'examples']) t.ok(files.includes(part), part)
  t.end()
})

void t.test('the tutorial names every example', (t) => {
  const { text } = new Document('docs/TUTORIAL.md')
  const names = [...readdirSync(EXAMPLES, { withFileTypes: true })]
  for (const { name } of names) t.match(text, `(../examples/${name}`, name)
  t.end()
})
