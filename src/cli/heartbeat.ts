/**
 * `Heartbeat`: asks a worker again and again whether it is alive, and says when it has been silent for too long and a next
 * one would be better off. Time counts only while we run ourselves: a machine that sleeps, or is too busy for the
 * supervisor, too, makes no worker late.
 */
import { processState, type ProcessState } from '../util/process-state.js'
import type { Log } from '../util/log.js'
import { isWorthEnding, judgeSilence, SILENCE_TEXT, type Silence } from './silence.js'

export interface HeartbeatSubject {
  readonly pid: number
  /** Asks it to answer, which `Heartbeat.heard` is told of. */
  beat(): void
  /** It hangs. Said once. */
  onHung(text: string): void
}

const BEATS_PER_LIMIT = 8
/** A tick that comes later than that many ticks counts as so many: we were asleep ourselves. */
const TICKS_LATE_MAX = 2

export class Heartbeat {
  readonly #subject: HeartbeatSubject
  readonly #limitMs: number
  readonly #log: Log
  readonly #timer: NodeJS.Timeout
  #before: ProcessState | undefined
  #silentMs = 0
  #lastTickMs = performance.now()
  #told: Silence | undefined

  constructor(subject: HeartbeatSubject, limitMs: number, log: Log) {
    this.#subject = subject
    this.#limitMs = limitMs
    this.#log = log
    this.#before = processState(subject.pid)
    this.#timer = setInterval(() => {
      this.#tick()
    }, limitMs / BEATS_PER_LIMIT)
    subject.beat()
  }

  /** It has answered. */
  heard(): void {
    if (this.#told) this.#log.info(`worker ${this.#subject.pid} answers again`)
    this.#told = undefined
    this.#silentMs = 0
    this.#before = undefined
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #tick(): void {
    const nowMs = performance.now()
    const tickMs = this.#limitMs / BEATS_PER_LIMIT
    this.#silentMs += Math.min(nowMs - this.#lastTickMs, tickMs * TICKS_LATE_MAX)
    this.#lastTickMs = nowMs
    const state = processState(this.#subject.pid)
    this.#before ??= state
    if (this.#silentMs < this.#limitMs || !this.#before) this.#subject.beat()
    else this.#judge(this.#before, state)
  }

  #judge(before: ProcessState, now: ProcessState | undefined): void {
    const silence = judgeSilence(before, now, { silentMs: this.#silentMs, limitMs: this.#limitMs })
    // Its end is heard of in another way.
    if (silence === 'gone') return
    const text = `has not answered for ${(this.#silentMs / 1000).toFixed(1)} s: ${SILENCE_TEXT[silence]}`
    if (isWorthEnding(silence)) {
      this.stop()
      this.#subject.onHung(text)
    } else if (silence !== this.#told) {
      this.#log.warn(`worker ${this.#subject.pid} ${text}; it is left alone`)
      this.#told = silence
    }
  }
}
