/**
 * A failing disk on order: fails the requests that its rules name and passes all others to the device below. The true
 * bytes and the faults are kept apart, so that clearing the rules brings every byte back. A failed request has not
 * touched the disk below, unless `tear` asks for what real disks do: then a failed write leaves any of its sectors new.
 */
import { chunksLength, sliceChunks } from '../util/chunks.js'
import type { Random } from '../util/random.js'
import { alignDown, alignUp, SECTOR_SIZE } from '../util/units.js'
import { assertInside } from './bounds.js'
import {
  DeviceError,
  after,
  type AllocationExtent,
  type BlockSizes,
  type Completion,
  type Device,
  type DeviceErrorCode,
  type DeviceOperation,
  type WriteOptions,
  type ZeroOptions,
} from './device.js'

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

interface LiveRule extends FaultRule {
  /** Counted down. */
  after: number
  readonly times: number
  readonly healsOnWrite: boolean
}

const concerns = (rule: FaultRule, operation: DeviceOperation, start: number, end: number): boolean =>
  rule.operations.includes(operation) && start < rule.end && rule.start < end

export class FaultyDevice implements Device {
  readonly #below: Device
  readonly #tear: Random | undefined
  #rules: LiveRule[] = []

  constructor(below: Device, options: FaultyOptions = {}) {
    this.#below = below
    this.#tear = options.tear
  }

  get name(): string {
    return this.#below.name
  }

  get size(): number {
    return this.#below.size
  }

  get readOnly(): boolean {
    return this.#below.readOnly
  }

  get blockSizes(): BlockSizes {
    return this.#below.blockSizes
  }

  /** What is still to fail: `times` counted down, healed sectors taken out. */
  get rules(): readonly FaultRule[] {
    return this.#rules
  }

  add(...rules: readonly FaultRule[]): void {
    for (const rule of rules) this.#rules.push({ after: 0, times: Infinity, healsOnWrite: false, ...rule })
  }

  clear(): void {
    this.#rules = []
  }

  /** Whether a request would fail now. Counts nothing down. */
  fails(operation: DeviceOperation, offset: number, length: number): boolean {
    return this.#find(operation, offset, offset + length) !== undefined
  }

  read(offset: number, into: Buffer): Completion {
    assertInside(this, offset, into.length)
    const failure = this.#strike('read', offset, into.length)
    return failure ? Promise.reject(failure) : this.#below.read(offset, into)
  }

  write(offset: number, chunks: readonly Buffer[], options?: WriteOptions): Completion {
    const length = chunksLength(chunks)
    assertInside(this, offset, length)
    const failure = this.#strike('write', offset, length)
    if (failure) return this.#failWrite(offset, chunks, failure)
    return after(this.#below.write(offset, chunks, options), () => {
      this.#heal(offset, length)
      const flushFailure = options?.fua ? this.#strike('flush', 0, this.size) : undefined
      return flushFailure ? Promise.reject(flushFailure) : undefined
    })
  }

  flush(): Completion {
    const failure = this.#strike('flush', 0, this.size)
    return failure ? Promise.reject(failure) : this.#below.flush()
  }

  trim(offset: number, length: number, options?: WriteOptions): Completion {
    assertInside(this, offset, length)
    const failure = this.#strike('trim', offset, length)
    return failure ? Promise.reject(failure) : this.#below.trim(offset, length, options)
  }

  writeZeroes(offset: number, length: number, options?: ZeroOptions): Completion {
    assertInside(this, offset, length)
    const failure = this.#strike('write-zeroes', offset, length)
    if (failure) return Promise.reject(failure)
    return after(this.#below.writeZeroes(offset, length, options), () => {
      this.#heal(offset, length)
      return undefined
    })
  }

  /** A hole whose reads fail must not pass for zeros: where reads fail, all is data. */
  async extents(offset: number, length: number, countMax: number): Promise<readonly AllocationExtent[]> {
    assertInside(this, offset, length)
    const known = this.fails('read', offset, length) ? undefined : await this.#below.extents?.(offset, length, countMax)
    return known ?? [{ length, allocation: 'data' }]
  }

  close(): Promise<void> {
    return this.#below.close()
  }

  #find(operation: DeviceOperation, start: number, end: number): LiveRule | undefined {
    return this.#rules.find((rule) => rule.after === 0 && concerns(rule, operation, start, end))
  }

  /** The failure that a live rule orders; the rule has then one time less to live. */
  #strike(operation: DeviceOperation, offset: number, length: number): DeviceError | undefined {
    const rule = this.#find(operation, offset, offset + length)
    if (!rule) {
      for (const later of this.#rules) if (concerns(later, operation, offset, offset + length)) later.after--
      return undefined
    }
    if (Number.isFinite(rule.times)) {
      const rest = rule.times > 1 ? [{ ...rule, times: rule.times - 1 }] : []
      this.#rules = this.#rules.flatMap((other) => (other === rule ? rest : [other]))
    }
    return new DeviceError(rule.code, this.name, operation, offset, length)
  }

  /** Takes the sectors that lie whole in [offset, offset + length) out of the read rules that heal. */
  #heal(offset: number, length: number): void {
    const start = alignUp(offset, SECTOR_SIZE)
    const end = offset + length === this.size ? this.size : alignDown(offset + length, SECTOR_SIZE)
    const heals = (rule: LiveRule) => rule.healsOnWrite && rule.operations.includes('read')
    if (end <= start || !this.#rules.some(heals)) return
    this.#rules = this.#rules.flatMap((rule) => {
      if (!heals(rule) || end <= rule.start || rule.end <= start) return [rule]
      const others = rule.operations.filter((operation) => operation !== 'read')
      return [
        { ...rule, end: start },
        { ...rule, start: end },
        { ...rule, operations: others, start: Math.max(start, rule.start), end: Math.min(end, rule.end) },
      ].filter((part) => part.start < part.end && part.operations.length > 0)
    })
  }

  async #failWrite(offset: number, chunks: readonly Buffer[], failure: DeviceError): Promise<never> {
    if (this.#tear) await this.#writeSome(offset, chunks, this.#tear)
    throw failure
  }

  async #writeSome(offset: number, chunks: readonly Buffer[], tear: Random): Promise<void> {
    const end = offset + chunksLength(chunks)
    for (let at = offset; at < end;) {
      const next = Math.min(alignDown(at, SECTOR_SIZE) + SECTOR_SIZE, end)
      const isBad = this.#find('write', at, next) !== undefined
      if (!isBad && tear.below(2) === 0) await this.#below.write(at, sliceChunks(chunks, at - offset, next - offset))
      at = next
    }
  }
}
