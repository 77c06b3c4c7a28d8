/**
 * `Scrub`: reads the whole disk in the background, so that bad blocks are found, and healed, while there is still
 * something to heal them with. It reads as a client does, step by step, not faster than told, and steps aside for
 * clients. Its position is kept on the spare now and then, so that a restart costs minutes of work and not days.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { DeviceError } from '../device/device.js'
import type { Log } from '../util/log.js'
import { KiB, mainBlock, MiB } from '../util/units.js'
import type { RemapEventSink } from './events.js'
import { healingNotes, type ScrubNote } from './healing-notes.js'
import { judge } from './policy.js'
import { countSectors } from './sector-mask.js'
import type { RemapTarget } from './target.js'

/** In bytes per second. */
export const SCRUB_SPEED_DEFAULT = 16 * MiB
/** Short, because writes to what is being read wait. A multiple of every block size. */
const STEP = 256 * KiB
const NOTE_EVERY_MS = 5 * 60_000
/** While clients made requests in the last so many milliseconds, a step waits. */
const IDLE_MS = 50
/** But under load, too, it gets on with a sixteenth of its speed. */
const LOAD_FACTOR = 15
const LOAD_WAIT_MIN_MS = 250

export type ScrubState = 'idle' | 'running' | 'stopped' | 'completed'

/** Offsets are in bytes. */
export interface ScrubProgress {
  readonly state: ScrubState
  readonly position: number
  readonly size: number
  readonly speed: number
  /** Blocks that were bad and have all their content on the spare now. */
  readonly healed: number
  /** Sectors that were found to be lost. */
  readonly lost: number
}

export interface ScrubStart {
  /** Bytes per second, 0: no limit; as before when absent. */
  readonly speed?: number | undefined
  /** From the beginning, although an unfinished scrub could be gone on with. */
  readonly restart?: boolean | undefined
}

/** A request of the operator that cannot be carried out. */
export class ScrubError extends Error {
  override name = 'ScrubError'
}

export class Scrub {
  readonly #target: RemapTarget
  readonly #emit: RemapEventSink
  readonly #log: Log
  #state: ScrubState = 'idle'
  #position = 0
  #speed = SCRUB_SPEED_DEFAULT
  #healed = 0
  #lost = 0
  /** The last one to be started, which may be working off its end. */
  #running = Promise.resolve()
  #stopping = new AbortController()
  #notedMs = 0
  /** What clients had asked for when it was looked at last. */
  #requestsSeen = 0

  constructor(target: RemapTarget, emit: RemapEventSink, log: Log) {
    this.#target = target
    this.#emit = emit
    this.#log = log
  }

  get progress(): ScrubProgress {
    const { size } = this.#target
    return {
      state: this.#state,
      position: this.#position,
      size,
      speed: this.#speed,
      healed: this.#healed,
      lost: this.#lost,
    }
  }

