/**
 * Random numbers that can be repeated: the same seed gives the same numbers on every machine and version of Node.js.
 * Whoever draws from it prints `seed`, so that a run that found something can be run again.
 *
 * The generator is xoshiro128** (Blackman and Vigna); good for choosing faults, useless for secrets.
 */

import { createHash, randomBytes } from 'node:crypto'
import { assert } from './assert.js'

const rotateLeft = (x: number, bits: number): number => (x << bits) | (x >>> (32 - bits))

export class Random {
  /** As it was given, or eight hexadecimal digits when none was. */
  readonly seed: string
  readonly #state: Uint32Array

  /** @param seed any text; without one, a seed that nobody has used yet */
  constructor(seed: string | number = randomBytes(4).toString('hex')) {
    this.seed = String(seed)
    const digest = createHash('sha256').update(this.seed).digest()
    this.#state = Uint32Array.from({ length: 4 }, (_, index) => digest.readUInt32LE(4 * index))
  }

  /** A number in [0, 1) with 53 random bits. */
  next(): number {
    const high = this.uint32() >>> 5
    const low = this.uint32() >>> 6
    return (high * 2 ** 26 + low) / 2 ** 53
  }

  /** An integer in [0, 2^32). */
  uint32(): number {
    const s = this.#state
    const [s0 = 0, s1 = 0, s2 = 0, s3 = 0] = s
    const result = Math.imul(rotateLeft(Math.imul(s1, 5), 7), 9) >>> 0
    const t2 = s2 ^ s0
    const t3 = s3 ^ s1
    s[0] = s0 ^ t3
    s[1] = s1 ^ t2
    s[2] = t2 ^ (s1 << 9)
    s[3] = rotateLeft(t3, 11)
    return result
  }

  /** An integer in [0, n). */
  below(n: number): number {
    assert(Number.isSafeInteger(n) && n > 0, `below(${n}) needs a positive integer`)
    return Math.floor(this.next() * n)
  }

  /** An integer in [least, most]. */
  between(least: number, most: number): number {
    return least + this.below(most - least + 1)
  }

  /** True so many times in a hundred. */
  chance(percent: number): boolean {
    return this.below(100) < percent
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T
  }

  /** A shuffled copy. */
  shuffle<T>(items: readonly T[]): T[] {
    const shuffled = [...items]
    for (let last = shuffled.length - 1; last > 0; last--) {
      const other = this.below(last + 1)
      const item = shuffled[last] as T
      shuffled[last] = shuffled[other] as T
      shuffled[other] = item
    }
    return shuffled
  }

  /** `count` different integers in [0, n), in random order. */
  sample(count: number, n: number): number[] {
    assert(count <= n, `cannot draw ${count} different integers below ${n}`)
    // Floyd's way: one draw for each, however close `count` is to `n`.
    const drawn = new Set<number>()
    for (let last = n - count; last < n; last++) {
      const candidate = this.below(last + 1)
      drawn.add(drawn.has(candidate) ? last : candidate)
    }
    return this.shuffle([...drawn])
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length)
    let offset = 0
    for (; offset + 4 <= length; offset += 4) bytes.writeUInt32LE(this.uint32(), offset)
    for (; offset < length; offset++) bytes[offset] = this.uint32()
    return bytes
  }
}
