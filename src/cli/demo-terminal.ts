/** The demonstration, told on a terminal so that a person can follow. */
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import ora, { type Ora } from 'ora'
import type { Ensemble } from '../../qemu/demo/ensemble.js'
import type { Claim, Narrator } from '../../qemu/demo/narrator.js'
import { runDemo, type DemoOptions, type DemoOutcome, type DemoResult } from '../../qemu/demo/story.js'
import { writeHtml, writeJson } from '../../qemu/report/index.js'
import { cacheDirectory } from '../util/cache-directory.js'
import { writingProblem } from '../util/errors.js'
import type { DemoCommandOptions } from './demo.js'
import { EXIT } from './exit.js'
import { Interrupt } from './interrupt.js'
import { packageVersion } from './package-version.js'

export async function demo(options: DemoCommandOptions): Promise<void> {
  const narrator = new TerminalNarrator()
  const interrupt = new Interrupt()
  const [, program = ''] = process.argv
  try {
    const { signal } = interrupt
    const intermission = options.keep ? { intermission: (ensemble: Ensemble) => lookAround(ensemble, signal) } : {}
    const seed = options.seed === undefined ? {} : { seed: options.seed }
    const outcome = await runDemo({ program, signal, ...seed, ...intermission } satisfies DemoOptions, narrator)
    report(outcome, options, narrator)
    await writeReport(outcome, options)
  } catch (error) {
    if (interrupt.exitCode === undefined) throw error
    narrator.end()
    process.stderr.write('interrupted; nothing is left running\n')
    process.exitCode = interrupt.exitCode
  } finally {
    narrator.end()
    interrupt.dispose()
  }
}

function report(
  { seed, seconds, claims }: DemoOutcome,
  { json }: DemoCommandOptions,
  narrator: TerminalNarrator,
): void {
  narrator.end()
  const result: DemoResult = { seed, seconds, claims }
  process.stdout.write(json ? `${JSON.stringify(result, null, 2)}\n` : table(claims))
  const failed = claims.filter(({ holds }) => !holds).length
  const verdict = failed === 0 ? 'all claims hold' : `${failed} claim(s) DO NOT HOLD`
  process.stderr.write(`${verdict}; ${seconds.toFixed(0)} s; repeat with --seed ${seed}\n`)
  process.exitCode = failed === 0 ? EXIT.done : EXIT.failed
}

/** What was shown has been shown, so that a file that cannot be written is no reason to fail, unless it was asked for. */
async function writeReport(
  { record }: DemoOutcome,
  { report: wanted, record: json }: DemoCommandOptions,
): Promise<void> {
  const kept = path.join(cacheDirectory(), 'demo.html')
  const html = typeof wanted === 'string' ? wanted : kept
  if (wanted !== false)
    await write('report', html, writeHtml([record], { generator: `nbd-remap ${packageVersion()}` }), html !== kept)
  if (json !== undefined) await write('record', json, writeJson([record]), true)
}

async function write(what: string, name: string, text: string, isWanted: boolean): Promise<void> {
  const file = path.resolve(name)
  try {
    if (!isWanted) await mkdir(path.dirname(file), { recursive: true })
    await writeFile(file, text)
    process.stderr.write(`${what}: ${file}\n`)
  } catch (error) {
    process.stderr.write(`the ${what} ${file} cannot be written: ${writingProblem(error)}\n`)
    if (isWanted) process.exitCode = EXIT.failed
  }
}

/** Tells the story on standard error: a spinner on a terminal, plain lines elsewhere. */
class TerminalNarrator implements Narrator {
  // Ctrl-C has to stay a signal: without this option ora would read it from the terminal as a key.
  readonly #spinner: Ora = ora({ stream: process.stderr, discardStdin: false })

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

async function lookAround({ server, machine }: Ensemble, signal: AbortSignal): Promise<void> {
  process.stderr.write(`
The machine is still running. Look around from another terminal:
  npx nbd-remap status --control ${server.controlPath} --watch 1
  npx nbd-remap remaps --control ${server.controlPath}
  nbdinfo '${server.uri}'
  less +F ${machine.consoleLogPath}
Enter here stops it in good order and shows what was claimed and measured, Ctrl-C just ends it.
`)
  await enterOrSignal(signal)
  signal.throwIfAborted()
}

function enterOrSignal(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      process.stdin.off('data', done).pause()
      resolve()
    }
    signal.addEventListener('abort', done, { once: true })
    // Without a terminal only a signal ends it: an input that is closed is nobody's wish.
    if (process.stdin.isTTY) process.stdin.on('data', done)
  })
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