  /** Goes on with what a server before this one did not finish. */
  resume(): void {
    const note = healingNotes(this.#target.pool.healing).scrub
    if (!note || note.position >= this.#target.size) return
    this.#position = note.position - (note.position % STEP)
    this.#speed = note.speed
    this.#healed = note.healed
    this.#lost = note.lost
    this.#state = 'stopped'
    if (note.runs) this.#run()
  }

  /** @throws ScrubError when one is running already */
  start({ speed, restart = false }: ScrubStart): void {
    if (this.#state === 'running') throw new ScrubError('a scrub is running already: stop it first')
    if (speed !== undefined) this.#speed = speed
    if (restart || this.#state !== 'stopped') {
      this.#position = 0
      this.#healed = 0
      this.#lost = 0
    }
    this.#run()
  }

  /** Keeps the position. @throws ScrubError when none is running */
  async stop(): Promise<void> {
    if (this.#state !== 'running') throw new ScrubError('no scrub is running')
    this.#state = 'stopped'
    this.#stopping.abort()
    await this.#running
    await this.#note(false)
    this.#emit('SCRUB_STOPPED', { ...this.#told(), error: '' })
  }

  /** The server stops: the next one goes on. */
  async close(): Promise<void> {
    const wasRunning = this.#state === 'running'
    this.#stopping.abort()
    await this.#running
    if (wasRunning && this.#position < this.#target.size) await this.#note(true)
  }

  #run(): void {
    this.#state = 'running'
    this.#stopping = new AbortController()
    this.#notedMs = performance.now()
    this.#emit('SCRUB_STARTED', { ...this.#told(), speed: this.#speed })
    const { signal } = this.#stopping
    this.#running = this.#running
      .then(() => this.#work(signal))
      .catch((error: unknown) => {
        if (!(error instanceof DeviceError)) throw error
        this.#state = 'stopped'
        this.#log.warn(`scrub stopped: ${error.message}`)
        this.#emit('SCRUB_STOPPED', { ...this.#told(), error: error.code })
      })
  }

  async #work(signal: AbortSignal): Promise<void> {
    const { size } = this.#target
    const into = Buffer.alloc(Math.min(STEP, size))
    await this.#note(true)
    while (this.#position < size && !isAborted(signal)) {
      const startMs = performance.now()
      const step = into.subarray(0, Math.min(STEP, size - this.#position))
      if (!(await this.#target.examine(this.#position, step))) await this.#examineBlocks(step, signal)
      if (isAborted(signal)) return
      this.#position += step.length
      if (performance.now() - this.#notedMs > NOTE_EVERY_MS) await this.#note(true)
      if (this.#position === size) break
      const stepMs = this.#speed === 0 ? 0 : (step.length / this.#speed) * 1000
      await this.#rest(stepMs - (performance.now() - startMs), stepMs * LOAD_FACTOR, signal)
    }
    if (isAborted(signal)) return
    this.#state = 'completed'
    this.#target.statistics.scrubs++
    await this.#note(false)
    this.#emit('SCRUB_COMPLETED', this.#told())
  }

  /** One by one, since a drive may take seconds for each, and clients wait for no more than one. */
  async #examineBlocks(step: Buffer, signal: AbortSignal): Promise<void> {
    const { blockSize } = this.#target.pool
    for (let at = 0; at < step.length && !isAborted(signal); at += blockSize) {
      await this.#examineBlock(this.#position + at, step.subarray(at, at + blockSize))
    }
  }

  async #examineBlock(offset: number, into: Buffer): Promise<void> {
    const before = this.#lostIn(offset)
    try {
      await this.#target.heal(offset, into)
    } catch (error) {
      if (!(error instanceof DeviceError) || judge(error) !== 'bad-block') throw error
    }
    const after = this.#lostIn(offset)
    if (after === 0 && before !== 0) this.#healed++
    this.#lost += Math.max(0, (after ?? 0) - (before ?? 0))
  }

  /** Lost sectors of the block at `offset`; `undefined`: it is not remapped. */
  #lostIn(offset: number): number | undefined {
    const { pool, table } = this.#target
    const slot = table.lookup(mainBlock(Math.floor(offset / pool.blockSize)))
    return slot === undefined ? undefined : countSectors(pool.get(slot).lostMask)
  }

  /** Waits for its time, and then for clients to be idle, but not for ever. */
  async #rest(ms: number, loadMs: number, signal: AbortSignal): Promise<void> {
    await sleep(Math.max(0, ms), signal)
    const endMs = performance.now() + Math.max(loadMs, LOAD_WAIT_MIN_MS)
    for (;;) {
      const requests = this.#clientRequests()
      const isIdle = requests === this.#requestsSeen
      this.#requestsSeen = requests
      if (isIdle || isAborted(signal) || performance.now() > endMs) return
      await sleep(IDLE_MS, signal)
    }
  }

  #clientRequests(): number {
    const { reads, writes, flushes, trims, writeZeroes } = this.#target.statistics
    return reads + writes + flushes + trims + writeZeroes
  }

  #told(): { position: number; size: number; 'healed-blocks': number; 'lost-sectors': number } {
    const { size } = this.#target
    return { position: this.#position, size, 'healed-blocks': this.#healed, 'lost-sectors': this.#lost }
  }

  async #note(runs: boolean): Promise<void> {
    this.#notedMs = performance.now()
    if (this.#target.readOnly) return
    const scrub: ScrubNote = {
      runs,
      position: this.#position,
      speed: this.#speed,
      healed: this.#healed,
      lost: this.#lost,
    }
    await this.#target.pool.noteHealing((healing) => ({ ...healingNotes(healing), scrub }))
  }
}

/** It may change at every `await`, which the compiler does not see. */
const isAborted = (signal: AbortSignal): boolean => signal.aborted

const sleep = async (ms: number, signal: AbortSignal): Promise<void> => {
  await pause(ms, undefined, { signal }).catch(() => undefined)
}
