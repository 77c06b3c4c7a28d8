/**
 * SIGHUP as the wish to read the configuration again. It is heard from the start of the process, which it would end
 * otherwise, and fulfilled as soon as there is something to change.
 */
export class ReloadSignal {
  #fulfil: (() => void) | undefined
  #isWanted = false

  /** @param listens without a configuration SIGHUP ends the process, as ever */
  constructor(listens: boolean) {
    if (!listens) return
    process.on('SIGHUP', () => {
      if (this.#fulfil) this.#fulfil()
      else this.#isWanted = true
    })
  }

  /** Calls `fulfil` for every signal, those that came before count as one. */
  heed(fulfil: () => void): void {
    this.#fulfil = fulfil
    if (this.#isWanted) fulfil()
  }
}
