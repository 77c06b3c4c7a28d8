/** Tells the world how far something that takes long has come: from its third second on, once a second. */
import type { RemapEvents, RemapEventSink } from './events.js'

const FIRST_MS = 2000
const INTERVAL_MS = 1000

type Progressed = RemapEvents['REMAP_PROGRESS']

export class Progress {
  readonly #emit: RemapEventSink
  readonly #operation: Progressed['operation']
  readonly #total: number
  #nextMs = performance.now() + FIRST_MS

  /** @param total number of blocks */
  constructor(emit: RemapEventSink, operation: Progressed['operation'], total: number) {
    this.#emit = emit
    this.#operation = operation
    this.#total = total
  }

  /** @param done blocks that have gone through this phase */
  report(phase: Progressed['phase'], done: number): void {
    const now = performance.now()
    if (now < this.#nextMs) return
    this.#nextMs = now + INTERVAL_MS
    this.#emit('REMAP_PROGRESS', {
      operation: this.#operation,
      phase,
      'done-blocks': done,
      'total-blocks': this.#total,
    })
  }
}
