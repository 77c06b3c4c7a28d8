/** What is made from the definitions of the commands is up to date, complete, and readable by those it is made for. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { withScenarioTables } from '../../qemu/scenario/markdown.js'
import { scenarioSchema } from '../../qemu/scenario/schema.js'
import { LIVE_OPTIONS } from '../../src/cli/configuration.js'
import { EXIT } from '../../src/cli/exit.js'
import { commandsMarkdown, fullName, withCommandList } from '../../src/cli/manual/markdown.js'
import { allCommands, exitCodesOf, leavesOf, referenceOf } from '../../src/cli/manual/reference.js'
import { manPages } from '../../src/cli/manual/roff.js'
import { statusSchema } from '../../src/cli/manual/status-schema.js'
import { loadProgram } from '../../src/cli/program.js'
import { serveCommand } from '../../src/cli/serve.js'
import { namesIn, ROOT } from '../support/documents.js'
import { requireTool } from '../support/tools.js'

const program = referenceOf(await loadProgram())
const pages = manPages(program, '1.2.3')

const assertCurrent = (t: Test, path: string, wanted: (text: string) => string): void => {
  const text = readFileSync(join(ROOT, path), 'utf8')
  t.ok(text === wanted(text), `${path} is up to date; else run \`npm run docs\``)
}

void t.test('docs/COMMANDS.md, the schemas, docs/SCENARIOS.md and the list in README.md are up to date', (t) => {
  assertCurrent(t, 'docs/COMMANDS.md', () => commandsMarkdown(program))
  assertCurrent(t, 'docs/status.schema.json', () => `${JSON.stringify(statusSchema(), null, 2)}\n`)
  assertCurrent(t, 'docs/scenario.schema.json', () => `${JSON.stringify(scenarioSchema(), null, 2)}\n`)
  assertCurrent(t, 'docs/SCENARIOS.md', withScenarioTables)
  assertCurrent(t, 'README.md', (text) => withCommandList(text, program))
  t.end()
})

void t.test('every command has a description, an example, and a meaning for each exit code', (t) => {
  for (const command of leavesOf(program)) {
    const name = fullName(command)
    t.match(command.description, /^[A-Z].*\.$/s, `${name}: a description in sentences`)
    t.match(command.example, /\S/, `${name}: an example`)
    for (const option of command.options) t.match(option.description, /\S/, `${name}: ${option.long}`)
    t.same(
      exitCodesOf(command, program).filter(({ meaning }) => meaning === ''),
      [],
    )
  }
  t.same(
    program.exitCodes.map(({ code }) => code),
    Object.values(EXIT),
  )
  t.end()
})

void t.test('docs/RUNNING.md names the options that a reload changes', (t) => {
  const text = readFileSync(join(ROOT, 'docs/RUNNING.md'), 'utf8')
  const [, list = ''] = /can change without a restart: (.*?)\. An option/s.exec(text) ?? []
  const live = serveCommand().options.filter((option) => LIVE_OPTIONS.has(option.attributeName()))
  t.equal(live.length, LIVE_OPTIONS.size)
  t.same(namesIn(list).sort(), live.map(({ long }) => long?.slice(2)).sort())
  t.end()
})

void t.test(
  'docs/COMMANDS.md has every option of every command, with default, choices and whether it is required',
  (t) => {
    const text = commandsMarkdown(program)
    for (const command of leavesOf(program)) t.ok(text.includes(`\n## ${fullName(command)}\n`), fullName(command))
    t.match(text, /^- `--on-read-error <policy>`: .*\(choices: "eio", "zero", default: "eio"\)$/m)
    t.match(text, /^- `--main <main>`: .*\(required\)$/m)
    t.end()
  },
)

void t.test('there is a man page of the program and of each command, with all its sections in their order', (t) => {
  t.equal(pages.length, allCommands(program).length)
  const sections = (file: string): string[] => {
    const { text = '' } = pages.find((page) => page.file === file) ?? {}
    return [...text.matchAll(/^\.SH (.*)$/gm)].map(([, name = '']) => name)
  }
  const [before, after] = [
    ['NAME', 'SYNOPSIS', 'DESCRIPTION'],
    ['OPTIONS', 'EXIT STATUS', 'EXAMPLES', 'SEE ALSO'],
  ]
  t.same(sections('nbd-remap.1'), [...before, 'COMMANDS', ...after])
  t.same(sections('nbd-remap-serve.1'), [...before, ...after])
  t.same(sections('nbd-remap-spare-add.1'), [...before, 'ARGUMENTS', ...after])
  t.end()
})

void t.test('groff renders the man pages without a warning, and nothing of the text is lost', (t) => {
  requireTool('groff')
  const folder = mkdtempSync(join(tmpdir(), 'nbdr-man-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true })
  })
  for (const { file, text } of pages) writeFileSync(join(folder, file), text)
  const files = pages.map(({ file }) => join(folder, file))
  const { stdout, stderr } = spawnSync('groff', ['-man', '-ww', '-Tutf8', '-P-cbou', ...files], { encoding: 'utf8' })
  t.equal(stderr, '')
  const words = (text: string): string => text.replaceAll(/\s+/g, '')
  // Words are hyphenated at the end of a line.
  const rendered = words(stdout).replaceAll('‐', '')
  for (const command of leavesOf(program)) {
    for (const line of command.example.split('\n')) t.ok(rendered.includes(words(line)), line)
  }
  t.end()
})
