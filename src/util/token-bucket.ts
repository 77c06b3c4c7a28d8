/** `TokenBucket`: so many times a second, and some more at once after a quiet time. Pure: the time comes from the caller. */
export class TokenBucket {
  readonly #perSecond: number
  readonly #burst: number
  #tokens: number
  #filledMs: number | undefined

  constructor(perSecond: number, burst: number) {
    this.#perSecond = perSecond
    this.#burst = burst
    this.#tokens = burst
  }

  /** @param nowMs on a steady clock. @returns whether it is allowed once more */
  take(nowMs: number): boolean {
    const passedMs = nowMs - (this.#filledMs ?? nowMs)
    this.#tokens = Math.min(this.#burst, this.#tokens + (passedMs / 1000) * this.#perSecond)
    this.#filledMs = nowMs
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}
