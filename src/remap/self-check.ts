/** Checks and repairs the metadata of a running pair now and then, so that a copy that decays is noticed while there are others. */
import { messageOf } from '../util/errors.js'
import type { Log } from '../util/log.js'
import { MetadataCheckError, type MetadataCheck } from './metadata-check.js'

export class SelfCheck {
  readonly #check: MetadataCheck
  readonly #everyMs: number
  readonly #log: Log
  #timer: NodeJS.Timeout | undefined

  /** @param everyMs 0: never */
  constructor(check: MetadataCheck, everyMs: number, log: Log) {
    this.#check = check
    this.#everyMs = everyMs
    this.#log = log
  }

  begin(): void {
    if (this.#everyMs > 0) this.#wait()
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #wait(): void {
    this.#timer = setTimeout(() => void this.#run(), this.#everyMs).unref()
  }

  async #run(): Promise<void> {
    try {
      const { headers, slotPages, damaged, repaired } = await this.#check.run({ repair: true, paced: true })
      const found = damaged === 0 ? 'intact' : `${repaired} of ${damaged} damaged ones repaired`
      this.#log.info(`self-check: ${headers} headers and ${slotPages} slot pages, ${found}`)
    } catch (error) {
      // Somebody checks it at this moment, or it is served read-only.
      const level = error instanceof MetadataCheckError ? 'debug' : 'error'
      this.#log[level](`self-check: ${messageOf(error)}`)
    }
    if (this.#timer) this.#wait()
  }
}
