/** The newest part of a text that never ends: what a program has printed, bounded, for the message when it fails. */

export const RING_BYTES_MAX = 64 * 1024

export class TextRing {
  readonly #bytesMax: number
  #chunks: Buffer[] = []
  #length = 0
  #dropped = false

  constructor(bytesMax = RING_BYTES_MAX) {
    this.#bytesMax = bytesMax
  }

  append(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#length += chunk.length
    // Compacted only at twice the limit, so that a program printing byte by byte costs no copy for each byte.
    if (this.#length > 2 * this.#bytesMax || this.#chunks.length > 1000) this.#compact()
  }

  /** What is kept, beginning with a mark when the beginning is lost. */
  toString(): string {
    this.#compact()
    const text = this.#chunks.map((chunk) => chunk.toString()).join('')
    return this.#dropped ? `[...]${text}` : text
  }

  #compact(): void {
    const whole = Buffer.concat(this.#chunks, this.#length)
    const excess = Math.max(0, whole.length - this.#bytesMax)
    // A copy: a slice would keep everything alive that it is a part of.
    const kept = excess > 0 ? Buffer.from(whole.subarray(excess)) : whole
    this.#dropped ||= excess > 0
    this.#chunks = [kept]
    this.#length = kept.length
  }
}
