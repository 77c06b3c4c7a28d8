/**
 * A failing disk on order, for tests: an `InjectedDevice` whose rules are byte ranges that fail requests. A failed request
 * has not touched the disk below, unless `tear` asks for what real disks do: then a failed write leaves any of its sectors
 * new.
 */
import { Area } from '../../src/faults/area.js'
import { FaultBook } from '../../src/faults/fault-book.js'
import { LiveRule } from '../../src/faults/live-rule.js'
import { chunksLength, sliceChunks } from '../../src/util/chunks.js'
import type { Random } from '../../src/util/random.js'
import { RangeSet } from '../../src/util/range-set.js'
import { alignDown, SECTOR_SIZE } from '../../src/util/units.js'
import type { Device, DeviceError, DeviceErrorCode, DeviceOperation } from '../../src/device/device.js'
import { InjectedDevice } from '../../src/device/injected.js'

export interface FaultRule {
  readonly operations: readonly DeviceOperation[]
  /** Bytes [start, end): a request that overlaps them fails. A flush overlaps every rule. */
  readonly start: number
  readonly end: number
  readonly code: DeviceErrorCode
  /** How many requests pass before the first one fails. */
  readonly after?: number
  /** How many requests fail before the rule is gone; without it, every one until `clear`. */
  readonly times?: number
  /** Sectors that are written or zeroed whole no longer fail reads, as in a drive that reallocates them. */
  readonly healsOnWrite?: boolean
}

export interface FaultyOptions {
  /** Decides which sectors of a failed write reach the disk below all the same. */
  readonly tear?: Random
}

export class FaultyDevice extends InjectedDevice {
  readonly #tear: Random | undefined

  constructor(below: Device, options: FaultyOptions = {}) {
    super(below, new FaultBook())
    this.#tear = options.tear
  }

  /** What is still to fail: `times` counted down, healed sectors taken out. */
  get rules(): readonly FaultRule[] {
    return this.book.rules.filter(({ isSpent }) => !isSpent).flatMap(written)
  }

  add(...rules: readonly FaultRule[]): void {
    this.book.add(...rules.flatMap(splitByHealing).map(live))
  }

  clear(): void {
    this.book.remove(() => true)
  }

  /** Whether a request would fail now. Counts nothing down. */
  fails(operation: DeviceOperation, offset: number, length: number): boolean {
    return this.book.rules.some((rule) => rule.isDue && rule.concerns(operation, offset, offset + length))
  }

  protected override async failWrite(offset: number, chunks: readonly Buffer[], failure: DeviceError): Promise<void> {
    if (this.#tear) await this.#writeSome(offset, chunks, this.#tear)
    throw failure
  }

  async #writeSome(offset: number, chunks: readonly Buffer[], tear: Random): Promise<void> {
    const end = offset + chunksLength(chunks)
    for (let at = offset; at < end;) {
      const next = Math.min(alignDown(at, SECTOR_SIZE) + SECTOR_SIZE, end)
      const isBad = this.fails('write', at, next - at)
      if (!isBad && tear.below(2) === 0) await this.below.write(at, sliceChunks(chunks, at - offset, next - offset))
      at = next
    }
  }
}

/** Only reads heal, so they stand in a rule of their own. */
function splitByHealing(rule: FaultRule): FaultRule[] {
  const others = rule.operations.filter((operation) => operation !== 'read')
  if (!rule.healsOnWrite || others.length === 0 || others.length === rule.operations.length) return [rule]
  return [
    { ...rule, operations: ['read'] },
    { ...rule, operations: others, healsOnWrite: false },
  ]
}

function live({ operations, start, end, code, after, times, healsOnWrite = false }: FaultRule): LiveRule {
  return new LiveRule({
    rule: {
      id: 'fault',
      operations,
      errno: code,
      'heals-on-write': healsOnWrite && operations.includes('read'),
      ...(after !== undefined && { after }),
      ...(times !== undefined && { times }),
    },
    area: Area.of([{ start, end }]),
    bounds: new RangeSet(),
    seed: 'fault',
  })
}

function written({ rule, area, left, waits }: LiveRule): FaultRule[] {
  const { operations = [], errno: code = 'EIO', 'heals-on-write': healsOnWrite = false } = rule
  return [...area.ranges()].map((range) => ({ operations, ...range, code, after: waits, times: left, healsOnWrite }))
}
