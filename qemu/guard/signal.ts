/** `Signal`: wakes up who waits, or who will wait next. */

/** Raised while nobody waits, it is not forgotten. */
export class Signal {
  #isRaised = false
  #wake: () => void = () => undefined

  raise(): void {
    this.#isRaised = true
    this.#wake()
  }

  /** Resolves when it was raised since the last time, or after so many milliseconds. */
  async wait(ms: number, signal: AbortSignal): Promise<void> {
    if (!this.#isRaised && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const done = (): void => {
          clearTimeout(timer)
          signal.removeEventListener('abort', done)
          resolve()
        }
        const timer = setTimeout(done, ms)
        this.#wake = done
        signal.addEventListener('abort', done, { once: true })
      })
    }
    this.#isRaised = false
  }
}
