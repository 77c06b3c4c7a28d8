/**
 * `LiveRule`: a rule in force on one disk. It decides which requests it strikes, and with what; the disk carries that out.
 * What it decides depends on its seed and on the requests of its disk, in their order, and on nothing else: only growth by
 * the clock and durations in milliseconds see the time.
 */
import { Random } from '../util/random.js'
import type { RangeSet } from '../util/range-set.js'
import { SECTOR_SIZE } from '../util/units.js'
import { Ageing } from './ageing.js'
import type { Area } from './area.js'
import { drawDelay } from './delay.js'
import { Growth } from './growth.js'
import { effectOf, operationsOf } from './parse.js'
import type { FaultErrno, FaultOperation, FaultRule } from './vocabulary.js'

/** What is to be done to a request. */
export type FaultAction =
  | { readonly kind: 'error' | 'gone'; readonly errno: FaultErrno }
  | { readonly kind: 'delay'; readonly ms: number }
  /** Until `released` resolves, or for `ms`. */
  | { readonly kind: 'hang'; readonly released: Promise<void>; readonly ms: number | undefined }
  | {
      readonly kind: 'corrupt'
      readonly corruption: NonNullable<FaultRule['corruption']>
      readonly bits: number
      readonly random: Random
    }
  | {
      readonly kind: 'tear'
      readonly tearing: NonNullable<FaultRule['tearing']>
      readonly acknowledge: boolean
      readonly random: Random
    }
  | { readonly kind: 'lie'; readonly keptPercent: number; readonly random: Random }
  | { readonly kind: 'drop-connection'; readonly connection: NonNullable<FaultRule['connection']> }

export interface LiveRuleParts {
  readonly rule: FaultRule & { readonly id: string }
  /** The rule is the only one that changes it. */
  readonly area: Area
  /** Where it may grow, in sectors. */
  readonly bounds: RangeSet
  readonly seed: string
  /** Milliseconds on a steady clock. */
  readonly now?: () => number
}

const DELAY_OF_AGE_MS = 100
/** How often a weak sector fails a read. */
const WEAK_PROBABILITY = 0.5

export class LiveRule {
  readonly id: string
  readonly rule: FaultRule
  readonly #area: Area
  readonly #operations: ReadonlySet<FaultOperation>
  readonly #random: Random
  readonly #growth: Growth | undefined
  readonly #ageing: Ageing | undefined
  readonly #now: () => number
  readonly #madeMs: number
  /** Those that the disk has had, and those that the rule is for. */
  #requests = 0
  #matched = 0
  #struck = 0
  #goneSinceMs: number | undefined
  #wakeUp: () => void = () => undefined
  readonly #released: Promise<void>

