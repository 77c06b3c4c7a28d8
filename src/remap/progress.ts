/** Tells the world how far something that takes long has come: from its third second on, once a second. */
import type { RemapEvents, RemapEventSink } from './events.js'

const FIRST_MS = 2000
const INTERVAL_MS = 1000

type Progressed = RemapEvents['REMAP_PROGRESS']

/** When it is time to tell. */
export class Ticker {
  #nextMs = performance.now() + FIRST_MS

  isDue(): boolean {
    const now = performance.now()
    if (now < this.#nextMs) return false
    this.#nextMs = now + INTERVAL_MS
    return true
  }
}

export class Progress {
  readonly #emit: RemapEventSink
  readonly #operation: Progressed['operation']
  readonly #total: number
  readonly #ticker = new Ticker()

  /** @param total number of blocks */
  constructor(emit: RemapEventSink, operation: Progressed['operation'], total: number) {
    this.#emit = emit
    this.#operation = operation
    this.#total = total
  }

  /** @param done blocks that have gone through this phase */
  report(phase: Progressed['phase'], done: number): void {
    if (!this.#ticker.isDue()) return
    this.#emit('REMAP_PROGRESS', {
      operation: this.#operation,
      phase,
      'done-blocks': done,
      'total-blocks': this.#total,
    })
  }
}
