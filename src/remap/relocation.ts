/**
 * Moves many blocks to another disk while clients use them, as a virtual machine is moved to another host: everything is
 * copied first; what was written meanwhile is copied again, and again, until little is left; then, window by window, the
 * blocks are held, the rest is copied, and they change over. So clients wait for a window at most, never for the whole,
 * and until the first window changes over the whole can be given up and nothing has changed.
 */
import { Pacer } from '../util/pacer.js'
import type { RangeLock } from '../util/range-lock.js'
import { RangeSet } from '../util/range-set.js'
import type { Progress } from './progress.js'

/** Blocks that are copied together: some that follow one another among all that are moved. */
export interface Part {
  readonly blocks: RangeSet
  /** Of the first of them, among all. */
  readonly index: number
}

/** Blocks that change over together: those with the indices from `from` to `to`, `to` not among them. All are held. */
export interface Window {
  readonly from: number
  readonly to: number
  /** Whether a client may have written to the block with this index since the relocation began. */
  readonly wasWritten: (index: number) => boolean
}

export interface Mover {
  /** Copies the content. Nobody writes to the blocks meanwhile; what is there may have been copied before. */
  copy(part: Part): Promise<void>
  /** Makes what was copied durable. */
  settle(): Promise<void>
  /** The blocks are in their new place when it resolves. */
  changeOver(window: Window): Promise<void>
}

export interface RelocationOptions {
  readonly lock: RangeLock
  readonly blocks: RangeSet
  readonly mover: Mover
  /** `shared`: clients may read the blocks while they change over, because both places have the same content. */
  readonly hold: 'shared' | 'exclusive'
  /** False: there is nothing to copy. */
  readonly copies: boolean
  readonly progress: Progress
  /** Throws when there is to be no further step. */
  readonly goOn: () => void
}

/** Blocks that are copied together. */
const PART_BLOCKS = 128
/** Ranges that are copied together: each is a request of its own. */
const PART_RANGES_MAX = 64
/** A part that takes longer is too large: clients that want one of its blocks wait for all. */
const PART_MS = 5
/** Blocks that change over together: clients wait so long. */
export const WINDOW_BLOCKS = 4096
/** With no more than this left to be copied, or after so many rounds, the blocks change over. */
const REST_BLOCKS = 256
const ROUNDS_MAX = 4

/** @throws whatever the mover throws; how far it came is known to the mover */
export async function relocate(options: RelocationOptions): Promise<void> {
  const { blocks, lock, copies, progress } = options
  const dirty = new DirtyBlocks(blocks)
  const unwatch = copies
    ? lock.watch(blocks, (start, end) => {
        dirty.add(start, end)
      })
    : () => undefined
  const pacer = new Pacer()
  try {
    if (copies) await copyAll(options, dirty, pacer)
    for (let from = 0; from < blocks.size; from += WINDOW_BLOCKS) {
      await changeOver(options, dirty, from, Math.min(from + WINDOW_BLOCKS, blocks.size))
      progress.report('changing-over', from)
      await pacer.pause()
    }
  } finally {
    unwatch()
  }
}

async function copyAll(options: RelocationOptions, dirty: DirtyBlocks, pacer: Pacer): Promise<void> {
  const { lock, blocks, mover, progress, goOn } = options
  /** @returns how long the blocks were held */
  const copyUnderLock = async (part: Part): Promise<number> => {
    goOn()
    const release = await lock.claim(part.blocks, 'shared')
    const sinceMs = performance.now()
    try {
      dirty.clear(part)
      await mover.copy(part)
    } finally {
      release()
    }
    const heldMs = performance.now() - sinceMs
    await pacer.pause()
    return heldMs
  }
  for (let index = 0, ranges = 1; index < blocks.size;) {
    const part = blocks.part(index, Math.min(index + PART_BLOCKS, blocks.size), ranges)
    ranges = nextRanges(ranges, await copyUnderLock({ blocks: part, index }))
    index += part.size
    progress.report('copying', index)
  }
  for (let round = 0; round < ROUNDS_MAX && dirty.count > REST_BLOCKS; round++) {
    for (const part of dirty.parts(0, blocks.size)) await copyUnderLock(part)
  }
  await mover.settle()
}

/** How many ranges the next part has, after one with so many of which the blocks were held for so long. */
const nextRanges = (ranges: number, heldMs: number): number =>
  heldMs > PART_MS ? Math.max(1, Math.floor(ranges / 2)) : Math.min(PART_RANGES_MAX, ranges * 2)

async function changeOver(
  { lock, blocks, mover, hold, goOn }: RelocationOptions,
  dirty: DirtyBlocks,
  from: number,
  to: number,
): Promise<void> {
  const release = await lock.claim(blocks.part(from, to), hold)
  try {
    goOn()
    const hadRest = dirty.count > 0
    for (const part of dirty.parts(from, to)) {
      dirty.clear(part)
      await mover.copy(part)
    }
    if (hadRest) await mover.settle()
    await mover.changeOver({ from, to, wasWritten: (index) => dirty.wasWritten(index) })
  } finally {
    release()
  }
}

/** Which blocks were written at all, and which since they were copied. */
class DirtyBlocks {
  readonly #blocks: RangeSet
  readonly #marks: Uint8Array
  #count = 0

  constructor(blocks: RangeSet) {
    this.#blocks = blocks
    this.#marks = new Uint8Array(blocks.size)
  }

  get count(): number {
    return this.#count
  }

  wasWritten(index: number): boolean {
    return this.#marks[index] !== UNTOUCHED
  }

  add(start: number, end: number): void {
    for (let block = Math.max(start, this.#blocks.start); block < Math.min(end, this.#blocks.end); block++) {
      const index = this.#blocks.indexOf(block)
      if (index < 0 || this.#marks[index] === DIRTY) continue
      this.#marks[index] = DIRTY
      this.#count++
    }
  }

  /** They are about to be copied. */
  clear({ blocks, index }: Part): void {
    for (let n = index; n < index + blocks.size; n++) {
      if (this.#marks[n] !== DIRTY) continue
      this.#marks[n] = COPIED
      this.#count--
    }
  }

  /** Dirty neighbours with indices from `from` to `to`, as they are when they are asked for. */
  *parts(from: number, to: number): Generator<Part> {
    if (this.#count === 0) return
    for (let index = from; index < to; index++) {
      if (this.#marks[index] !== DIRTY) continue
      const first = this.#blocks.at(index)
      let count = 1
      while (count < PART_BLOCKS && index + count < to && this.#continues(first, index, count)) count++
      yield { blocks: RangeSet.of([first, first + count]), index }
      index += count - 1
    }
  }

  #continues(first: number, index: number, count: number): boolean {
    return this.#marks[index + count] === DIRTY && this.#blocks.at(index + count) === first + count
  }
}

const UNTOUCHED = 0
const DIRTY = 1
/** Written, and copied since. */
const COPIED = 2
