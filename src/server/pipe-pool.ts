/** `PipePool`: the pipes through which long requests go without being copied, `pipesMax` of them. */
import { Pipe } from '../util/pipe.js'
import type { Limits } from './limits.js'

export class PipePool {
  readonly #limits: Limits
  readonly #idle: Pipe[] = []
  #open = 0
  #isClosed = false

  constructor(limits: Limits) {
    this.#limits = limits
  }

  /** An empty one, for the caller to give back. @returns undefined when none can be had: then bytes are copied */
  take(): Pipe | undefined {
    const idle = this.#idle.pop()
    if (idle !== undefined || this.#isClosed || this.#open >= this.#limits.pipesMax) return idle
    const pipe = Pipe.open()
    if (pipe !== undefined) this.#open++
    return pipe
  }

  /** What is left in it is thrown away. */
  giveBack(pipe: Pipe): void {
    pipe.clear()
    this.#idle.push(pipe)
    if (this.#isClosed) this.close()
  }

  /** Those that are lent are closed when they come back. */
  close(): void {
    this.#isClosed = true
    for (const pipe of this.#idle.splice(0)) {
      pipe.close()
      this.#open--
    }
  }
}
