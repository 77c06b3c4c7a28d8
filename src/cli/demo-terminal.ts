/** The demonstration, told on a terminal so that a person can follow. */
import { once } from 'node:events'
import ora, { type Ora } from 'ora'
import type { Ensemble } from '../../qemu/demo/ensemble.js'
import type { Claim, Narrator } from '../../qemu/demo/narrator.js'
import { runDemo } from '../../qemu/demo/story.js'
import type { DemoCommandOptions } from './demo.js'
import { EXIT } from './exit.js'

export async function demo(options: DemoCommandOptions): Promise<void> {
  const narrator = new TerminalNarrator()
  const [, program = ''] = process.argv
  try {
    const result = await runDemo(
      {
        program,
        ...(options.seed === undefined ? {} : { seed: options.seed }),
        ...(options.keep ? { intermission: lookAround } : {}),
      },
      narrator,
    )
    narrator.end()
    process.stdout.write(options.json ? `${JSON.stringify(result, null, 2)}\n` : table(result.claims))
    const failed = result.claims.filter(({ holds }) => !holds).length
    const verdict = failed === 0 ? 'all claims hold' : `${failed} claim(s) DO NOT HOLD`
    process.stderr.write(`${verdict}; ${result.seconds.toFixed(0)} s; repeat with --seed ${result.seed}\n`)
    process.exitCode = failed === 0 ? EXIT.done : EXIT.failed
  } finally {
    narrator.end()
  }
}

/** Tells the story on standard error: a spinner on a terminal, plain lines elsewhere. */
class TerminalNarrator implements Narrator {
  readonly #spinner: Ora = ora({ stream: process.stderr })

  act(title: string): void {
    this.#spinner.stop()
    process.stderr.write(`\n${title}\n`)
  }

  step(text: string): void {
    // Without a terminal ora prints each start as a line; numbered repetitions of one step would fill the log.
    if (this.#spinner.isEnabled) this.#spinner.start(text)
    else if (!/\d+ of \d+/.test(text)) process.stderr.write(`  ... ${text}\n`)
  }

  fact(text: string): void {
    this.#spinner.stop()
    process.stderr.write(`  ${text}\n`)
  }

  end(): void {
    this.#spinner.stop()
  }
}

async function lookAround({ server, machine }: Ensemble): Promise<void> {
  process.stderr.write(`
The machine is still running. Look around from another terminal:
  npx nbd-remap status --control ${server.controlPath} --watch 1
  npx nbd-remap remaps --control ${server.controlPath}
  nbdinfo '${server.uri}'
  less +F ${machine.consoleLogPath}
Ctrl-C here ends it.
`)
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
}

function table(claims: readonly Claim[]): string {
  const rows = claims.map(({ act, claim, measured, holds }) => [act, claim, measured, holds ? 'yes' : 'NO'])
  const all = [['act', 'claim', 'measured', 'holds'], ...rows]
  const widths = [0, 1, 2, 3].map((column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  const line = (row: readonly string[]): string =>
    row
      .map((cell, n) => cell.padEnd(widths[n] ?? 0))
      .join('  ')
      .trimEnd()
  return `\n${all.map(line).join('\n')}\n`
}
