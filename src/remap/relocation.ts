/**
 * Moves many blocks to another disk while clients use them, as a virtual machine is moved to another host: everything is
 * copied first; what was written meanwhile is copied again, and again, until little is left; then, window by window, the
 * blocks are held, the rest is copied, and they change over. So clients wait for a window at most, never for the whole,
 * and until the first window changes over the whole can be given up and nothing has changed.
 */
import { Pacer } from '../util/pacer.js'
import type { RangeLock } from '../util/range-lock.js'
import { RangeSet } from '../util/range-set.js'
import { mainBlock, type MainBlock } from '../util/units.js'

export interface Run {
  readonly first: MainBlock
  readonly count: number
  /** Of the first block, among all blocks that are moved. */
  readonly index: number
}

export interface Mover {
  /** Copies the content. Nobody writes to the blocks meanwhile; what is there may have been copied before. */
  copy(run: Run): Promise<void>
  /** Makes what was copied durable. */
  settle(): Promise<void>
  /** Has the blocks with the indices from `from` to `to`, `to` not among them, change over. All of them are held. */
  changeOver(from: number, to: number): Promise<void>
}

export interface RelocationOptions {
  readonly lock: RangeLock
  readonly blocks: RangeSet
  readonly mover: Mover
  /** `shared`: clients may read the blocks while they change over, because both places have the same content. */
  readonly hold: 'shared' | 'exclusive'
  /** False: there is nothing to copy. */
  readonly copies: boolean
  /** Called now and then, with the blocks that are done, and before the first one. */
  readonly progress: (done: number) => void
}

/** Blocks that are copied in one piece. */
const RUN_BLOCKS = 128
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
    progress(0)
    if (copies) await copyAll(options, dirty, pacer)
    for (let from = 0; from < blocks.size; from += WINDOW_BLOCKS) {
      await changeOver(options, dirty, from, Math.min(from + WINDOW_BLOCKS, blocks.size))
      progress(Math.min(from + WINDOW_BLOCKS, blocks.size))
      await pacer.pause()
    }
  } finally {
    unwatch()
  }
}

async function copyAll({ lock, blocks, mover, progress }: RelocationOptions, dirty: DirtyBlocks, pacer: Pacer) {
  const copyUnderLock = async ({ first, count, index }: Run): Promise<void> => {
    const release = await lock.shared(first, first + count)
    try {
      dirty.clear(index, count)
      await mover.copy({ first, count, index })
    } finally {
      release()
    }
    await pacer.pause()
  }
  for (const { start, end, index } of blocks.pieces(RUN_BLOCKS)) {
    await copyUnderLock({ first: mainBlock(start), count: end - start, index })
    progress(0)
  }
  for (let round = 0; round < ROUNDS_MAX && dirty.count > REST_BLOCKS; round++) {
    for (const run of dirty.runs(0, blocks.size)) await copyUnderLock(run)
  }
  await mover.settle()
}

async function changeOver(
  { lock, blocks, mover, hold }: RelocationOptions,
  dirty: DirtyBlocks,
  from: number,
  to: number,
): Promise<void> {
  const release = await lock.claim(blocks.part(from, to), hold)
  try {
    const hadRest = dirty.count > 0
    for (const run of dirty.runs(from, to)) {
      dirty.clear(run.index, run.count)
      await mover.copy(run)
    }
    if (hadRest) await mover.settle()
    await mover.changeOver(from, to)
  } finally {
    release()
  }
}

/** Which blocks were written since they were copied, a bit each. */
class DirtyBlocks {
  readonly #blocks: RangeSet
  readonly #bits: Uint8Array
  #count = 0

  constructor(blocks: RangeSet) {
    this.#blocks = blocks
    this.#bits = new Uint8Array(blocks.size)
  }

  get count(): number {
    return this.#count
  }

  add(start: number, end: number): void {
    for (let block = Math.max(start, this.#blocks.start); block < Math.min(end, this.#blocks.end); block++) {
      const index = this.#blocks.indexOf(block)
      if (index < 0 || this.#bits[index] === 1) continue
      this.#bits[index] = 1
      this.#count++
    }
  }

  clear(index: number, count: number): void {
    for (let n = index; n < index + count; n++) {
      if (this.#bits[n] === 0) continue
      this.#bits[n] = 0
      this.#count--
    }
  }

  /** Neighbours with indices from `from` to `to`, as they are when they are asked for. */
  *runs(from: number, to: number): Generator<Run> {
    if (this.#count === 0) return
    for (let index = from; index < to; index++) {
      if (this.#bits[index] === 0) continue
      const first = this.#blocks.at(index)
      let count = 1
      while (
        count < RUN_BLOCKS &&
        index + count < to &&
        this.#bits[index + count] === 1 &&
        this.#blocks.at(index + count) === first + count
      ) {
        count++
      }
      yield { first: mainBlock(first), count, index }
      index += count - 1
    }
  }
}
