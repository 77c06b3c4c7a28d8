/**
 * What is known of every slot, 16 bytes each, in memory: the state of the spare's data blocks, and at the same time the
 * entries of the remap table, which links them into its buckets. One record for both is what keeps a remap below 24 bytes.
 *
 * Records lie in chunks that are allocated when a slot in them is first used and never move: growing copies nothing, so no
 * request ever waits for it. Lost masks have chunks of their own, allocated when a sector is first lost.
 *
 *   word 0   link: the next slot of the same bucket, plus one; 0 ends the chain. It belongs to the remap table
 *   word 1   main block, its low 32 bits
 *   word 2   main block, its high 12 bits; whether sectors are lost, 1 bit; whether it is linked, 1 bit; state, 2 bits;
 *            generation, its high 16 bits
 *   word 3   generation, low 32 bits
 */
import { assert } from '../util/assert.js'
import { quietUint32Array } from '../util/quiet-array.js'
import type { MainBlock, SlotNumber } from '../util/units.js'
import type { Slot, SlotState } from './format.js'

const CHUNK_BITS = 16
export const CHUNK_SLOTS = 1 << CHUNK_BITS
const SLOT_MASK = CHUNK_SLOTS - 1
const WORDS = 4
export const RECORD_BYTES = WORDS * Uint32Array.BYTES_PER_ELEMENT
const WORD_RANGE = 0x1_0000_0000

const BLOCK_HIGH_SHIFT = 20
const LOST_BIT = 1 << 19
/** The record is in the remap table: the slot is the one in force for its block. */
const LINKED_BIT = 1 << 18
const STATE_SHIFT = 16
const STATE_MASK = 3
const GENERATION_HIGH_MASK = 0xffff
const PLAIN_MASK = (0xfff << BLOCK_HIGH_SHIFT) | LOST_BIT | LINKED_BIT
const STATES: readonly SlotState[] = ['free', 'remapped', 'retired']
const FREE = 0

/** Disks end at 2^53 bytes, where offsets cease to be exact, and blocks have at least 512 bytes. */
export const MAIN_BLOCK_MAX = 2 ** 44 - 1

export class SlotRecords {
  readonly #chunks: (Uint32Array | undefined)[] = []
  readonly #lostMasks: (BigUint64Array | undefined)[] = []

