/** What can be completed after each command, for the scripts of the three shells. */
import type { CommandReference, OptionReference } from './reference.js'

/** How the value of an option or an argument is completed; `nothing`: it is typed. */
export type Completion =
  { readonly kind: 'words'; readonly words: readonly string[] } | { readonly kind: 'file' | 'folder' | 'nothing' }

/** By the name that a value has in the help. Disks may be URIs and control sockets addresses, but those are typed. */
const KINDS: ReadonlyMap<string, 'file' | 'folder'> = new Map([
  ['path', 'file'],
  ['file', 'file'],
  ['table-file', 'file'],
  ['address', 'file'],
  ['device', 'file'],
  ['main', 'file'],
  ['spare', 'file'],
  ['replica', 'file'],
  ['dir', 'folder'],
])

interface Value {
  readonly value: string | undefined
  readonly choices: readonly string[]
}

function completionOf({ value = '', choices }: Value): Completion {
  if (choices.length > 0) return { kind: 'words', words: choices }
  return { kind: KINDS.get(value.replaceAll(/[^a-z-]/g, '')) ?? 'nothing' }
}

export interface OptionCompletion {
  readonly long: string
  readonly short: string | undefined
  readonly description: string
  /** `undefined`: a flag. */
  readonly value: Completion | undefined
}

export interface CommandCompletion {
  /** `spare add` */
  readonly name: string
  readonly commands: readonly { readonly word: string; readonly description: string }[]
  readonly options: readonly OptionCompletion[]
  readonly arguments: readonly Completion[]
}

/** Of the command and all below it. */
export const completionsOf = (command: CommandReference): readonly CommandCompletion[] => [
  {
    name: command.words.join(' '),
    commands: command.commands.map((child) => ({ word: child.words.at(-1) ?? '', description: child.description })),
    options: command.options.map(describeOption),
    arguments: command.arguments.map(({ term, choices }) => completionOf({ value: term, choices })),
  },
  ...command.commands.flatMap(completionsOf),
]

const describeOption = ({ long, short, description, value, choices }: OptionReference): OptionCompletion => ({
  long,
  short,
  description,
  value: value === undefined ? undefined : completionOf({ value, choices }),
})

export const optionWords = ({ options }: CommandCompletion): readonly string[] =>
  options.flatMap(({ long, short }) => (short === undefined ? [long] : [short, long]))

/** A shell's string in single quotes. */
export const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`
