/**
 * Writes the documents that are made from the definitions of the commands. `npm run docs` has it write docs/COMMANDS.md,
 * docs/status.schema.json, docs/runs.schema.json, docs/scenario.schema.json, the tables of docs/FAULTS.md
 * and docs/SCENARIOS.md, the list of commands in README.md and the man pages;
 * every build the man pages alone, with the argument `man`.
 */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { RUNS_SCHEMA } from '../../../qemu/report/schema.js'
import { withScenarioTables } from '../../../qemu/scenario/markdown.js'
import { scenarioSchema } from '../../../qemu/scenario/schema.js'
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
  await writeFile(join(packageRoot(), 'docs/scenario.schema.json'), `${JSON.stringify(scenarioSchema(), null, 2)}\n`)
  const scenarios = join(packageRoot(), 'docs/SCENARIOS.md')
  await writeFile(scenarios, withScenarioTables(await readFile(scenarios, 'utf8')))
  await writeFile(readme, withCommandList(await readFile(readme, 'utf8'), program))
}
