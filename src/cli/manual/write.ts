/**
 * Writes the documents that are made from the definitions of the commands. `npm run docs` has it write docs/COMMANDS.md,
 * docs/status.schema.json, docs/runs.schema.json, the tables of docs/FAULTS.md, the list of commands in README.md and the man pages;
 * every build the man pages alone, with the argument `man`.
 */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { RUNS_SCHEMA } from '../../../qemu/report/schema.js'
import { withFaultTables } from '../../faults/markdown.js'
import { packageRoot, packageVersion } from '../package-version.js'
import { loadProgram } from '../program.js'
import { commandsMarkdown, withCommandList } from './markdown.js'
import { referenceOf } from './reference.js'
import { manPages } from './roff.js'
import { statusSchema } from './status-schema.js'

const program = referenceOf(await loadProgram())
const folder = join(packageRoot(), 'dist/man')

await rm(folder, { recursive: true, force: true })
await mkdir(folder, { recursive: true })
for (const { file, text } of manPages(program, packageVersion())) await writeFile(join(folder, file), text)
if (process.argv[2] !== 'man') {
  const readme = join(packageRoot(), 'README.md')
  await writeFile(join(packageRoot(), 'docs/COMMANDS.md'), commandsMarkdown(program))
  await writeFile(join(packageRoot(), 'docs/status.schema.json'), `${JSON.stringify(statusSchema(), null, 2)}\n`)
  const faults = join(packageRoot(), 'docs/FAULTS.md')
  await writeFile(faults, withFaultTables(await readFile(faults, 'utf8')))
  await writeFile(join(packageRoot(), 'docs/runs.schema.json'), `${JSON.stringify(RUNS_SCHEMA, null, 2)}\n`)
  await writeFile(readme, withCommandList(await readFile(readme, 'utf8'), program))
}
