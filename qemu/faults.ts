/**
 * `FaultInjector`: bad sectors beneath an NBD export, switched while clients stay connected. A change puts a new blkdebug
 * node over the image, swaps it in beneath the raw node (which drains requests for a moment), and deletes the old one.
 *
 * Its rules are single sectors; `sectorRules` of blkdebug.ts makes them of the vocabulary of docs/FAULTS.md.
 *
 * The surprise: blkdebug forgets a rule that has fired its `times`, and nobody can ask it; so every change arms the rules
 * with `times` that are still in the set anew. And a request fails only if it CONTAINS the first byte of a bad sector.
 */

import type { QmpClient } from '../src/qmp/index.js'
import type { Sector } from '../src/util/units.js'
import { fileNode, rawNodeOptions, type StorageDaemon } from './storage-daemon.js'

export interface SectorRule {
  /** The bad 512-byte sector; every sector when not given. */
  readonly sector?: Sector
  /** `write` covers WRITE_ZEROES too. TRIM and FLUSH never fail. */
  readonly operation: 'read' | 'write' | 'both'
  /** Linux errno, default 5 (EIO). Over NBD most others arrive as EINVAL. */
  readonly errno?: number
  /** Fail so often, then be good again; for ever when not given. */
  readonly times?: number
}

/** Rules of blkdebug, of which one of ours needs up to three, times `times`. Adding them takes quadratic time: 1.5 s. */
export const BLKDEBUG_RULES_MAX = 2000

const EIO = 5

interface BlkdebugRule {
  readonly event: 'none'
  readonly errno: number
  readonly sector?: number
  readonly iotype?: 'read' | 'write' | 'write-zeroes'
  readonly once?: boolean
}

export class FaultInjector {
  readonly #qmp: QmpClient
  readonly #disk: string
  #rules: readonly SectorRule[] = []
  #node: string | undefined
  #nodesMade = 0
  #changes: Promise<void> = Promise.resolve()

  constructor(daemon: StorageDaemon, disk: string) {
    // Throws when there is no such disk: better here than at the first fault.
    daemon.uri(disk)
    this.#qmp = daemon.qmp
    this.#disk = disk
  }

  /** What is bad now. */
  get rules(): readonly SectorRule[] {
    return this.#rules
  }

  /**
   * From when the promise resolves, exactly these rules hold. Changes happen in the order of the calls.
   * @throws RangeError for more than `BLKDEBUG_RULES_MAX`; the old rules hold on
   * @throws QmpError when the storage daemon refuses or is gone
   */
  set(rules: readonly SectorRule[]): Promise<void> {
    return this.#serialise(() => this.#apply([...rules]))
  }

  /** As `set`, with the rules that hold already. */
  add(rules: readonly SectorRule[]): Promise<void> {
    return this.#serialise(() => this.#apply([...this.#rules, ...rules]))
  }

  /** The disk is healthy again. */
  clear(): Promise<void> {
    return this.set([])
  }

  #serialise(change: () => Promise<void>): Promise<void> {
    const done = this.#changes.then(change)
    // A failed change was told to its caller; the next one starts afresh.
    this.#changes = done.catch(() => undefined)
    return done
  }

  async #apply(rules: readonly SectorRule[]): Promise<void> {
    const armed = rules.flatMap(blkdebugRules)
    if (armed.length > BLKDEBUG_RULES_MAX) {
      throw new RangeError(`${armed.length} blkdebug rules are too many: ${BLKDEBUG_RULES_MAX} is the limit`)
    }
    const old = this.#node
    const next = armed.length === 0 ? undefined : await this.#addNode(armed)
    try {
      const options = [rawNodeOptions(this.#disk, next ?? fileNode(this.#disk))]
      await this.#qmp.execute('blockdev-reopen', { options })
    } catch (error) {
      if (next !== undefined) await this.#deleteNode(next)
      throw error
    }
    this.#node = next
    this.#rules = rules
    if (old !== undefined) await this.#deleteNode(old)
  }

  async #addNode(rules: readonly BlkdebugRule[]): Promise<string> {
    const name = `${this.#disk}-bad-${++this.#nodesMade}`
    await this.#qmp.execute('blockdev-add', {
      driver: 'blkdebug',
      'node-name': name,
      image: fileNode(this.#disk),
      discard: 'unmap',
      'inject-error': rules,
    })
    return name
  }

  async #deleteNode(name: string): Promise<void> {
    await this.#qmp.execute('blockdev-del', { 'node-name': name })
  }
}

/** A rule of blkdebug without `iotype` covers reads, writes, write-zeroes, and without a sector flushes as well. */
function blkdebugRules({ sector, operation, errno = EIO, times }: SectorRule): BlkdebugRule[] {
  const where = sector === undefined ? {} : { sector }
  const rule = { event: 'none', errno, ...where, ...(times === undefined ? {} : { once: true }) } as const
  const rules: BlkdebugRule[] = iotypes(operation, sector).map((iotype) =>
    iotype === 'any' ? rule : { ...rule, iotype },
  )
  return Array.from({ length: times ?? 1 }, () => rules).flat()
}

function iotypes(operation: SectorRule['operation'], sector: Sector | undefined) {
  if (operation === 'read') return ['read'] as const
  if (operation === 'write') return ['write', 'write-zeroes'] as const
  // A flush that fails could never be healed: taking a node away flushes it first.
  return sector === undefined ? (['read', 'write', 'write-zeroes'] as const) : (['any'] as const)
}
