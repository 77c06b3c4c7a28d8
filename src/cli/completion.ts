/** `nbd-remap completion`: a script that completes commands, options, choices and files in a shell. */
import { Argument, Command } from 'commander'

const SHELLS = ['bash', 'zsh', 'fish'] as const
type Shell = (typeof SHELLS)[number]

export const completionCommand = (): Command =>
  new Command('completion')
    .description('Print a script that completes commands, options and files in a shell.')
    .addArgument(new Argument('<shell>', 'which shell').choices(SHELLS))
    .addHelpText(
      'after',
      `
To have it in every session, save what it prints where your shell looks for such scripts:
/usr/share/bash-completion/completions/nbd-remap, a folder of zsh's fpath as _nbd-remap, or
~/.config/fish/completions/nbd-remap.fish.

Example:
  source <(nbd-remap completion bash)
  nbd-remap completion fish | source`,
    )
    .action(async (shell: Shell) => {
      process.stdout.write(await script(shell))
    })

async function script(shell: Shell): Promise<string> {
  const [{ loadProgram }, { referenceOf }, { completionsOf }] = await Promise.all([
    import('./program.js'),
    import('./manual/reference.js'),
    import('./manual/completion.js'),
  ])
  const commands = completionsOf(referenceOf(await loadProgram()))
  switch (shell) {
    case 'bash':
      return (await import('./manual/bash.js')).bashCompletion(commands)
    case 'zsh':
      return (await import('./manual/zsh.js')).zshCompletion(commands)
    case 'fish':
      return (await import('./manual/fish.js')).fishCompletion(commands)
  }
}
