/** What a running pair does for its health beside serving: scrub, weak blocks, checks of its metadata, and the note of its replica. */
import type { SlowReads } from '../device/slow-reads.js'
import { DeviceError } from '../device/device.js'
import type { Log } from '../util/log.js'
import type { RemapEventSink } from './events.js'
import { MetadataCheck } from './metadata-check.js'
import { noteUnchanged } from './replica-open.js'
import { Scrub } from './scrub.js'
import { SelfCheck } from './self-check.js'
import type { RemapTarget } from './target.js'
import { WeakBlocks } from './weak.js'

/** A crash loses what was counted since. */
const LIFETIME_NOTE_MS = 10 * 60_000

export interface HealingOptions {
  readonly slowReads: SlowReads
  readonly slowReadMs: number
  /** Between two checks of the metadata; 0: there are none. */
  readonly selfCheckMs: number
  readonly emit: RemapEventSink
  readonly log: Log
}

export class Healing {
  readonly scrub: Scrub
  readonly metadata: MetadataCheck
  readonly #selfCheck: SelfCheck
  readonly #target: RemapTarget
  readonly #weak: WeakBlocks
  readonly #slowReads: SlowReads
  readonly #log: Log
  #noting: NodeJS.Timeout | undefined

  constructor(target: RemapTarget, { slowReads, slowReadMs, selfCheckMs, emit, log }: HealingOptions) {
    this.#target = target
    this.#slowReads = slowReads
    this.#log = log
    this.scrub = new Scrub(target, emit, log)
    this.metadata = new MetadataCheck(target, emit, log)
    this.#selfCheck = new SelfCheck(this.metadata, selfCheckMs, log)
    this.#weak = new WeakBlocks(target, slowReadMs, log)
    slowReads.onSlow = this.#weak.late
  }

  /** From which time on a read is late. */
  set slowReadMs(slowMs: number) {
    this.#slowReads.slowMs = slowMs
    this.#weak.slowMs = slowMs
  }

  /** The pair is open, and about to be served. */
  begin(): void {
    this.scrub.resume()
    this.#selfCheck.begin()
    if (!this.#target.readOnly) this.#noting = setInterval(() => void this.#note(), LIFETIME_NOTE_MS).unref()
  }

  async #note(): Promise<void> {
    try {
      await this.#target.lifetime.note()
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error
      this.#log.warn(`the counters of the lifetime cannot be written down: ${error.message}`)
    }
  }

  /** Nothing is served any more. What cannot be noted down is lost, but is no reason not to stop. */
  async close(): Promise<void> {
    clearInterval(this.#noting)
    this.#selfCheck.close()
    await this.metadata.close()
    await this.#weak.close()
    try {
      await this.scrub.close()
      await noteUnchanged(this.#target)
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error
      this.#log.warn(`the notes of scrub and replica cannot be kept: ${error.message}`)
    }
  }
}
