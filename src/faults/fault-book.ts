/** `FaultBook`: the rules in force on one disk, in the order in which they are asked. Every strike is noted, and has a number. */
import type { FaultNote } from './fault-log.js'
import type { FaultAction, LiveRule } from './live-rule.js'
import { effectOf } from './parse.js'
import type { FaultOperation } from './vocabulary.js'

export interface Strike {
  readonly rule: LiveRule
  readonly action: FaultAction
  /** Of the entry in the log; 0: there is no log. */
  readonly number: number
}

/** What a disk says of a strike; the log knows which disk it is. */
export type StrikeNote = Omit<FaultNote, 'disk' | 'name'>

/** After these nothing is left of the request for further rules. */
const LAST: ReadonlySet<FaultAction['kind']> = new Set(['error', 'gone', 'tear', 'lie'])

const NONE: readonly Strike[] = []

export class FaultBook {
  readonly #note: (note: StrikeNote) => number
  #rules: readonly LiveRule[] = []

  /** @param note writes an entry into the log and returns its number */
  constructor(note: (note: StrikeNote) => number = () => 0) {
    this.#note = note
  }

  get rules(): readonly LiveRule[] {
    return this.#rules
  }

  get isEmpty(): boolean {
    return this.#rules.length === 0
  }

  add(...rules: readonly LiveRule[]): void {
    this.#rules = [...this.#rules, ...rules]
  }

  /** Takes out those that are wanted out, and lets go whoever waits for them. */
  remove(isWanted: (rule: LiveRule) => boolean): void {
    const removed = this.#rules.filter(isWanted)
    this.#rules = this.#rules.filter((rule) => !isWanted(rule))
    for (const rule of removed) rule.release()
  }

  /** Whether some rule could strike such a request. Counts nothing. */
  concerns(operation: FaultOperation, offset: number, length: number): boolean {
    return this.#rules.some((rule) => rule.concerns(operation, offset, offset + length))
  }

  /** The disk has one more request. */
  tick(): void {
    for (const rule of this.#rules) rule.tick()
  }

  /** What is to be done to a request, in this order. */
  strikes(operation: FaultOperation, offset: number, length: number): readonly Strike[] {
    if (this.#rules.length === 0) return NONE
    this.tick()
    const strikes: Strike[] = []
    for (const rule of this.#rules) {
      const action = rule.strike(operation, offset, offset + length)
      if (!action) continue
      const effect = effectOf(rule.rule)
      const number = this.#note({ rule: rule.id, operation, offset, length, effect, ...toldOf(action) })
      strikes.push({ rule, action, number })
      if (LAST.has(action.kind)) break
    }
    return strikes
  }

  /** These bytes were written. */
  heal(offset: number, length: number): void {
    for (const rule of this.#rules) rule.heal(offset, offset + length)
  }
}

function toldOf(action: FaultAction): Pick<StrikeNote, 'error' | 'delay-ms' | 'detail'> {
  switch (action.kind) {
    case 'error':
    case 'gone':
      return { error: action.errno }
    case 'tear':
      return { detail: action.tearing, ...(!action.acknowledge && { error: 'EIO' as const }) }
    case 'delay':
      return { 'delay-ms': action.ms }
    case 'hang':
      return action.ms === undefined ? {} : { 'delay-ms': action.ms }
    case 'corrupt':
      return { detail: action.corruption }
    case 'drop-connection':
      return { detail: action.connection }
    case 'lie':
      return {}
  }
}
