/** How far a command has come, in a line that is written over: on a terminal only, and only when it takes longer than 2 s. */
import { formatBytes } from '../util/units.js'

const FIRST_MS = 2000
const INTERVAL_MS = 200

export class ProgressLine {
  readonly #stream: NodeJS.WriteStream
  #nextMs = performance.now() + FIRST_MS
  #isShown = false

  constructor(stream: NodeJS.WriteStream = process.stderr) {
    this.#stream = stream
  }

  show(text: string): void {
    if (!this.#stream.isTTY || performance.now() < this.#nextMs) return
    this.#nextMs = performance.now() + INTERVAL_MS
    this.#isShown = true
    this.#stream.write(`\r\x1b[K${text}`)
  }

  /** @param what is being done */
  showBytes(what: string, done: number, total: number): void {
    const percent = total === 0 ? 100 : Math.floor((100 * done) / total)
    this.show(`${what}: ${formatBytes(done)} of ${formatBytes(total)} (${percent} %)`)
  }

  end(): void {
    if (this.#isShown) this.#stream.write('\r\x1b[K')
    this.#isShown = false
  }
}
