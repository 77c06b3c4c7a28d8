/** Man pages, in the macros of man(7): one of the program and one of each command. */
import { fullName, isPreformatted, joined, summaryOf } from './markdown.js'
import { allCommands, exitCodesOf, type CommandReference } from './reference.js'

export interface ManPage {
  /** `nbd-remap-spare-add.1` */
  readonly file: string
  readonly text: string
}

export const manPages = (program: CommandReference, version: string): readonly ManPage[] =>
  allCommands(program).map((command) => ({
    file: `${pageName(command)}.1`,
    text: `${page(command, program, version)}\n`,
  }))

const pageName = (command: CommandReference): string => fullName(command).replaceAll(' ', '-')

function page(command: CommandReference, program: CommandReference, version: string): string {
  const name = pageName(command)
  return [
    `.TH ${name.toUpperCase()} 1 "" "nbd-remap ${version}" "nbd-remap"`,
    '.SH NAME',
    `${text(name)} \\- ${text(summaryOf(command))}`,
    '.SH SYNOPSIS',
    ...synopsis(command),
    '.SH DESCRIPTION',
    paragraph(command.description),
    ...command.notes.flatMap((note) => ['.PP', isPreformatted(note) ? verbatim(note) : paragraph(joined(note))]),
    ...tagged(
      'ARGUMENTS',
      command.arguments.map(({ term, description }) => [term, description]),
    ),
    ...tagged(
      'COMMANDS',
      command.commands.map((child) => [child.words.at(-1) ?? '', child.description]),
    ),
    ...tagged(
      'OPTIONS',
      command.options.map(({ term, description }) => [term, description]),
    ),
    ...tagged(
      'EXIT STATUS',
      exitCodesOf(command, program).map(({ code, meaning }) => [String(code), meaning]),
    ),
    ...(command.example === '' ? [] : ['.SH EXAMPLES', verbatim(command.example)]),
    '.SH SEE ALSO',
    seeAlso(command, program),
  ].join('\n')
}

function synopsis(command: CommandReference): readonly string[] {
  const name = fullName(command)
  const required = command.options.filter(({ isMandatory }) => isMandatory).map(({ term }) => term)
  const rest = command.usage.slice(name.length).replace('[options]', '').trim()
  return [`.B ${text(name)}`, text(['[options]', ...required, rest].filter((part) => part !== '').join(' '))]
}

const tagged = (title: string, entries: readonly (readonly [string, string])[]): readonly string[] =>
  entries.length === 0
    ? []
    : [`.SH ${title}`, ...entries.flatMap(([term, description]) => ['.TP', `.B ${text(term)}`, paragraph(description)])]

const verbatim = (lines: string): string =>
  ['.nf', '.RS 4', ...lines.split('\n').map((line) => paragraph(line)), '.RE', '.fi'].join('\n')

function seeAlso(command: CommandReference, program: CommandReference): string {
  const parent = command.words.slice(0, -1)
  const related = allCommands(program).filter(
    ({ words }) => words.length > 0 && words !== command.words && words.slice(0, -1).join(' ') === parent.join(' '),
  )
  const pages = command.words.length === 0 ? command.commands : [program, ...related, ...command.commands]
  return pages.map((other) => `.BR ${text(pageName(other))} (1)`).join(',\n')
}

/** A line that begins with a control character would be a request. */
const paragraph = (line: string): string => text(line).replace(/^(?=[.'])/, '\\&')

const text = (plain: string): string =>
  plain.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll('`', '\\(ga').replaceAll('"', '\\(dq')
