/**
 * The wish to stop in good order: a signal, `quit`, or a supervisor that is gone. It is heard from before the first disk
 * is opened, so that no signal ends the process half-way. Whichever comes first counts and further ones change nothing:
 * systemd signals the supervisor and its worker, and the supervisor signals the worker again.
 */
import type { Log } from '../util/log.js'

export class Stop {
  /** Resolves when somebody wants a stop. */
  readonly requested: Promise<void>
  readonly #log: Log
  #resolve: () => void = () => undefined
  #isRequested = false

  private constructor(log: Log) {
    this.#log = log
    this.requested = new Promise((resolve) => {
      this.#resolve = resolve
    })
  }

  /** SIGTERM and SIGINT no longer end the process by themselves. */
  static onSignals(log: Log): Stop {
    const stop = new Stop(log)
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        stop.request(signal)
      })
    }
    return stop
  }

  get isRequested(): boolean {
    return this.#isRequested
  }

  request(reason: string): void {
    if (this.#isRequested) return
    this.#isRequested = true
    this.#log.info(`stopping: ${reason}`)
    this.#resolve()
  }
}
