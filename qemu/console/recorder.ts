/**
 * What was done, as a script that does it again. What failed stands there as a comment, so that a replay does not stop where
 * somebody had mistyped; so do the results.
 */
import { closeSync, openSync, writeSync } from 'node:fs'

/** Of a result; the rest is cut. */
const RESULT_CHARACTERS_MAX = 2000

export class Recorder {
  readonly #file: number

  /** For its owner alone: passwords may be typed. @throws Error from the system, also when the file exists */
  constructor(path: string) {
    this.#file = openSync(path, 'wx', 0o600)
  }

  /** @param targets names and addresses of what is talked to */
  begin(targets: readonly { readonly name: string; readonly address: string; readonly description: string }[]): void {
    this.#write(`# nbd-remap console, ${new Date().toISOString()}`)
    for (const { name, address, description } of targets) this.#write(comment(`${name}=${address}: ${description}`))
    const [first] = targets
    if (first !== undefined && targets.length > 1) this.#write(`use ${first.name}`)
  }

  done(line: string, result: unknown): void {
    this.#write(line)
    if (result === undefined) return
    const text = JSON.stringify(result)
    const isLong = text.length > RESULT_CHARACTERS_MAX
    this.#write(
      comment(`-> ${isLong ? `${text.slice(0, RESULT_CHARACTERS_MAX)} ... (${text.length} characters)` : text}`),
    )
  }

  failed(line: string, reason: string): void {
    this.#write(comment(`failed: ${line}`))
    this.#write(comment(`-> ${reason}`))
  }

  close(): void {
    closeSync(this.#file)
  }

  #write(text: string): void {
    writeSync(this.#file, `${text}\n`)
  }
}

const comment = (text: string): string =>
  text
    .split('\n')
    .map((line) => `# ${line}`)
    .join('\n')
