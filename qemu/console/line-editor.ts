/**
 * The line that is being typed, without a terminal: keys change it, as readline's default bindings do, and it says what else a
 * key asks for. Positions count UTF-16 units, but the cursor moves over what a person takes for one character.
 */
import type { History } from './history.js'
import { graphemesOf } from './text-width.js'

/** As node:readline's `keypress` has it. */
export interface Key {
  readonly name?: string | undefined
  readonly sequence?: string | undefined
  readonly ctrl?: boolean | undefined
  readonly meta?: boolean | undefined
}

export type KeyResult = 'changed' | 'submit' | 'complete' | 'interrupt' | 'end' | 'clear-screen' | 'suspend' | 'nothing'

/** Ctrl-R: what is looked for, and the line that was found, counted from the newest. */
interface Search {
  query: string
  skipped: number
  failing: boolean
  readonly before: { readonly text: string; readonly cursor: number }
}

const WORD_BEFORE = /[\w-]*[^\w-]*$/
const SPACED_WORD_BEFORE = /\S*\s*$/
const WORD_AFTER = /^[^\w-]*[\w-]*/

export class LineEditor {
  text = ''
  cursor = 0
  readonly #history: History
  /** Steps back in the history; 0 is the line that was being typed. */
  #back = 0
  #draft = ''
  #killed = ''
  #search: Search | undefined

  constructor(history: History) {
    this.#history = history
  }

  /** In place of the prompt while the history is searched. */
  get searchPrompt(): string | undefined {
    if (this.#search === undefined) return undefined
    return `(${this.#search.failing ? 'failed ' : ''}search back) ${this.#search.query}: `
  }

  reset(): void {
    this.text = ''
    this.cursor = 0
    this.#back = 0
    this.#draft = ''
    this.#search = undefined
  }

  /** @param from replaces what stands between there and the cursor */
  insert(text: string, from = this.cursor): void {
    this.text = this.text.slice(0, from) + text + this.text.slice(this.cursor)
    this.cursor = from + text.length
  }

  press(key: Key): KeyResult {
    if (this.#search !== undefined) {
      const result = this.#searching(this.#search, key)
      if (result !== undefined) return result
    }
    const name = `${key.ctrl === true ? 'C-' : ''}${key.meta === true ? 'M-' : ''}${key.name ?? ''}`
    const bound = BINDINGS.get(name)
    if (bound !== undefined) return bound(this)
    const typed = key.sequence ?? ''
    if (key.ctrl === true || key.meta === true || !isPrintable(typed)) return 'nothing'
    this.insert(typed)
    return 'changed'
  }

  /** Moves by characters, or to where `pattern` reaches. */
  move(direction: -1 | 1, pattern?: RegExp): void {
    this.cursor += direction * this.#reach(direction, pattern)
  }

  erase(direction: -1 | 1, pattern?: RegExp): void {
    const length = this.#reach(direction, pattern)
    const start = direction < 0 ? this.cursor - length : this.cursor
    if (pattern !== undefined && length > 0) this.#killed = this.text.slice(start, start + length)
    this.text = this.text.slice(0, start) + this.text.slice(start + length)
    this.cursor = start
  }

  yank(): void {
    this.insert(this.#killed)
  }

  /** Swaps the characters before and at the cursor. */
  transpose(): void {
    if (this.cursor === this.text.length) this.move(-1)
    const after = this.#reach(1)
    const before = this.#reach(-1)
    if (after === 0 || before === 0) return
    const { text, cursor } = this
    const swapped = text.slice(cursor, cursor + after) + text.slice(cursor - before, cursor)
    this.text = text.slice(0, cursor - before) + swapped + text.slice(cursor + after)
    this.cursor = cursor + after
  }

  /** @param step 1: older */
  browse(step: -1 | 1): void {
    const { lines } = this.#history
    const back = this.#back + step
    if (back < 0 || back > lines.length) return
    if (this.#back === 0) this.#draft = this.text
    this.#back = back
    this.#show(back === 0 ? this.#draft : (lines[lines.length - back] ?? ''))
  }

  search(): void {
    const before = { text: this.text, cursor: this.cursor }
    this.#search = { query: '', skipped: 0, failing: false, before }
  }

  #show(text: string, cursor = text.length): void {
    this.text = text
    this.cursor = cursor
  }

  #reach(direction: -1 | 1, pattern?: RegExp): number {
    const side = direction < 0 ? this.text.slice(0, this.cursor) : this.text.slice(this.cursor)
    if (pattern !== undefined) return pattern.exec(side)?.[0].length ?? 0
    return graphemesOf(side).at(direction < 0 ? -1 : 0)?.length ?? 0
  }

  /** @returns undefined: the search is over, and the key is for the line that was found */
  #searching(search: Search, key: Key): KeyResult | undefined {
    const typed = key.sequence ?? ''
    if (key.ctrl === true && key.name === 'r') search.skipped++
    else if (key.ctrl === true && key.name === 's') search.skipped = Math.max(0, search.skipped - 1)
    else if (key.name === 'backspace') search.query = graphemesOf(search.query).slice(0, -1).join('')
    else if (key.ctrl === true && (key.name === 'g' || key.name === 'c')) {
      this.#show(search.before.text, search.before.cursor)
      this.#search = undefined
      return 'changed'
    } else if (key.ctrl !== true && key.meta !== true && isPrintable(typed)) {
      search.query += typed
      search.skipped = 0
    } else {
      this.#search = undefined
      return key.name === 'escape' ? 'changed' : undefined
    }
    this.#find(search)
    return 'changed'
  }

