/**
 * The history on disk, one line a line, for its owner alone (mode 0600). Lines are appended as they are typed, so that two
 * consoles at once lose nothing of each other's; a start that finds many more lines than are kept writes the file anew.
 */
import { appendFileSync, chmodSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, isAbsolute, join } from 'node:path'
import { fileProblem } from '../../src/util/errors.js'
import { History, HISTORY_LINES_MAX } from './history.js'

const OWNER_ONLY = 0o600

/** Where XDG's base directory specification has state. */
export function historyPath(env: NodeJS.ProcessEnv = process.env): string {
  const state = env['XDG_STATE_HOME'] ?? ''
  // The specification has relative paths ignored.
  return join(isAbsolute(state) ? state : join(homedir(), '.local/state'), 'nbd-remap/console-history')
}

export class HistoryFile {
  readonly history: History
  readonly #path: string
  readonly #complain: (sentence: string) => void
  #broken = false

  private constructor(path: string, history: History, complain: (sentence: string) => void) {
    this.#path = path
    this.history = history
    this.#complain = complain
  }

  /** @param complain is told once why the history is not kept; a console without one is better than none */
  static open(path: string, complain: (sentence: string) => void): HistoryFile {
    const lines = readLines(path, complain)
    const file = new HistoryFile(path, new History(lines), complain)
    if (lines.length > 2 * HISTORY_LINES_MAX) {
      file.#attempt(() => {
        file.#rewrite()
      })
    }
    return file
  }

  add(line: string): void {
    if (!this.history.add(line)) return
    this.#attempt(() => {
      mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 })
      appendFileSync(this.#path, `${encode(line)}\n`, { mode: OWNER_ONLY })
      chmodSync(this.#path, OWNER_ONLY)
    })
  }

  #rewrite(): void {
    const next = `${this.#path}.${process.pid}`
    writeFileSync(next, this.history.lines.map((line) => `${encode(line)}\n`).join(''), { mode: OWNER_ONLY })
    renameSync(next, this.#path)
  }

  #attempt(write: () => void): void {
    if (this.#broken) return
    try {
      write()
    } catch (error) {
      this.#broken = true
      this.#complain(`the history is not kept: ${this.#path}: ${fileProblem(error)}`)
    }
  }
}

function readLines(path: string, complain: (sentence: string) => void): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n').map(decode)
  } catch (error) {
    const isMissing = error instanceof Error && 'code' in error && error.code === 'ENOENT'
    if (!isMissing) complain(`the history cannot be read: ${path}: ${fileProblem(error)}`)
    return []
  }
}

/** A command of several lines is one line of the file. */
const encode = (line: string): string => line.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
const decode = (line: string): string => line.replaceAll(/\\(.)/g, (_, char: string) => (char === 'n' ? '\n' : char))
