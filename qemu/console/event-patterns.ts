/** Which events are shown: patterns with `*`, perhaps of one target (`qemu:STOP`). A pattern after `!` hides what others show. */

interface Pattern {
  readonly hides: boolean
  readonly target: RegExp
  readonly event: RegExp
}

export class EventPatterns {
  readonly #text: string
  readonly #patterns: readonly Pattern[]

  /** @param words `on`, `off`, or patterns; only hiding ones hide from all */
  constructor(words: readonly string[]) {
    const [first = 'on'] = words
    this.#text = words.length === 0 ? 'on' : words.join(' ')
    if (first === 'off') this.#patterns = []
    else if (first === 'on') this.#patterns = [patternOf('*')]
    else {
      const patterns = words.map(patternOf)
      this.#patterns = patterns.every(({ hides }) => hides) ? [patternOf('*'), ...patterns] : patterns
    }
  }

  matches(target: string, event: string): boolean {
    const fitting = this.#patterns.filter((pattern) => pattern.target.test(target) && pattern.event.test(event))
    return fitting.length > 0 && fitting.every(({ hides }) => !hides)
  }

  toString(): string {
    return this.#text
  }
}

function patternOf(word: string): Pattern {
  const hides = word.startsWith('!')
  const [, target = '*', event = '*'] = /^!?(?:([^:]*):)?(.*)$/s.exec(word) ?? []
  return { hides, target: glob(target), event: glob(event) }
}

const glob = (text: string): RegExp =>
  new RegExp(
    `^${text
      .split('*')
      .map((part) => part.replaceAll(/[\\^$.|?+()[\]{}]/g, '\\$&'))
      .join('.*')}$`,
    'is',
  )