  constructor({ rule, area, bounds, seed, now = () => performance.now() }: LiveRuleParts) {
    this.id = rule.id
    this.rule = rule
    this.#area = area
    this.#operations = new Set(operationsOf(rule))
    this.#random = new Random(seed)
    this.#now = now
    this.#madeMs = now()
    if (rule.grow) this.#growth = new Growth(rule.grow, bounds, new Random(`${seed}/growth`))
    if (rule.effect === 'ageing') {
      this.#ageing = new Ageing(rule, new Random(`${seed}/ageing`))
      for (const range of area.ranges()) this.#ageing.add(range)
    }
    this.#released = new Promise((resolve) => {
      this.#wakeUp = resolve
    })
  }

  get area(): Area {
    return this.#area
  }

  /** Requests that it was for. */
  get matched(): number {
    return this.#matched
  }

  get struck(): number {
    return this.#struck
  }

  /** How often it can still strike. */
  get left(): number {
    return Math.max(0, this.#timesMax - this.#struck)
  }

  /** How many requests still pass before the first one is struck. */
  get waits(): number {
    return Math.max(0, (this.rule.after ?? 0) - this.#matched)
  }

  /** The next request that it is for can be struck. */
  get isDue(): boolean {
    return this.waits === 0 && !this.isSpent
  }

  /** It will never strike again. */
  get isSpent(): boolean {
    return this.left === 0 || this.#isOver
  }

  get #timesMax(): number {
    return this.rule.times ?? (this.rule.effect === 'drop-connection' ? 1 : Infinity)
  }

  /** A disk that was gone is back. */
  get #isOver(): boolean {
    const { 'duration-ms': duration } = this.rule
    if (this.#goneSinceMs === undefined || duration === undefined) return false
    return this.#now() >= this.#goneSinceMs + duration
  }

  /** Bytes of the disk that are old; `undefined`: it is no ageing. */
  get ages(): Ageing['sizes'] | undefined {
    return this.#ageing?.sizes
  }

  /** Whether it could strike such a request. Counts nothing. */
  concerns(operation: FaultOperation, start: number, end: number): boolean {
    if (!this.#operations.has(operation) || this.isSpent) return false
    if (operation === 'flush') return true
    if (this.#ageing) return this.#ageing.ageOf(start, end) !== 'fresh'
    return this.#area.overlaps(start, end)
  }

  /** The disk has one more request: time goes by. */
  tick(): void {
    this.#requests++
    this.#ageing?.tick(this.#area)
    if (!this.#growth) return
    for (const range of this.#growth.due(this.#requests, this.#now() - this.#madeMs, this.#area)) {
      this.#area.add(range.start, range.end)
      this.#ageing?.add(range)
    }
  }

  /** What it does to this request; `undefined`: nothing. */
  strike(operation: FaultOperation, start: number, end: number): FaultAction | undefined {
    if (!this.concerns(operation, start, end)) return undefined
    if (this.#goneSinceMs === undefined && !this.#draws()) return undefined
    const action = this.#action(operation, start, end)
    if (action) this.#struck++
    return action
  }

  /** Whether it is the turn of this request. */
  #draws(): boolean {
    if (this.#matched++ < (this.rule.after ?? 0)) return false
    const { probability = 1 } = this.rule
    return probability >= 1 || this.#random.next() < probability
  }

  #action(operation: FaultOperation, start: number, end: number): FaultAction | undefined {
    const { rule } = this
    const effect = effectOf(rule)
    switch (effect) {
      case 'error':
        return { kind: 'error', errno: rule.errno ?? 'EIO' }
      case 'gone':
        this.#goneSinceMs ??= this.#now()
        return { kind: 'gone', errno: 'ENODEV' }
      case 'delay':
        return { kind: 'delay', ms: drawDelay(rule, this.#random) }
      case 'hang':
        return { kind: 'hang', released: this.#released, ms: rule['duration-ms'] }
      case 'corrupt': {
        const { corruption = 'bit-flip', bits = 1 } = rule
        return { kind: 'corrupt', corruption, bits, random: this.#fork() }
      }
      case 'tear': {
        const { tearing = 'scattered', acknowledge = false } = rule
        return { kind: 'tear', tearing, acknowledge, random: this.#fork() }
      }
      case 'lie':
        return { kind: 'lie', keptPercent: rule['kept-percent'] ?? 0, random: this.#fork() }
      case 'drop-connection':
        return { kind: 'drop-connection', connection: rule.connection ?? 'upstream' }
      case 'ageing':
        return this.#age(operation, start, end)
    }
  }

  #age(operation: FaultOperation, start: number, end: number): FaultAction | undefined {
    const error = { kind: 'error', errno: this.rule.errno ?? 'EIO' } as const
    const age = this.#ageing?.ageOf(start, end)
    if (age === 'bad') return error
    if (operation !== 'read') return undefined
    const slowest = this.rule['delay-ms'] ?? DELAY_OF_AGE_MS
    if (age === 'slow') return { kind: 'delay', ms: Math.round(slowest * (0.1 + 0.9 * this.#random.next())) }
    return this.#random.next() < WEAK_PROBABILITY ? error : { kind: 'delay', ms: slowest }
  }

  /** What one request draws must not depend on when those before it were carried out. */
  #fork(): Random {
    return new Random(`${this.#random.seed}/${this.#struck + 1}`)
  }

  /** These bytes were written: the sectors among them that were written whole are good for reading. */
  heal(start: number, end: number): void {
    if (this.rule['heals-on-write'] !== true) return
    if (!this.#area.overlaps(start, end)) return
    this.#area.remove(start, end)
    this.#ageing?.heal(start, end)
  }

  /** It was cleared: nobody waits for it any more. */
  release(): void {
    this.#wakeUp()
  }

  /** Sectors that it is about. */
  get sectors(): number {
    return Math.ceil(this.#area.size / SECTOR_SIZE)
  }
}
