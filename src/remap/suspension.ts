/**
 * Holds what clients ask for until it is resumed, as device-mapper's suspend does: what was in flight is finished and
 * flushed, and whatever comes later waits, behind an exclusive claim of the whole disk. Flushes claim no range, so they
 * wait here. How much can wait is the server's business, which takes no more requests than its limits allow.
 */
import type { RemapTarget } from './target.js'
import type { Release } from '../util/range-lock.js'

export class Suspension {
  readonly #target: RemapTarget
  #release: Release | undefined
  #suspending: Promise<void> | undefined
  #resumed: Promise<void> | undefined
  #tellResumed: () => void = () => undefined

  constructor(target: RemapTarget) {
    this.#target = target
  }

  /** From the moment on when no new request is begun. */
  get isSuspended(): boolean {
    return this.#resumed !== undefined
  }

  /** What a request without a range has to wait for. */
  get resumed(): Promise<void> | undefined {
    return this.#resumed
  }

  /** Resolves when nothing is in flight and everything is flushed. @throws DeviceError when that failed; then it goes on */
  suspend(): Promise<void> {
    this.#suspending ??= this.#suspend()
    return this.#suspending
  }

  /** @returns false when it was not suspended */
  async resume(): Promise<boolean> {
    if (this.#suspending === undefined) return false
    await this.#suspending.catch(() => undefined)
    this.#end()
    return true
  }

  async #suspend(): Promise<void> {
    this.#resumed = new Promise((resolve) => {
      this.#tellResumed = resolve
    })
    this.#target.statistics.suspended = 1
    const { lock, size, main, pool, readOnly } = this.#target
    this.#release = await lock.exclusive(0, Math.ceil(size / pool.blockSize))
    try {
      if (!readOnly) await Promise.all([main.flush(), pool.flush()])
    } catch (error) {
      this.#end()
      throw error
    }
  }

  #end(): void {
    this.#release?.()
    this.#release = undefined
    this.#suspending = undefined
    this.#resumed = undefined
    this.#target.statistics.suspended = 0
    this.#tellResumed()
  }
}
