/** A set of slots, a bit each, in chunks that come and go: a `Set` holds no more than 2^24 numbers, at 40 bytes each. */
import type { SlotNumber } from '../util/units.js'

const CHUNK_BITS = 16
const CHUNK_MASK = (1 << CHUNK_BITS) - 1
const WORD_BITS = 32

interface Chunk {
  readonly words: Uint32Array
  size: number
}

export class SlotSet {
  readonly #chunks = new Map<number, Chunk>()
  #size = 0

  get size(): number {
    return this.#size
  }

  has(slot: SlotNumber): boolean {
    const chunk = this.#chunks.get(slot >>> CHUNK_BITS)
    return chunk !== undefined && ((chunk.words[wordOf(slot)] ?? 0) & bitOf(slot)) !== 0
  }

  add(slot: SlotNumber): void {
    if (this.has(slot)) return
    const chunk = this.#chunkOf(slot)
    const word = wordOf(slot)
    chunk.words[word] = (chunk.words[word] ?? 0) | bitOf(slot)
    chunk.size++
    this.#size++
  }

  delete(slot: SlotNumber): void {
    const chunk = this.#chunks.get(slot >>> CHUNK_BITS)
    if (chunk === undefined || !this.has(slot)) return
    const word = wordOf(slot)
    chunk.words[word] = (chunk.words[word] ?? 0) & ~bitOf(slot)
    chunk.size--
    this.#size--
    if (chunk.size === 0) this.#chunks.delete(slot >>> CHUNK_BITS)
  }

  #chunkOf(slot: SlotNumber): Chunk {
    const index = slot >>> CHUNK_BITS
    const known = this.#chunks.get(index)
    if (known !== undefined) return known
    const chunk = { words: new Uint32Array((CHUNK_MASK + 1) / WORD_BITS), size: 0 }
    this.#chunks.set(index, chunk)
    return chunk
  }
}

const wordOf = (slot: SlotNumber): number => (slot & CHUNK_MASK) >>> 5
const bitOf = (slot: SlotNumber): number => 1 << (slot & (WORD_BITS - 1))