  /** Bytes allocated for records. */
  get bytes(): number {
    const sum = (arrays: readonly (Uint32Array | BigUint64Array | undefined)[]): number =>
      arrays.reduce((bytes, array) => bytes + (array?.byteLength ?? 0), 0)
    return sum(this.#chunks) + sum(this.#lostMasks)
  }

  get(number: SlotNumber): Slot {
    const chunk = this.#chunks[number >>> CHUNK_BITS]
    if (chunk === undefined) return { state: 'free', mainBlock: 0 as MainBlock, generation: 0, lostMask: 0n }
    const at = (number & SLOT_MASK) * WORDS
    const word = chunk[at + 2] ?? 0
    return {
      state: STATES[(word >>> STATE_SHIFT) & STATE_MASK] ?? 'retired',
      mainBlock: ((word >>> BLOCK_HIGH_SHIFT) * WORD_RANGE + (chunk[at + 1] ?? 0)) as MainBlock,
      generation: (word & GENERATION_HIGH_MASK) * WORD_RANGE + (chunk[at + 3] ?? 0),
      lostMask: (word & LOST_BIT) === 0 ? 0n : this.#lostMask(number),
    }
  }

  /** Leaves the link as it is. */
  put(number: SlotNumber, { state, mainBlock, generation, lostMask }: Slot): void {
    // The text is made only when it is needed: a string for each record is garbage, and collecting it is a pause.
    if (mainBlock > MAIN_BLOCK_MAX) assert(false, `main block ${mainBlock} lies on no disk`)
    const chunk = this.#chunkOf(number)
    const at = (number & SLOT_MASK) * WORDS
    const before = chunk[at + 2] ?? 0
    const hadLost = (before & LOST_BIT) !== 0
    if (hadLost || lostMask !== 0n) this.#setLostMask(number, lostMask)
    chunk[at + 1] = mainBlock % WORD_RANGE
    chunk[at + 2] =
      (Math.floor(mainBlock / WORD_RANGE) << BLOCK_HIGH_SHIFT) |
      (lostMask === 0n ? 0 : LOST_BIT) |
      (before & LINKED_BIT) |
      (STATES.indexOf(state) << STATE_SHIFT) |
      Math.floor(generation / WORD_RANGE)
    chunk[at + 3] = generation % WORD_RANGE
  }

  /** Forgets [first, first + count), none of which is in the remap table. */
  clear(first: number, count: number): void {
    const end = first + count
    for (let from = first; from < end;) {
      const to = Math.min((Math.floor(from / CHUNK_SLOTS) + 1) * CHUNK_SLOTS, end)
      const at = from & SLOT_MASK
      this.#chunks[from >>> CHUNK_BITS]?.fill(0, at * WORDS, (at + to - from) * WORDS)
      this.#lostMasks[from >>> CHUNK_BITS]?.fill(0n, at, at + to - from)
      from = to
    }
  }

  state(number: SlotNumber): SlotState {
    return STATES[this.#stateCode(number)] ?? 'retired'
  }

  isFree(number: SlotNumber): boolean {
    return this.#stateCode(number) === FREE
  }

  /** Whether it is the slot in force for its block: one that may or may not have reached the disk is not. */
  isInForce(number: SlotNumber): boolean {
    const word = this.#chunks[number >>> CHUNK_BITS]?.[(number & SLOT_MASK) * WORDS + 2] ?? 0
    return (word & LINKED_BIT) !== 0
  }

  hasLost(number: SlotNumber): boolean {
    return ((this.#chunks[number >>> CHUNK_BITS]?.[(number & SLOT_MASK) * WORDS + 2] ?? 0) & LOST_BIT) !== 0
  }

  // --- For the remap table -----------------------------------------------------------------------------------------

  /** The link of a slot: the number of the next one plus one, or 0. */
  link(number: number): number {
    return this.#chunks[number >>> CHUNK_BITS]?.[(number & SLOT_MASK) * WORDS] ?? 0
  }

  setLink(number: number, link: number): void {
    this.#chunkOf(number)[(number & SLOT_MASK) * WORDS] = link
  }

  /** Says whether the record is in the table. */
  setLinked(number: number, isLinked: boolean): void {
    const chunk = this.#chunkOf(number)
    const at = (number & SLOT_MASK) * WORDS + 2
    chunk[at] = isLinked ? (chunk[at] ?? 0) | LINKED_BIT : (chunk[at] ?? 0) & ~LINKED_BIT
  }

  /** Whether this slot is the one in force for this main block, and nothing of it is lost. */
  isPlain(number: number, block: number): boolean {
    const chunk = this.#chunks[number >>> CHUNK_BITS]
    if (chunk === undefined) return false
    const at = (number & SLOT_MASK) * WORDS
    if (chunk[at + 1] !== block >>> 0) return false
    const high = block < WORD_RANGE ? 0 : (block / WORD_RANGE) >>> 0
    const wanted = ((high << BLOCK_HIGH_SHIFT) | LINKED_BIT) >>> 0
    return ((chunk[at + 2] ?? 0) & PLAIN_MASK) >>> 0 === wanted
  }

  mainBlock(number: number): MainBlock {
    const chunk = this.#chunks[number >>> CHUNK_BITS]
    const at = (number & SLOT_MASK) * WORDS
    return (((chunk?.[at + 2] ?? 0) >>> BLOCK_HIGH_SHIFT) * WORD_RANGE + (chunk?.[at + 1] ?? 0)) as MainBlock
  }

  /** Follows a chain of links from `link` to the slot of this main block. @returns its number plus one; 0: it is not there */
  find(link: number, blockLow: number, blockHigh: number): number {
    let next = link
    while (next !== 0) {
      const number = next - 1
      const chunk = this.#chunks[number >>> CHUNK_BITS]
      if (chunk === undefined) return 0
      const at = (number & SLOT_MASK) * WORDS
      if (chunk[at + 1] === blockLow && (chunk[at + 2] ?? 0) >>> BLOCK_HIGH_SHIFT === blockHigh) return next
      next = chunk[at] ?? 0
    }
    return 0
  }

  // -----------------------------------------------------------------------------------------------------------------

  #stateCode(number: SlotNumber): number {
    const word = this.#chunks[number >>> CHUNK_BITS]?.[(number & SLOT_MASK) * WORDS + 2] ?? 0
    return (word >>> STATE_SHIFT) & STATE_MASK
  }

  #chunkOf(number: number): Uint32Array {
    const index = number >>> CHUNK_BITS
    return (this.#chunks[index] ??= quietUint32Array(CHUNK_SLOTS * WORDS))
  }

  #lostMask(number: SlotNumber): bigint {
    return this.#lostMasks[number >>> CHUNK_BITS]?.[number & SLOT_MASK] ?? 0n
  }

  #setLostMask(number: SlotNumber, lostMask: bigint): void {
    const masks = (this.#lostMasks[number >>> CHUNK_BITS] ??= new BigUint64Array(CHUNK_SLOTS))
    masks[number & SLOT_MASK] = lostMask
  }
}
