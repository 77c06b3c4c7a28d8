/** Completion for zsh: to be sourced, or to be put as `_nbd-remap` into a folder of `fpath`. */
import { quoted, type CommandCompletion, type Completion, type OptionCompletion } from './completion.js'

export const zshCompletion = (commands: readonly CommandCompletion[]): string => `#compdef nbd-remap
_nbd_remap() {
  local command='' n depth=1
  for ((n = 2; n < CURRENT; n++)); do
    case "$command \${words[n]}" in
${commands
  .filter(({ name }) => name !== '')
  .map(({ name }) => `      ${quoted(name.includes(' ') ? name : ` ${name}`)}) command=${quoted(name)} depth=$n ;;`)
  .join('\n')}
    esac
  done
  # What follows sees the last word of the command as the program.
  shift $((depth - 1)) words
  ((CURRENT -= depth - 1))
  case "$command" in
${commands.map(commandCase).join('\n')}
  esac
}

if [[ "\${funcstack[1]}" == _nbd-remap ]]; then _nbd_remap "$@"; else compdef _nbd_remap nbd-remap; fi
`

function commandCase(command: CommandCompletion): string {
  const specs = [...command.options.flatMap(optionSpecs), ...argumentSpecs(command)]
  return `    ${quoted(command.name)}) _arguments -s ${specs.map((spec) => `\\\n      ${quoted(spec)}`).join(' ')} ;;`
}

function argumentSpecs({ commands, arguments: completions }: CommandCompletion): readonly string[] {
  if (commands.length > 0)
    return [`:command:((${commands.map(({ word, description }) => `${word}\\:"${inWords(description)}"`).join(' ')}))`]
  return completions.map((completion) => `:argument:${completing(completion)}`)
}

function optionSpecs({ long, short, description, value }: OptionCompletion): readonly string[] {
  const text = `[${inBrackets(description)}]`
  const argument = value === undefined ? '' : `:value:${completing(value)}`
  const names = [...(short === undefined ? [] : [short]), long]
  // An asterisk allows for several.
  return names.map((name) => `*${name}${value !== undefined && name === long ? '=' : ''}${text}${argument}`)
}

function completing(completion: Completion): string {
  switch (completion.kind) {
    case 'words':
      return `(${completion.words.join(' ')})`
    case 'file':
      return '_files'
    case 'folder':
      return '_files -/'
    case 'nothing':
      return ' '
  }
}

const inBrackets = (text: string): string => text.replaceAll(/[[\]\\:]/g, '\\$&')
const inWords = (text: string): string => text.replaceAll(/["\\:()`$]/g, '\\$&')
