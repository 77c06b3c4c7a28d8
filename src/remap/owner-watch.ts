/**
 * Looks every few seconds whether the spares still belong to this server, for a server that changes no metadata would
 * not notice otherwise that another one has taken them over.
 */
import { DeviceError } from '../device/device.js'
import type { SparePool } from '../spare/pool.js'

export class OwnerWatch {
  readonly #pool: SparePool
  readonly #everyMs: number
  #timer: NodeJS.Timeout | undefined
  #looking: Promise<void> = Promise.resolve()

  constructor(pool: SparePool, everyMs: number) {
    this.#pool = pool
    this.#everyMs = everyMs
    this.#wait()
  }

  /** Resolves when it looks no more: then the disks can be closed. */
  async stop(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    await this.#looking
  }

  #wait(): void {
    this.#timer = setTimeout(() => {
      this.#looking = this.#look()
    }, this.#everyMs)
    this.#timer.unref()
  }

  /** A spare that is lost has told whoever wants to know; one that cannot be read says nothing. */
  async #look(): Promise<void> {
    try {
      await this.#pool.examineOwner()
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error
    }
    if (this.#timer) this.#wait()
  }
}
