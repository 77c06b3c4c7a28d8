/**
 * What operators are moving at the moment: no two requests of theirs concern the same blocks, and none outlives the pair,
 * whose disks may be somebody else's by then.
 */
import type { RangeSet } from '../util/range-set.js'
import { RemapRequestError } from './batch.js'

export class Relocations {
  readonly #running = new Map<RangeSet, Promise<void>>()
  #isStopping = false

  get size(): number {
    return this.#running.size
  }

  /** The first of these blocks that is being moved already. */
  firstCommon(blocks: RangeSet): number | undefined {
    for (const other of this.#running.keys()) {
      const common = firstCommon(blocks, other)
      if (common !== undefined) return common
    }
    return undefined
  }

  /** Runs `action`, which moves these blocks and asks `goOn` between its steps. @throws RemapRequestError */
  async run(blocks: RangeSet, action: () => Promise<void>): Promise<void> {
    this.goOn()
    const done = action()
    this.#running.set(blocks, done)
    try {
      await done
    } finally {
      this.#running.delete(blocks)
    }
  }

  /** @throws RemapRequestError when the server stops */
  readonly goOn = (): void => {
    if (this.#isStopping) throw new RemapRequestError('the server is stopping')
  }

  /** Resolves when those that are running now have ended. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#running.values())
  }

  /** Ends them at their next step, and refuses new ones. */
  async stop(): Promise<void> {
    this.#isStopping = true
    await this.settled()
  }
}

function firstCommon(a: RangeSet, b: RangeSet): number | undefined {
  for (const { start, end } of a.pieces()) {
    if (!b.overlaps(start, end)) continue
    for (let block = start; block < end; block++) if (b.indexOf(block) >= 0) return block
  }
  return undefined
}
