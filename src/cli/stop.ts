/**
 * The wish to stop in good order: a signal, `quit`, or a supervisor that is gone. It is heard from before the first disk
 * is opened, so that no signal ends the process half-way. Whichever comes first counts and further ones change nothing:
 * systemd signals the supervisor and its worker, and the supervisor signals the worker again.
 */
export class Stop {
  /** Resolves with the reason when somebody wants a stop. */
  readonly requested: Promise<string>
  #resolve: (reason: string) => void = () => undefined
  #isRequested = false

  private constructor() {
    this.requested = new Promise((resolve) => {
      this.#resolve = resolve
    })
  }

  /** SIGTERM and SIGINT no longer end the process by themselves. */
  static onSignals(): Stop {
    const stop = new Stop()
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
    this.#isRequested = true
    this.#resolve(reason)
  }
}
