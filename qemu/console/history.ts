/**
 * The lines that were typed, oldest first and each once: a line that is typed again moves to the end. A line that begins
 * with a space is not kept, as in shells: the way to type a password.
 */
import { UsageError } from '../../src/util/errors.js'

export const HISTORY_LINES_MAX = 5000

export class History {
  /** A Set keeps the order in which lines were added last. */
  readonly #lines: Set<string>

  constructor(lines: readonly string[] = []) {
    // Those that were typed again count by their last time.
    this.#lines = new Set([...new Set(lines.filter((line) => line.trim() !== '').reverse())].reverse())
    this.#trim()
  }

  get lines(): readonly string[] {
    return [...this.#lines]
  }

  /** @returns whether it was kept */
  add(line: string): boolean {
    if (line.trim() === '' || /^\s/.test(line)) return false
    this.#lines.delete(line)
    this.#lines.add(line)
    this.#trim()
    return true
  }

  /**
   * `!!` is the last line, `!12` the one that `history` shows with that number, `!-2` the last but one, `!word` the last one that
   * begins so. What follows after a space is added. Other lines are as they are.
   * @throws UsageError when there is no such line
   */
  expand(line: string): string {
    const match = /^\s*!(!|-?\d+|[^\s!=]\S*)(\s.*)?$/s.exec(line)
    if (!match) return line
    const [, event = '', rest = ''] = match
    const found = this.#find(event)
    if (found === undefined) throw new UsageError(`!${event}: there is no such line in the history`)
    return found + rest
  }

  #find(event: string): string | undefined {
    const lines = this.lines
    if (event === '!') return lines.at(-1)
    const number = Number(event)
    if (!Number.isInteger(number)) return lines.findLast((line) => line.startsWith(event))
    return number < 0 ? lines.at(number) : lines[number - 1]
  }

  #trim(): void {
    for (const oldest of this.#lines) {
      if (this.#lines.size <= HISTORY_LINES_MAX) break
      this.#lines.delete(oldest)
    }
  }
}