  /** What was found last stays when nothing else fits. */
  #find(search: Search): void {
    const { query } = search
    const found = query === '' ? [] : this.#history.lines.filter((line) => line.includes(query)).reverse()
    search.skipped = Math.max(0, Math.min(search.skipped, found.length))
    const line = found[search.skipped]
    search.failing = query !== '' && line === undefined
    if (search.failing) search.skipped = Math.max(0, found.length - 1)
    if (line !== undefined) this.#show(line, line.lastIndexOf(query))
  }
}

const isPrintable = (text: string): boolean => text !== '' && !/[\u0000-\u001f\u007f-\u009f]/.test(text)

type Binding = (editor: LineEditor) => KeyResult

const change =
  (edit: (editor: LineEditor) => void): Binding =>
  (editor) => {
    edit(editor)
    return 'changed'
  }

const ALL = /^[^]*$/

const ROWS: readonly (readonly [keys: string, Binding])[] = [
  [
    'left C-b',
    change((editor) => {
      editor.move(-1)
    }),
  ],
  [
    'right C-f',
    change((editor) => {
      editor.move(1)
    }),
  ],
  [
    'M-left M-b C-left',
    change((editor) => {
      editor.move(-1, WORD_BEFORE)
    }),
  ],
  [
    'M-right M-f C-right',
    change((editor) => {
      editor.move(1, WORD_AFTER)
    }),
  ],
  [
    'home C-a',
    change((editor) => {
      editor.move(-1, ALL)
    }),
  ],
  [
    'end C-e',
    change((editor) => {
      editor.move(1, ALL)
    }),
  ],
  [
    'backspace C-h',
    change((editor) => {
      editor.erase(-1)
    }),
  ],
  [
    'delete',
    change((editor) => {
      editor.erase(1)
    }),
  ],
  [
    'C-w',
    change((editor) => {
      editor.erase(-1, SPACED_WORD_BEFORE)
    }),
  ],
  [
    'M-backspace',
    change((editor) => {
      editor.erase(-1, WORD_BEFORE)
    }),
  ],
  [
    'M-d',
    change((editor) => {
      editor.erase(1, WORD_AFTER)
    }),
  ],
  [
    'C-u',
    change((editor) => {
      editor.erase(-1, ALL)
    }),
  ],
  [
    'C-k',
    change((editor) => {
      editor.erase(1, ALL)
    }),
  ],
  [
    'C-y',
    change((editor) => {
      editor.yank()
    }),
  ],
  [
    'C-t',
    change((editor) => {
      editor.transpose()
    }),
  ],
  [
    'up C-p',
    change((editor) => {
      editor.browse(1)
    }),
  ],
  [
    'down C-n',
    change((editor) => {
      editor.browse(-1)
    }),
  ],
  [
    'C-r',
    change((editor) => {
      editor.search()
    }),
  ],
  // Ctrl-D is the end of the input on an empty line only.
  [
    'C-d',
    (editor) => {
      if (editor.text === '') return 'end'
      editor.erase(1)
      return 'changed'
    },
  ],
  ['return enter', () => 'submit'],
  ['tab', () => 'complete'],
  ['C-c', () => 'interrupt'],
  ['C-l', () => 'clear-screen'],
  ['C-z', () => 'suspend'],
]

const BINDINGS: ReadonlyMap<string, Binding> = new Map(
  ROWS.flatMap(([keys, binding]) => keys.split(' ').map((key) => [key, binding] as const)),
)
