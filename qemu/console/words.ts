/**
 * A line cut into words, which is all of the console's grammar: words are separated by spaces, `key=value` is one word, and
 * a value is bare text, text in quotes, or JSON, which begins with a bracket and may have spaces. Nothing is looked up
 * here, so a line that is still being typed is cut as well as one that is whole.
 */

/** `$name`, and what of it: `$_[0].node-name` is `['_', '0', 'node-name']`. */
export type VariablePath = readonly [name: string, ...path: string[]]

export type Piece =
  { readonly kind: 'text'; readonly text: string } | { readonly kind: 'variable'; readonly path: VariablePath }

export type Value =
  /** Pieces of JSON text; a variable stands for a whole value in it. */
  | { readonly kind: 'json'; readonly pieces: readonly Piece[] }
  /** `quoted`: it is a string whatever it looks like. */
  | { readonly kind: 'text'; readonly pieces: readonly Piece[]; readonly quoted: boolean }

export interface Word {
  /** Where it stands in the line; `end` is that of the first character behind it. */
  readonly start: number
  readonly end: number
  /** As it was typed. */
  readonly raw: string
  /** Of `key=value`. */
  readonly key: string | undefined
  readonly valueStart: number
  readonly value: Value
}

/** What the end of the line is missing. */
export type Unclosed = 'quote' | 'bracket'

export interface Words {
  readonly words: readonly Word[]
  readonly unclosed: Unclosed | undefined
}

const KEY = /[A-Za-z_][\w.-]*=/y
const VARIABLE = /\$(?:([A-Za-z_]\w*)((?:\.[\w-]+|\[\d+\])*)|\{([A-Za-z_]\w*)((?:\.[\w-]+|\[\d+\])*)\})/y
const SPACE = /\s/
const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r' }

/** The words up to a `#` that begins a word. */
export function splitWords(line: string): Words {
  const cutter = new Cutter(line)
  const words: Word[] = []
  for (;;) {
    const word = cutter.next()
    if (word === undefined) return { words, unclosed: cutter.unclosed }
    words.push(word)
  }
}

/** One that is nothing but text without variables; undefined for others. */
export function plainText({ value }: Word): string | undefined {
  const [piece, ...more] = value.pieces
  if (value.kind !== 'text' || more.length > 0) return undefined
  if (piece === undefined) return ''
  return piece.kind === 'text' ? piece.text : undefined
}

class Cutter {
  unclosed: Unclosed | undefined
  readonly #line: string
  #at = 0
  #pieces: Piece[] = []

  constructor(line: string) {
    this.#line = line
  }

  next(): Word | undefined {
    while (SPACE.test(this.#char)) this.#at++
    if (this.#char === '' || this.#char === '#') return undefined
    const start = this.#at
    const key = this.#match(KEY)?.[0]
    const valueStart = this.#at
    const value = this.#value()
    const raw = this.#line.slice(start, this.#at)
    return { start, end: this.#at, raw, key: key?.slice(0, -1), valueStart, value }
  }

  get #char(): string {
    return this.#line.charAt(this.#at)
  }

  #value(): Value {
    this.#pieces = []
    if (this.#char === '{' || this.#char === '[') {
      this.#json()
      return { kind: 'json', pieces: this.#pieces }
    }
    let quoted = false
    while (this.#char !== '' && !SPACE.test(this.#char)) {
      if (this.#char === '"' || this.#char === "'") {
        quoted = true
        this.#quotes(this.#char)
      } else if (!this.#variable()) this.#add(this.#take())
    }
    return { kind: 'text', pieces: this.#pieces, quoted }
  }

  /** To the bracket that closes the first one; brackets in strings do not count. */
  #json(): void {
    let depth = 0
    do {
      const char = this.#char
      if (char === '') {
        this.unclosed ??= 'bracket'
        return
      }
      if (char === '"') this.#jsonString()
      else if (!this.#variable()) {
        if (char === '{' || char === '[') depth++
        if (char === '}' || char === ']') depth--
        this.#add(this.#take())
      }
    } while (depth > 0)
  }

  #jsonString(): void {
    const start = this.#at++
    while (this.#char !== '"') {
      if (this.#char === '') {
        this.unclosed = 'quote'
        break
      }
      this.#at += this.#char === '\\' ? 2 : 1
    }
    this.#at = Math.min(this.#at + 1, this.#line.length)
    this.#add(this.#line.slice(start, this.#at))
  }

  /** In "..." variables and backslashes mean something, in '...' nothing does. */
  #quotes(quote: string): void {
    this.#at++
    while (this.#char !== quote) {
      if (this.#char === '') {
        this.unclosed = 'quote'
        return
      }
      if (quote === '"' && this.#char === '\\' && this.#at + 1 < this.#line.length) {
        this.#at++
        const escaped = this.#take()
        this.#add(ESCAPES[escaped] ?? escaped)
      } else if (quote === "'" || !this.#variable()) this.#add(this.#take())
    }
    this.#at++
    // '' is a value: the empty string.
    if (this.#pieces.length === 0) this.#pieces.push({ kind: 'text', text: '' })
  }

  #variable(): boolean {
    const match = this.#match(VARIABLE)
    if (match === undefined) return false
    const [, bare, barePath, braced, bracedPath] = match
    const path = (barePath ?? bracedPath ?? '').split(/[.[\]]+/).filter((step) => step !== '')
    this.#pieces.push({ kind: 'variable', path: [bare ?? braced ?? '', ...path] })
    return true
  }

  #take(): string {
    const char = String.fromCodePoint(this.#line.codePointAt(this.#at) ?? 0)
    this.#at += char.length
    return char
  }

  #add(text: string): void {
    const last = this.#pieces.at(-1)
    if (last?.kind === 'text') this.#pieces[this.#pieces.length - 1] = { kind: 'text', text: last.text + text }
    else this.#pieces.push({ kind: 'text', text })
  }

  #match(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at
    const match = pattern.exec(this.#line) ?? undefined
    if (match !== undefined) this.#at = pattern.lastIndex
    return match
  }
}
