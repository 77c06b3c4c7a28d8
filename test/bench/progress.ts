/** What goes on, on standard error: on a terminal one line that changes, elsewhere one line when a job begins and ends. */

export class Progress {
  readonly #stream: NodeJS.WriteStream
  #job = ''

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream
  }

  job(number: number, count: number, title: string): void {
    this.#job = `[${number}/${count}] ${title}`
    if (!this.#stream.isTTY) this.#stream.write(`${this.#job}\n`)
  }

  step(text: string): void {
    if (this.#stream.isTTY) this.#show(`${this.#job}: ${text}`)
  }

  /** The result of the job, which stays. */
  result(text: string): void {
    this.clear()
    this.#stream.write(this.#stream.isTTY ? `${this.#job}: ${text}\n` : `    ${text}\n`)
  }

  warn(text: string): void {
    this.clear()
    this.#stream.write(`${text}\n`)
  }

  clear(): void {
    if (this.#stream.isTTY) this.#stream.write('\r\x1b[2K')
  }

  /** Cut, since a line that wraps could not be taken back. */
  #show(text: string): void {
    this.clear()
    this.#stream.write(text.slice(0, this.#stream.columns - 1))
  }
}
