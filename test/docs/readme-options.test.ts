/** README.md lists the commands and options that the program has, with their defaults. */
import { join } from 'node:path'
import t from 'tap'
import { Document, ROOT } from '../support/documents.js'
import { runOk } from '../support/tools.js'

const PROGRAM = join(ROOT, 'dist/src/cli/main.js')
const readme = new Document('README.md')

const help = (...command: string[]): Promise<string> => runOk(process.execPath, PROGRAM, ...command, '--help')

/** The part of a help text under such a title, as one line for each entry. */
function entries(text: string, title: string): string[] {
  const [, section = ''] = text.split(`\n${title}:\n`)
  const [body = ''] = section.split('\n\n')
  return body.replaceAll(/\n {4,}/g, ' ').split('\n')
}

const optionOf = (entry: string): string => /--[a-z-]+/.exec(entry)?.[0] ?? ''
const defaultOf = (text: string): string | undefined => /default: ("?[^"),]+"?)/.exec(text)?.[1]

interface Help {
  readonly text: string
  readonly commands: ReadonlyMap<string, string>
}

/** Of the program and of each of its commands. */
async function readHelp(): Promise<Help> {
  const text = await help()
  const names = entries(text, 'Commands').map((entry) => entry.trim().split(' ')[0] ?? '')
  const commands = names.filter((name) => name !== 'help' && name !== '')
  return { text, commands: new Map((await Promise.all(commands.map((name) => readCommand(name)))).flat()) }
}

/** A command, or in its place those that stand below it: `spare list`, `spare add`. */
async function readCommand(...words: string[]): Promise<[string, string][]> {
  const text = await help(...words)
  const names = entries(text, 'Commands').map((entry) => /^ +([a-z-]+)/.exec(entry)?.[1] ?? '')
  const below = names.filter((name) => name !== 'help' && name !== '')
  if (below.length === 0) return [[words.join(' '), text]]
  return (await Promise.all(below.map((name) => readCommand(...words, name)))).flat()
}

void t.test('README.md has the commands, options, defaults and exit codes of the program', async (t) => {
  const { text, commands } = await readHelp()
  const documented = readme.tables.map(({ heading }) => heading).filter((heading) => heading.startsWith('nbd-remap '))
  t.same(documented.map((heading) => heading.replace('nbd-remap ', '')).sort(), [...commands.keys()].sort())
  for (const [command, commandText] of commands) {
    const options = entries(commandText, 'Options').filter((entry) => optionOf(entry) !== '--help')
    const { rows } = readme.table(`nbd-remap ${command}`, 'option')
    t.same(
      rows.map(([option]) => option),
      options.map(optionOf),
      `options of ${command}`,
    )
    t.same(
      rows.map(([, meaning = '']) => defaultOf(meaning)),
      options.map(defaultOf),
      `defaults of ${command}`,
    )
  }
  const codes = readme.table('Exit codes', 'code').rows.map(([code]) => Number(code))
  const [, line = ''] = /Exit codes: ([^.]*)\./.exec(text) ?? []
  t.same(
    codes,
    [...line.matchAll(/(\d) /g)].map(([, code]) => Number(code)),
  )
})
