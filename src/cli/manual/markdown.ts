/** docs/COMMANDS.md, and the list of commands in README.md. */
import {
  allCommands,
  exitCodesOf,
  leavesOf,
  type CommandReference,
  type ExitCode,
  type OptionReference,
} from './reference.js'

const INTRODUCTION = `# Commands

Written by \`npm run docs\` from the definitions that \`nbd-remap COMMAND --help\` and the man pages are printed from.
To change something here, change it there.
`

export function commandsMarkdown(program: CommandReference): string {
  const leaves = leavesOf(program)
  return [
    INTRODUCTION,
    list(
      leaves.map(
        (command) => `[${fullName(command)}](#${anchorOf(fullName(command))}): ${escape(command.description)}`,
      ),
    ),
    '## Exit codes\n',
    exitCodes(program.exitCodes),
    'Whatever is not 0 comes with one sentence on standard error. With `NBD_REMAP_DEBUG=1` in the environment a stack trace follows.\n',
    ...allCommands(program)
      .filter(({ commands }) => commands.length === 0)
      .map((command) => section(command, program)),
  ].join('\n')
}

const LIST_BEGINS = '<!-- commands: written by npm run docs -->\n'
const LIST_ENDS = '<!-- end of commands -->'

/** README.md with the commands of now between its two marks. */
export function withCommandList(readme: string, program: CommandReference): string {
  const [head, rest = ''] = readme.split(LIST_BEGINS)
  const [, tail] = rest.split(LIST_ENDS)
  if (head === undefined || tail === undefined) throw new Error(`README.md has no '${LIST_BEGINS}' and '${LIST_ENDS}'`)
  const items = program.commands.map((command) => {
    const words = [command, ...command.commands].map((it) => it.words.at(-1) ?? '')
    const [first = command] = command.commands
    const name = command.commands.length === 0 ? words.join() : `${words[0] ?? ''} ${words.slice(1).join('|')}`
    return `[\`${name}\`](docs/COMMANDS.md#${anchorOf(fullName(first))}): ${escape(summaryOf(command))}`
  })
  return `${head}${LIST_BEGINS}\n${list(items)}\n${LIST_ENDS}${tail}`
}

/** The first sentence of what it does. */
export const summaryOf = ({ description }: CommandReference): string =>
  description.replace(/[.;:] .*$/s, '').replace(/\.$/, '')

export const fullName = ({ words }: CommandReference): string => ['nbd-remap', ...words].join(' ')

const anchorOf = (heading: string): string => heading.replaceAll(' ', '-')

function section(command: CommandReference, program: CommandReference): string {
  const parts = [`## ${fullName(command)}\n`, `${escape(command.description)}\n`, fenced('', command.usage)]
  if (command.arguments.length > 0)
    parts.push(list(command.arguments.map(({ term, description }) => `\`${term}\`: ${escape(description)}`)))
  const options = command.options.filter(isOwn)
  if (options.length > 0)
    parts.push(list(options.map(({ term, description }) => `\`${term}\`: ${escape(description)}`)))
  parts.push(...command.notes.map((note) => (isPreformatted(note) ? fenced('', note) : `${escape(joined(note))}\n`)))
  if (command.exitCodes.length > 0) parts.push('Exit codes:\n', exitCodes(exitCodesOf(command, program)))
  if (command.example !== '') parts.push(fenced('sh', command.example))
  return parts.join('\n')
}

const isOwn = ({ long }: OptionReference): boolean => long !== '--help'

/** A text with lines that are indented was laid out by hand. */
export const isPreformatted = (note: string): boolean => /^ /m.test(note)

export const joined = (note: string): string => note.replaceAll(/\s*\n\s*/g, ' ')

const fenced = (language: string, text: string): string => `\`\`\`${language}\n${text}\n\`\`\`\n`

const list = (items: readonly string[]): string => items.map((item) => `- ${item}\n`).join('')

const exitCodes = (codes: readonly ExitCode[]): string =>
  list(codes.map(({ code, meaning }) => `${code}: ${escape(meaning)}`))

const escape = (text: string): string => text.replaceAll(/[\\*_<>[\]|`]/g, '\\$&')
