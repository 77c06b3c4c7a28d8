/** Watches something that a client must do, send a payload or take replies, and judges when that takes too long. */

import type { Limits } from './limits.js'

export class Stall {
  readonly #limits: Pick<Limits, 'stallTimeoutMs' | 'bytesPerMsMin'>
  /** `performance.now()` when it should be done at the latest; undefined while there is nothing to do. */
  #deadline: number | undefined

  constructor(limits: Pick<Limits, 'stallTimeoutMs' | 'bytesPerMsMin'>) {
    this.#limits = limits
  }

  /** The client has to send or take so many bytes from now on. */
  begin(bytes: number): void {
    const { stallTimeoutMs, bytesPerMsMin } = this.#limits
    this.#deadline = performance.now() + stallTimeoutMs + bytes / bytesPerMsMin
  }

  end(): void {
    this.#deadline = undefined
  }

  get isRunning(): boolean {
    return this.#deadline !== undefined
  }

  get isTooLong(): boolean {
    return this.#deadline !== undefined && performance.now() > this.#deadline
  }
}
