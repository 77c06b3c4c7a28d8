/** The program as commander knows it: what is parsed, and what help, documents and shell completion are made from. */
import { Command } from 'commander'
import { loadCommands } from './command-table.js'
import { usageMessage } from './exit.js'
import { packageVersion } from './package-version.js'

/** @param word the first argument; without it all commands are there */
export async function loadProgram(word?: string): Promise<Command> {
  const program = new Command('nbd-remap')
    .description('An NBD server that keeps a virtual machine running on a failing disk.')
    .version(packageVersion())
    .addHelpText(
      'after',
      `
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused (a disk is in use, or is not the disk it should be).

Example:
  truncate -s 1G spare.img
  nbd-remap serve --main /dev/sdb --spare spare.img --create --socket /run/disk.sock --control /run/disk.qmp`,
    )
  const commands = await loadCommands(word)
  for (const command of commands) program.addCommand(command)
  for (const command of [program, ...commands, ...commands.flatMap(({ commands: below }) => below)]) {
    command.exitOverride().configureOutput({
      outputError: (text, write) => {
        write(usageMessage(text))
      },
    })
  }
  return program
}
