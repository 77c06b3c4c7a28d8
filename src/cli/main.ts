#!/usr/bin/env node
/** The program: runs the command and turns whatever it throws into a sentence and an exit code. */
import { CommanderError } from 'commander'
import { EXIT, reportError, surviveClosedPipes } from './exit.js'
import { loadProgram } from './program.js'

surviveClosedPipes()

try {
  const program = await loadProgram(process.argv[2])
  await program.parseAsync()
} catch (error) {
  // commander has printed its own message already; its exit code 0 is that of --help and --version.
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? EXIT.done : EXIT.usage
  else reportError(error)
}
