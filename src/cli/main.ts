#!/usr/bin/env node
/** The program: picks the command and turns whatever it throws into a sentence and an exit code. */
import { Command, CommanderError } from 'commander'
import { addCommand, clearCommand, removeCommand } from './change-remaps.js'
import { demoCommand } from './demo.js'
import { EXIT, reportError, surviveClosedPipes, usageMessage } from './exit.js'
import { formatCommand } from './format.js'
import { packageVersion } from './package-version.js'
import { remapsCommand } from './remaps.js'
import { serveCommand } from './serve.js'
import { spareCommand } from './spare.js'
import { statsCommand } from './stats.js'
import { statusCommand } from './status.js'
import { tableCommand } from './table.js'
import { verifyCommand } from './verify.js'

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

for (const command of [
  formatCommand(),
  serveCommand(),
  statusCommand(),
  statsCommand(),
  tableCommand(),
  remapsCommand(),
  addCommand(),
  removeCommand(),
  clearCommand(),
  spareCommand(),
  verifyCommand(),
  demoCommand(),
]) {
  program.addCommand(command)
}
for (const command of [program, ...program.commands, ...program.commands.flatMap(({ commands }) => commands)]) {
  command.exitOverride().configureOutput({
    outputError: (text, write) => {
      write(usageMessage(text))
    },
  })
}
surviveClosedPipes()

try {
  await program.parseAsync()
} catch (error) {
  // commander has printed its own message already; its exit code 0 is that of --help and --version.
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? EXIT.done : EXIT.usage
  else reportError(error)
}
