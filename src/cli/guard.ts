/** `nbd-remap guard`: lets a machine go on that an error of its disk has paused, once that is safe. */
import { Command, InvalidArgumentError } from 'commander'
import { qmpOption } from './attach-vm.js'
import { controlOption, jsonOption } from './options.js'

export interface GuardCommandOptions {
  readonly qmp: string
  readonly control: string
  readonly once?: boolean
  readonly dryRun?: boolean
  readonly attempts: number
  readonly replaceNode?: boolean
  readonly reconnectDelay: number
  readonly json?: boolean
}

const NOTES = `
A machine whose disk has werror=stop or rerror=stop, or that was told ENOSPC (serve --on-exhausted pause), is paused by QEMU when a request
fails. It is continued when the cause is seen to be gone: spare blocks are free, what could not be read can be read, the server is back.
While the same error would come back at once it stays paused, and the reason is said. One that somebody has stopped is left alone, and so is
one that another disk has paused.

Each line has a time, what it is about (error, waiting, continued, runs, left-alone, gave-up, replaced, connected, disconnected), the
disk, and a sentence. docs/LIVE-MACHINES.md says more, and has a unit for systemd.

Exit codes: 0 ended by a signal, or with --once the machine runs; 1 failed, or with --once it was continued in vain; 2 wrong usage; 3 with
--once, the machine stays paused.

Example:
  nbd-remap guard --qmp /run/vm.qmp --control /run/disk.qmp
  nbd-remap guard --qmp /run/vm.qmp --control /run/disk.qmp --once --dry-run`

export const guardCommand = (): Command =>
  new Command('guard')
    .description(
      'Watch a QEMU machine and the server of its disk, and continue the machine once an error that paused it is gone.',
    )
    .addOption(qmpOption())
    .addOption(controlOption())
    .option('--once', 'do what is to be done now, and end')
    .option('--dry-run', 'say what would be done, and do nothing')
    .option('--attempts <n>', 'how often a machine is continued whose error comes back', parseCount, 5)
    .option('--replace-node', 'give the disk a new connection to the server if QEMU does not connect again')
    .option(
      '--reconnect-delay <seconds>',
      'of that connection: how long the machine waits for the server',
      parseCount,
      60,
    )
    .addOption(jsonOption())
    .addHelpText('after', NOTES)
    .action(async (options: GuardCommandOptions) => {
      const { guard } = await import('./guard-machine.js')
      await guard(options)
    })

function parseCount(text: string): number {
  if (!/^\d{1,6}$/.test(text) || Number(text) < 1)
    throw new InvalidArgumentError('It must be a whole number of at least 1.')
  return Number(text)
}
