/**
 * `Pacer`: cuts long work into turns of the event loop. What is done synchronously between two calls of `pause` is what
 * everybody else waits for.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'

/** So long may work go on before others have their turn. */
const TURN_MS = 0.4

export class Pacer {
  #since = performance.now()

  /** Lets the others have their turn when this one has lasted long enough. */
  async pause(): Promise<void> {
    if (performance.now() - this.#since < TURN_MS) return
    await nextTurn()
    this.#since = performance.now()
  }
}
