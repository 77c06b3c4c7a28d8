/**
 * What there is to say of each command, taken from the definitions that `--help` is printed from. Markdown, man pages and
 * shell completion are made of it, so an option is described in one place.
 *
 * A command's text after its options (`addHelpText('after', ...)`) has paragraphs, parted by empty lines: `Example:` with
 * its lines, a sentence that begins with `Exit codes:`, and whatever else there is to know.
 */
import type { Argument, Command, Option } from 'commander'

export interface OptionReference {
  /** As `--help` shows it: `-V, --version`, `--main <main>`. */
  readonly term: string
  readonly description: string
  readonly long: string
  readonly short: string | undefined
  /** `<path>`: what its value is. Flags have none. */
  readonly value: string | undefined
  readonly choices: readonly string[]
  readonly isMandatory: boolean
}

export interface ArgumentReference {
  readonly term: string
  readonly description: string
  readonly choices: readonly string[]
}

export interface ExitCode {
  readonly code: number
  readonly meaning: string
}

export interface CommandReference {
  /** `['spare', 'add']`; none for the program itself. */
  readonly words: readonly string[]
  readonly description: string
  /** `nbd-remap spare add [options] <spare>` */
  readonly usage: string
  readonly arguments: readonly ArgumentReference[]
  readonly options: readonly OptionReference[]
  readonly notes: readonly string[]
  /** Those of its own; the program's count for what is not here. */
  readonly exitCodes: readonly ExitCode[]
  readonly example: string
  readonly commands: readonly CommandReference[]
}

/** @param program with all its commands */
export const referenceOf = (program: Command): CommandReference => describe(program, [])

/** A command and all those below it. */
export const allCommands = (command: CommandReference): readonly CommandReference[] => [
  command,
  ...command.commands.flatMap(allCommands),
]

/** Those that do something: a command with commands below it only names them. */
export const leavesOf = (program: CommandReference): readonly CommandReference[] =>
  allCommands(program).filter(({ commands }) => commands.length === 0)

function describe(command: Command, words: readonly string[]): CommandReference {
  const help = command.createHelp()
  const children = help.visibleCommands(command).filter((child) => child.name() !== 'help')
  return {
    words,
    description: help.commandDescription(command),
    usage: help.commandUsage(command),
    arguments: command.registeredArguments.map((argument) => describeArgument(argument, help.argumentTerm(argument))),
    options: help
      .visibleOptions(command)
      .map((option) => describeOption(option, help.optionTerm(option), help.optionDescription(option))),
    ...parseText(textAfter(command)),
    commands: children.map((child) => describe(child, [...words, child.name()])),
  }
}

const describeArgument = (argument: Argument, term: string): ArgumentReference => ({
  term: argument.required ? `<${term}>` : `[${term}]`,
  description: argument.description,
  choices: argument.argChoices ?? [],
})

const describeOption = (option: Option, term: string, description: string): OptionReference => ({
  term,
  description: option.mandatory ? `${description} (required)` : description,
  long: option.long ?? '',
  short: option.short,
  value: /[<[].*/.exec(option.flags)?.[0],
  choices: option.argChoices ?? [],
  isMandatory: option.mandatory,
})

/** What `--help` prints after the options. */
function textAfter(command: Command): string {
  let text = ''
  const output = command.configureOutput()
  command.configureOutput({ writeOut: (part) => (text += part) })
  command.outputHelp()
  command.configureOutput(output)
  return text.slice(command.helpInformation().length)
}

type Text = Pick<CommandReference, 'notes' | 'exitCodes' | 'example'>

function parseText(text: string): Text {
  const [body = '', example = ''] = text.split(/^Examples?:\n/m)
  const paragraphs = body.split(/\n{2,}/).map((paragraph) => paragraph.replace(/^\n+|\s+$/g, ''))
  const notes: string[] = []
  let exitCodes: readonly ExitCode[] = []
  for (const paragraph of paragraphs) {
    const [note = '', codes] = paragraph.split(/\bExit codes: /)
    if (codes !== undefined) exitCodes = parseExitCodes(codes)
    if (note.trim() !== '') notes.push(note.trimEnd())
  }
  return { notes, exitCodes, example: example.replaceAll(/^ {2}/gm, '').trimEnd() }
}

/** Of `0 done, 1 failed (for one reason, or another).` */
const parseExitCodes = (text: string): ExitCode[] =>
  text
    .replaceAll(/\s+/g, ' ')
    .replace(/\. *$/, '')
    .split(/, (?=\d+ )/)
    .map((entry) => {
      const [, code = '', meaning = ''] = /^(\d+) (.*)$/.exec(entry) ?? []
      if (code === '') throw new Error(`'Exit codes: ${text}' is not a list such as '0 done, 1 failed'`)
      return { code: Number(code), meaning }
    })

/** A command's own exit codes, and the program's for the rest. */
export function exitCodesOf(command: CommandReference, program: CommandReference): readonly ExitCode[] {
  const own = new Map(command.exitCodes.map((it) => [it.code, it]))
  const all = program.exitCodes.filter(({ code }) => !own.has(code)).concat([...own.values()])
  return all.sort((a, b) => a.code - b.code)
}
