/**
 * What a disk must hold after the server was killed, granule by granule of 128 bytes, so that requests need not be
 * aligned to sectors. Every write has a number of its own, and every granule says which write it is from.
 *
 * Killing processes is no power cut: what was acknowledged must be there, flushed or not. What was in flight may be
 * there. A request must not overlap one in flight, so there is never a doubt about their order.
 */

export const GRANULE = 128
const WORDS = GRANULE / 4

export interface Range {
  readonly offset: number
  readonly length: number
}

export class GranuleModel {
  readonly size: number
  /** Number of the write that was acknowledged last; 0 is zeros. */
  readonly #acknowledged: Uint32Array
  #flushed: Uint32Array
  readonly #inFlight = new Map<number, number>()
  readonly #beingRead = new Set<number>()

  constructor(size: number) {
    this.size = size
    this.#acknowledged = new Uint32Array(size / GRANULE)
    this.#flushed = new Uint32Array(size / GRANULE)
  }

  isBusy(range: Range): boolean {
    return granules(range).some((granule) => this.#inFlight.has(granule) || this.#beingRead.has(granule))
  }

  /** A read begins. @returns to be called with what came of it; it returns what is wrong, `undefined`: nothing */
  reading(range: Range): (data: Buffer) => string | undefined {
    for (const granule of granules(range)) this.#beingRead.add(granule)
    return (data) => {
      for (const granule of granules(range)) this.#beingRead.delete(granule)
      return this.check(range.offset, data)
    }
  }

  /** @returns what write number `id` writes there */
  begin(range: Range, id: number): Buffer {
    const content = Buffer.alloc(range.length)
    const words = new Uint32Array(content.buffer, content.byteOffset, range.length / 4)
    for (const [n, granule] of granules(range).entries()) {
      this.#inFlight.set(granule, id)
      if (id !== 0) fill(words.subarray(n * WORDS, (n + 1) * WORDS), id, granule)
    }
    return content
  }

  acknowledged(range: Range): void {
    for (const granule of granules(range)) {
      this.#acknowledged[granule] = this.#inFlight.get(granule) ?? 0
      this.#inFlight.delete(granule)
    }
  }

  /** A flush begins. @returns to be called when it was acknowledged */
  flushing(): () => void {
    const before = this.#acknowledged.slice()
    return () => {
      this.#flushed = before
    }
  }

  /** Checks what was read of a range without requests in flight. @returns what is wrong; `undefined`: nothing */
  check(offset: number, data: Buffer): string | undefined {
    const words = new Uint32Array(data.buffer, data.byteOffset, data.length / 4)
    for (const [n, granule] of granules({ offset, length: data.length }).entries()) {
      const id = identify(words.subarray(n * WORDS, (n + 1) * WORDS), granule)
      const wrong = this.#judge(granule, id)
      if (wrong !== undefined) return `${wrong} (${GRANULE} bytes at ${granule * GRANULE})`
      this.#acknowledged[granule] = id ?? 0
    }
    return undefined
  }

  /** After `check` has looked at everything: what was in flight has become what was seen, or nothing. */
  settle(): void {
    this.#inFlight.clear()
    this.#beingRead.clear()
  }

  #judge(granule: number, id: number | undefined): string | undefined {
    const acknowledged = this.#acknowledged[granule] ?? 0
    if (id === acknowledged || (id !== undefined && id === this.#inFlight.get(granule))) return undefined
    const flushed = this.#flushed[granule] === acknowledged ? 'acknowledged and flushed' : 'acknowledged'
    const found = id === undefined ? 'there is something that nobody wrote' : `there is write ${id}`
    return `write ${acknowledged} was ${flushed}, and ${found}`
  }
}

function granules({ offset, length }: Range): number[] {
  return Array.from({ length: length / GRANULE }, (_, n) => offset / GRANULE + n)
}

function fill(words: Uint32Array, id: number, granule: number): void {
  for (let n = 0; n < WORDS; n += 2) {
    words[n] = id
    words[n + 1] = granule
  }
}

function identify(words: Uint32Array, granule: number): number | undefined {
  const [id = 0] = words
  const second = id === 0 ? 0 : granule
  for (let n = 0; n < WORDS; n += 2) if (words[n] !== id || words[n + 1] !== second) return undefined
  return id
}
