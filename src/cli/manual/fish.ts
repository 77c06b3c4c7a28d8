/** Completion for fish. */
import { quoted, type CommandCompletion, type Completion, type OptionCompletion } from './completion.js'

export const fishCompletion = (commands: readonly CommandCompletion[]): string => `# fish completion for nbd-remap
function __nbd_remap_at -a wanted
    set -l command ''
    for word in (commandline -opc)[2..-1]
        switch "$command $word"
${commands
  .filter(({ name }) => name !== '')
  .map(
    ({ name }) =>
      `            case ${quoted(name.includes(' ') ? name : ` ${name}`)}\n                set command ${quoted(name)}`,
  )
  .join('\n')}
        end
    end
    test "$command" = "$wanted"
end

complete -c nbd-remap -f
${commands.flatMap(lines).join('\n')}
`

function lines(command: CommandCompletion): readonly string[] {
  const start = `complete -c nbd-remap -n ${quoted(`__nbd_remap_at "${command.name}"`)}`
  return [
    ...command.commands.map(({ word, description }) => `${start} -a ${word} -d ${quoted(description)}`),
    ...command.arguments.flatMap((argument) => {
      const completed = completing(argument)
      return completed === '' ? [] : [`${start} ${completed}`]
    }),
    ...command.options.map((option) => `${start} ${optionLine(option)}`),
  ]
}

function optionLine({ long, short, description, value }: OptionCompletion): string {
  const names = [...(short === undefined ? [] : [`-s ${short.slice(1)}`]), `-l ${long.slice(2)}`].join(' ')
  const exclusive = value?.kind === 'words' || value?.kind === 'nothing'
  const taken = value === undefined ? '' : ` ${exclusive ? '-x' : '-r'} ${completing(value)}`.trimEnd()
  return `${names}${taken} -d ${quoted(description)}`
}

function completing(completion: Completion): string {
  switch (completion.kind) {
    case 'words':
      return `-a ${quoted(completion.words.join(' '))}`
    case 'file':
      return '-F'
    case 'folder':
      return `-a '(__fish_complete_directories)'`
    case 'nothing':
      return ''
  }
}
