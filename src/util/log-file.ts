/**
 * A log in a file that does not grow without end: when it is long enough it gets another name, in place of the one that had
 * that name, and a new one is begun. What cannot be written there goes to standard error.
 */
import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs'
import { writingProblem } from './errors.js'

const BYTES_MAX = 8 * 1024 * 1024

export class LogFile {
  readonly #path: string
  readonly #bytesMax: number
  #descriptor: number
  #bytes: number

  /** Appends to what is there. @throws Error with a sentence for people */
  constructor(path: string, bytesMax = BYTES_MAX) {
    this.#path = path
    this.#bytesMax = bytesMax
    try {
      this.#descriptor = openSync(path, 'a', 0o600)
      this.#bytes = fstatSync(this.#descriptor).size
    } catch (error) {
      throw new Error(`cannot log to ${path}: ${writingProblem(error)}`, { cause: error })
    }
  }

  append(line: string): void {
    try {
      if (this.#bytes >= this.#bytesMax) this.#begin()
      this.#bytes += writeSync(this.#descriptor, line)
    } catch {
      // A log that is full is no reason to stop.
      process.stderr.write(line)
    }
  }

  #begin(): void {
    renameSync(this.#path, `${this.#path}.1`)
    closeSync(this.#descriptor)
    this.#descriptor = openSync(this.#path, 'a', 0o600)
    this.#bytes = 0
  }
}
