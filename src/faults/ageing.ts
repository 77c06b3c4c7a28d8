/**
 * `Ageing`: sectors that get slow first, then need retries, then fail, as the requests of their disk go by. Each cluster
 * ages at a pace of its own, half to one and a half times that of the rule, drawn from the seed when it is born.
 */
import type { Random } from '../util/random.js'
import { Area, type ByteRange } from './area.js'
import { AGES_DEFAULT } from './parse.js'
import type { FaultRule } from './vocabulary.js'

export type Age = 'fresh' | 'slow' | 'weak' | 'bad'
type Aged = Exclude<Age, 'fresh'>

const STAGES = ['slow', 'weak', 'bad'] as const

export class Ageing {
  readonly #after: Readonly<Record<Aged, number>>
  readonly #random: Random
  readonly #areas: Readonly<Record<Aged, Area>> = { slow: new Area(), weak: new Area(), bad: new Area() }
  /** What enters a stage when the disk has had so many requests. */
  readonly #due = new Map<number, { readonly stage: Aged; readonly range: ByteRange }[]>()
  #requests = 0

  constructor(rule: FaultRule, random: Random) {
    this.#after = {
      slow: rule['slow-after'] ?? AGES_DEFAULT.slow,
      weak: rule['weak-after'] ?? AGES_DEFAULT.weak,
      bad: rule['bad-after'] ?? AGES_DEFAULT.bad,
    }
    this.#random = random
  }

  /** Begins to age now. */
  add(range: ByteRange): void {
    const pace = 0.5 + this.#random.next()
    for (const stage of STAGES) {
      const at = this.#requests + Math.ceil(this.#after[stage] * pace)
      if (at <= this.#requests) this.#areas[stage].add(range.start, range.end)
      else this.#due.set(at, [...(this.#due.get(at) ?? []), { stage, range }])
    }
  }

  /** One more request of the disk. What has left `area` meanwhile does not age. */
  tick(area: Area): void {
    const due = this.#due.get(++this.#requests)
    if (due === undefined) return
    this.#due.delete(this.#requests)
    for (const { stage, range } of due) {
      for (const { start, end } of area.within(range.start, range.end)) this.#areas[stage].add(start, end)
    }
  }

  /** That of the oldest byte among them. */
  ageOf(start: number, end: number): Age {
    if (this.#areas.bad.overlaps(start, end)) return 'bad'
    if (this.#areas.weak.overlaps(start, end)) return 'weak'
    return this.#areas.slow.overlaps(start, end) ? 'slow' : 'fresh'
  }

  /** The drive has put other sectors in their place. */
  heal(start: number, end: number): void {
    for (const stage of STAGES) this.#areas[stage].remove(start, end)
  }

  /** Bytes of each stage; what is bad is weak and slow, too. */
  get sizes(): Readonly<Record<Aged, number>> {
    const { slow, weak, bad } = this.#areas
    return { slow: slow.size, weak: weak.size, bad: bad.size }
  }
}
