/** The completion scripts in real shells. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { cli, fails, newFolder } from '../support/cli.js'
import { requireTool } from '../support/tools.js'

interface Case {
  /** The last word is the one to complete. */
  readonly line: readonly string[]
  readonly candidates: readonly string[]
}

const CASES: readonly Case[] = [
  { line: ['sp'], candidates: ['spare'] },
  { line: ['spare', 're'], candidates: ['remove'] },
  { line: ['serve', '--on-e'], candidates: ['--on-event', '--on-event-names', '--on-exhausted'] },
  { line: ['serve', '--on-read-error', ''], candidates: ['eio', 'zero'] },
  { line: ['serve', '--main', 'disk.img', '--on-timeout', 're'], candidates: ['remap'] },
  { line: ['serve', '--main', 'di'], candidates: ['disk one.img', 'disk.img', 'disks'] },
  { line: ['status', '--control', 'disk.'], candidates: ['disk.img'] },
  { line: ['serve', '--io-timeout', ''], candidates: [] },
  { line: ['spare', 'add', '--f'], candidates: ['--force'] },
  { line: ['completion', ''], candidates: ['bash', 'fish', 'zsh'] },
  // The name of a command as the value of an option of another one.
  { line: ['serve', '--name', 'spare', '--spare-'], candidates: ['--spare-low'] },
]

/** The script, in a folder with something to complete. */
async function scriptFor(t: Test, shell: string): Promise<{ folder: string; script: string }> {
  const folder = newFolder(t)
  for (const name of ['disk.img', 'disk one.img']) writeFileSync(join(folder, name), '')
  mkdirSync(join(folder, 'disks'))
  const { code, stdout } = await cli(t, 'completion', shell)
  t.equal(code, 0)
  const script = join(folder, `script.${shell}`)
  writeFileSync(script, stdout)
  return { folder, script }
}

function runShell(t: Test, folder: string, shell: string, ...args: string[]): string[] {
  requireTool(shell)
  const { stdout, stderr } = spawnSync(shell, args, { cwd: folder, encoding: 'utf8' })
  t.equal(stderr, '')
  return stdout.split('\n').filter((line) => line !== '')
}

void t.test('bash completes commands, options, choices and files', async (t) => {
  const { folder, script } = await scriptFor(t, 'bash')
  const program = `source "$1"; shift; COMP_WORDS=(nbd-remap "$@"); COMP_CWORD=$#
$(complete -p nbd-remap | sed 's/.*-F \\([^ ]*\\) .*/\\1/') && printf '%s\\n' "\${COMPREPLY[@]}"`
  for (const { line, candidates } of CASES) {
    const found = runShell(t, folder, 'bash', '--norc', '-c', program, 'bash', script, ...line)
    t.same(found.sort(), candidates, line.join(' '))
  }
  const split = runShell(t, folder, 'bash', '-c', program, 'bash', script, 'serve', '--on-timeout', '=', 'e')
  t.same(split, ['eio'], '--on-timeout=e, as bash splits it')
})

void t.test('fish completes commands, options, choices and files', async (t) => {
  const { folder, script } = await scriptFor(t, 'fish')
  for (const { line, candidates } of CASES) {
    const program = `source $argv[1]; complete -C "nbd-remap ${line.join(' ')}"`
    const found = runShell(t, folder, 'fish', '--no-config', '-c', program, script)
    const words = found.map((entry) => entry.split('\t')[0]?.replace(/\/$/, '').replaceAll('\\', ''))
    t.same(words.sort(), candidates, line.join(' '))
  }
})

void t.test('zsh takes its script', async (t) => {
  const { folder, script } = await scriptFor(t, 'zsh')
  const program = 'autoload -U compinit; compinit -D -u; source $1; print $_comps[nbd-remap]'
  t.same(runShell(t, folder, 'zsh', '-f', '-c', program, 'zsh', script), ['_nbd_remap'])
})

void t.test('another shell is refused with those that there are', async (t) => {
  await fails(t, 2, /Allowed choices are bash, zsh, fish/, ['completion', 'tcsh'])
})
