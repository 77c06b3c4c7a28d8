/** Signals that end a long command early but in good order; a second one ends it at once. */
import { constants } from 'node:os'

export class Interrupt {
  static readonly #SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  readonly #controller = new AbortController()
  /** As a shell has it; `undefined` as long as there was no signal. */
  exitCode: number | undefined

  constructor() {
    for (const signal of Interrupt.#SIGNALS) process.on(signal, this.#onSignal)
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  dispose(): void {
    for (const signal of Interrupt.#SIGNALS) process.off(signal, this.#onSignal)
  }

  readonly #onSignal = (signal: NodeJS.Signals): void => {
    this.exitCode = 128 + constants.signals[signal]
    this.#controller.abort(new Error(`interrupted by ${signal}`))
    // Not at once: a listener that finds no other one ends the process.
    setImmediate(() => {
      this.dispose()
    })
  }
}
