/** Completion for bash. The script is complete in itself: it starts no program while the user waits. */
import { optionWords, quoted, type CommandCompletion, type Completion } from './completion.js'

export const bashCompletion = (commands: readonly CommandCompletion[]): string => `# bash completion for nbd-remap
_nbd_remap() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} command='' n
  COMPREPLY=()
  for ((n = 1; n < COMP_CWORD; n++)); do
    case "$command \${COMP_WORDS[n]}" in
${commands
  .filter(({ name }) => name !== '')
  .map(({ name }) => `      ${quoted(parentAndWord(name))}) command=${quoted(name)} ;;`)
  .join('\n')}
    esac
  done
  # --option=value comes as three words.
  [ "$prev" != = ] || prev=\${COMP_WORDS[COMP_CWORD - 2]}
  [ "$cur" != = ] || cur=''
  case "$command $prev" in
${commands.flatMap(valueCases).join('\n')}
  esac
  case "$command" in
${commands.map(wordCase).join('\n')}
  esac
}

_nbd_remap_words() {
  mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

# $1: -f for files, -d for folders
_nbd_remap_paths() {
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen "$1" -- "$cur")
}

complete -F _nbd_remap nbd-remap
`

/** What stands in front of the word is the command so far; with none it is a space. */
const parentAndWord = (name: string): string => (name.includes(' ') ? name : ` ${name}`)

const valueCases = ({ name, options }: CommandCompletion): readonly string[] =>
  options.flatMap(({ long, value }) =>
    value === undefined ? [] : [`    ${quoted(`${name} ${long}`)}) ${completing(value)}; return ;;`],
  )

function wordCase(command: CommandCompletion): string {
  const words = command.commands.map(({ word }) => word)
  const plain: Completion[] = [...(words.length > 0 ? [{ kind: 'words', words } as const] : []), ...command.arguments]
  // Of several arguments the first one that can be completed: a command has one such at most.
  const [first = { kind: 'nothing' } as const] = plain.filter(({ kind }) => kind !== 'nothing')
  const options = completing({ kind: 'words', words: optionWords(command) })
  const other = first.kind === 'nothing' ? options : completing(first)
  return `    ${quoted(command.name)}) if [[ $cur == -* ]]; then ${options}; else ${other}; fi ;;`
}

function completing(completion: Completion): string {
  switch (completion.kind) {
    case 'words':
      return `_nbd_remap_words ${quoted(completion.words.join(' '))}`
    case 'file':
      return '_nbd_remap_paths -f'
    case 'folder':
      return '_nbd_remap_paths -d'
    case 'nothing':
      return ':'
  }
}
