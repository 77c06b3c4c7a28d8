/**
 * The commands, in the order of `--help`. Each one's code is loaded only when it is the one to run: a program that is
 * called for every single remap has to start quickly. So a line here is all that a new command needs, and nothing else
 * of it may be imported by main.ts.
 */
import type { Command } from 'commander'

type LoadCommand = () => Promise<Command>

export const COMMANDS: Readonly<Record<string, LoadCommand>> = {
  format: async () => (await import('./format.js')).formatCommand(),
  serve: async () => (await import('./serve.js')).serveCommand(),
  status: async () => (await import('./status.js')).statusCommand(),
  top: async () => (await import('./top.js')).topCommand(),
  stats: async () => (await import('./stats.js')).statsCommand(),
  health: async () => (await import('./health.js')).healthCommand(),
  table: async () => (await import('./table.js')).tableCommand(),
  remaps: async () => (await import('./remaps.js')).remapsCommand(),
  errors: async () => (await import('./errors.js')).errorsCommand(),
  files: async () => (await import('./files.js')).filesCommand(),
  add: async () => (await import('./change-remaps.js')).addCommand(),
  remove: async () => (await import('./change-remaps.js')).removeCommand(),
  clear: async () => (await import('./change-remaps.js')).clearCommand(),
  spare: async () => (await import('./spare.js')).spareCommand(),
  replica: async () => (await import('./replica.js')).replicaCommand(),
  inject: async () => (await import('./inject.js')).injectCommand(),
  scrub: async () => (await import('./scrub.js')).scrubCommand(),
  dmsetup: async () => (await import('./dmsetup/command.js')).dmsetupCommand(),
  log: async () => (await import('./log.js')).logCommand(),
  reload: async () => (await import('./reload.js')).reloadCommand(),
  attach: async () => (await import('./attach.js')).attachCommand(),
  detach: async () => (await import('./attach.js')).detachCommand(),
  guard: async () => (await import('./guard.js')).guardCommand(),
  'attach-vm': async () => (await import('./attach-vm.js')).attachVmCommand(),
  'detach-vm': async () => (await import('./attach-vm.js')).detachVmCommand(),
  plan: async () => (await import('./plan.js')).planCommand(),
  verify: async () => (await import('./verify.js')).verifyCommand(),
  repair: async () => (await import('./repair.js')).repairCommand(),
  dump: async () => (await import('./dump.js')).dumpCommand(),
  export: async () => (await import('./export.js')).exportCommand(),
  import: async () => (await import('./import.js')).importCommand(),
  grow: async () => (await import('./grow.js')).growCommand(),
  'move-main': async () => (await import('./move-main.js')).moveMainCommand(),
  'move-spare': async () => (await import('./move-spare.js')).moveSpareCommand(),
  console: async () => (await import('./console.js')).consoleCommand(),
  scan: async () => (await import('./scan.js')).scanCommand(),
  'qmp-share': async () => (await import('./qmp-share.js')).qmpShareCommand(),
  conformance: async () => (await import('./conformance.js')).conformanceCommand(),
  completion: async () => (await import('./completion.js')).completionCommand(),
  scenario: async () => (await import('./scenario.js')).scenarioCommand(),
  demo: async () => (await import('./demo.js')).demoCommand(),
}

/** The command that `word`, the first argument, names; all of them when it names none, for help and for suggestions. */
export function loadCommands(word: string | undefined): Promise<Command[]> {
  const load = word !== undefined && Object.hasOwn(COMMANDS, word) ? COMMANDS[word] : undefined
  return Promise.all(load ? [load()] : Object.values(COMMANDS).map((loadOne) => loadOne()))
}
