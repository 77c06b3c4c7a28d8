/** Commands of a document, run in a shell as somebody would type them. `npx nbd-remap` is the program of this build. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Test } from 'tap'
import { ROOT } from './documents.js'

export interface Typed {
  readonly shell: ChildProcess
  readonly ended: Promise<number | null>
  readonly output: () => string
}

/** A shell that stops at the first command that fails. As in a terminal, it and its commands are one process group. */
export function typed(t: Test, directory: string, text: string): Typed {
  const program = `'${process.execPath}' '${join(ROOT, 'dist/src/cli/bin.cjs')}'`
  const script = `set -eu\n${text.replaceAll('npx nbd-remap', program)}`
  const shell = spawn('bash', ['-c', script], { cwd: directory, detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [shell.stdout, shell.stderr]) stream.on('data', (data: Buffer) => (output += data.toString()))
  const ended = once(shell, 'close').then(([status]) => status as number | null)
  t.teardown(() => {
    if (shell.exitCode === null && shell.signalCode === null && shell.pid) process.kill(-shell.pid, 'SIGKILL')
  })
  return { shell, ended, output: () => output }
}

/** @returns false when it ended without */
export function untilPrinted({ shell, ended, output }: Typed, pattern: RegExp): Promise<boolean> {
  return new Promise((resolve) => {
    const check = (): void => {
      if (pattern.test(output())) resolve(true)
    }
    for (const stream of [shell.stdout, shell.stderr]) stream?.on('data', check)
    void ended.then(() => {
      resolve(pattern.test(output()))
    })
  })
}
