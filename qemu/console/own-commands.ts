/** The console's own commands, as data: what help says of them, and what completes their arguments. */

export type OwnArgument =
  | 'command'
  | 'target'
  | 'event'
  | 'event-or-switch'
  | 'variable'
  | 'human-command'
  | 'output'
  | 'own-or-command'
  | 'nothing'

export interface OwnCommandInfo {
  /** Behind the name. */
  readonly usage: string
  readonly description: string
  readonly completes: OwnArgument
}

export const OWN_COMMANDS = {
  help: {
    usage: '[COMMAND [ARGUMENT...] | EVENT]',
    description: 'What there is; or what a command takes, given the arguments so far.',
    completes: 'own-or-command',
  },
  use: {
    usage: 'NAME',
    description: 'Send what follows to this target; @NAME before a line does so once.',
    completes: 'target',
  },
  targets: { usage: '', description: 'What the console is connected to.', completes: 'nothing' },
  reconnect: { usage: '[NAME]', description: 'Dial a target again.', completes: 'target' },
  events: {
    usage: '[on|off|PATTERN...]',
    description: 'Which events are shown: BLOCK_JOB_* or qemu:STOP; a pattern after ! hides.',
    completes: 'event-or-switch',
  },
  wait: {
    usage: 'PATTERN [SECONDS]',
    description: 'Wait for an event that came since the wait before, or is still to come.',
    completes: 'event',
  },
  hmp: {
    usage: 'COMMAND',
    description: "A command of QEMU's human monitor, the rest of the line as it is.",
    completes: 'human-command',
  },
  begin: {
    usage: '',
    description: 'Collect the lines that follow as actions of one transaction.',
    completes: 'nothing',
  },
  commit: { usage: '[ARGUMENT...]', description: 'Send them: all happen, or none.', completes: 'command' },
  cancel: { usage: '', description: 'Forget them.', completes: 'nothing' },
  set: {
    usage: 'NAME = VALUE',
    description: 'Keep a value: $NAME, $NAME.member[0]; $_ is the last result.',
    completes: 'variable',
  },
  unset: { usage: 'NAME', description: 'Forget a variable.', completes: 'variable' },
  vars: { usage: '', description: 'All variables.', completes: 'nothing' },
  print: { usage: 'VALUE...', description: 'Show a value, as in print $_.status', completes: 'variable' },
  history: {
    usage: '[TEXT]',
    description: 'Lines typed before, those with TEXT in them; !N runs one again, !! the last one.',
    completes: 'nothing',
  },
  output: { usage: 'pretty|json', description: 'How results are shown.', completes: 'output' },
  exit: {
    usage: '',
    description: 'Leave the console, as Ctrl-D does. (quit ends the program at the other end.)',
    completes: 'nothing',
  },
} as const satisfies Record<string, OwnCommandInfo>

export type OwnCommand = keyof typeof OWN_COMMANDS
