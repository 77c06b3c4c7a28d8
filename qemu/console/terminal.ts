/**
 * A terminal with a line at its end that is being typed, and everything else above it: whatever is printed meanwhile leaves
 * the line as it is. Whatever ends the program gives the terminal back as it was.
 */
import { emitKeypressEvents } from 'node:readline'
import { constants } from 'node:os'
import type { ReadStream, WriteStream } from 'node:tty'
import { commonPrefix, type Candidate, type Completion } from './complete.js'
import { inColumns, inTable } from './format.js'
import { layoutOf, type Layout } from './layout.js'
import { LineEditor, type Key } from './line-editor.js'
import type { History } from './history.js'

const BEGIN_PASTE_MARKS = '\u001b[?2004h'
const END_PASTE_MARKS = '\u001b[?2004l'
const PASTE_BEGINS = '\u001b[200~'
const PASTE_ENDS = '\u001b[201~'
const ERASE_BELOW = '\u001b[J'
const CLEAR = '\u001b[H\u001b[2J'
const up = (rows: number): string => (rows > 0 ? `\u001b[${rows}A` : '')
const right = (columns: number): string => (columns > 0 ? `\u001b[${columns}C` : '')

const SIGNALS = ['SIGTERM', 'SIGHUP'] as const

/** Beyond that nobody reads them. */
const CANDIDATES_SHOWN_MAX = 300
const HINTS_SHOWN_MAX = 40

export interface TerminalOptions {
  readonly input: ReadStream
  readonly output: WriteStream
  readonly history: History
  complete(line: string): Promise<Completion>
  /** Is the line still open, so that Enter begins another row? */
  isOpen(line: string): boolean
}

interface Reading {
  readonly prompt: () => string
  readonly resolve: (line: string | undefined) => void
}

export class ConsoleTerminal {
  /** Called for Ctrl-C while no line is read. */
  onInterrupt: () => void = () => undefined
  readonly #options: TerminalOptions
  readonly #editor: LineEditor
  readonly #keys: Key[] = []
  readonly #printed: string[] = []
  #reading: Reading | undefined
  #layout: Layout | undefined
  #pasting = false
  #handling = false
  #atEnd = false
  #isOpen = true

  constructor(options: TerminalOptions) {
    this.#options = options
    this.#editor = new LineEditor(options.history)
    const { input, output } = options
    emitKeypressEvents(input)
    input.setRawMode(true)
    input.on('keypress', this.#onKey).once('end', this.#onHangUp).once('error', this.#onHangUp)
    output.on('resize', this.#redraw)
    for (const signal of SIGNALS) process.on(signal, this.#onSignal)
    process.on('SIGCONT', this.#onContinue).once('exit', this.#restore)
    output.write(BEGIN_PASTE_MARKS)
    input.resume()
  }

  get columns(): number {
    return this.#options.output.columns || 80
  }

  /** Above the line that is being typed. */
  print(text: string): void {
    if (this.#printed.push(text) === 1) setImmediate(this.#flush)
  }

  /** @returns the line without its end, or undefined when there will be none */
  readLine(prompt: () => string): Promise<string | undefined> {
    this.#flush()
    return new Promise((resolve) => {
      this.#reading = { prompt, resolve }
      this.#editor.reset()
      this.#write(this.#drawn())
      void this.#handle()
    })
  }

  close(): void {
    this.#flush()
    const { input, output } = this.#options
    input.off('keypress', this.#onKey).off('end', this.#onHangUp).off('error', this.#onHangUp).pause()
    output.off('resize', this.#redraw)
    for (const signal of SIGNALS) process.off(signal, this.#onSignal)
    process.off('SIGCONT', this.#onContinue).off('exit', this.#restore)
    this.#restore()
  }

  readonly #restore = (): void => {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#options.output.write(END_PASTE_MARKS)
    try {
      this.#options.input.setRawMode(false)
    } catch {
      // The terminal is gone.
    }
  }

  readonly #onSignal = (signal: NodeJS.Signals): void => {
    this.#write(this.#erased())
    process.exit(128 + constants.signals[signal])
  }

  readonly #onContinue = (): void => {
    if (!this.#isOpen) return
    this.#options.input.setRawMode(true)
    this.#layout = undefined
    this.#write(BEGIN_PASTE_MARKS + this.#drawn())
  }

  readonly #onHangUp = (): void => {
    this.#atEnd = true
    this.#finish(undefined)
  }

  readonly #onKey = (_: string | undefined, key: Key): void => {
    if (this.#reading === undefined && key.ctrl === true && key.name === 'c') {
      this.#keys.length = 0
      this.onInterrupt()
      return
    }
    this.#keys.push(key)
    void this.#handle()
  }

  /** One key after the other, also when one has to wait for a server; what is typed while a command runs is for the next line. */
  async #handle(): Promise<void> {
    if (this.#handling) return
    this.#handling = true
    try {
      while (this.#reading !== undefined) {
        if (this.#atEnd) this.#finish(undefined)
        const key = this.#keys.shift()
        if (key === undefined) break
        await this.#press(key)
      }
    } finally {
      this.#handling = false
    }
  }

  async #press(key: Key): Promise<void> {
    if (key.sequence === PASTE_BEGINS || key.sequence === PASTE_ENDS) {
      this.#pasting = key.sequence === PASTE_BEGINS
      return
    }
    const isPastedTab = this.#pasting && key.name === 'tab'
    switch (this.#editor.press(isPastedTab ? { name: 'space', sequence: ' ' } : key)) {
      case 'changed':
        // What is pasted is drawn once.
        if (this.#keys.length === 0) this.#redraw()
        return
      case 'submit':
        this.#submit()
        return
      case 'complete':
        await this.#complete()
        return
      case 'interrupt':
        this.#interrupt()
        return
      case 'end':
        this.#finish(undefined)
        return
      case 'clear-screen':
        this.#layout = undefined
        this.#write(CLEAR + this.#drawn())
        return
      case 'suspend':
        this.#suspend()
        return
      case 'nothing':
    }
  }

  #submit(): void {
    const { text } = this.#editor
    if (!this.#options.isOpen(text)) {
      this.#finish(text)
      return
    }
    this.#editor.cursor = text.length
    this.#editor.insert('\n')
    this.#redraw()
  }

  #interrupt(): void {
    const wasEmpty = this.#editor.text === ''
    this.#leaveLine('^C')
    if (wasEmpty) this.#write('Ctrl-D or exit leaves the console.\r\n')
    this.#editor.reset()
    this.#write(this.#drawn())
  }

  #suspend(): void {
    this.#write(this.#erased() + END_PASTE_MARKS)
    this.#options.input.setRawMode(false)
    process.kill(process.pid, 'SIGTSTP')
    // Where nobody could continue it, the kernel does not stop it.
    this.#onContinue()
  }

  async #complete(): Promise<void> {
    const { text, cursor } = this.#editor
    const { start, candidates } = await this.#options.complete(text.slice(0, cursor))
    const [first, ...more] = candidates
    if (first === undefined) return
    const typed = text.slice(start, cursor)
    const prefix = commonPrefix(candidates)
    if (more.length === 0) {
      const suffix = text.startsWith(first.suffix, cursor) ? '' : first.suffix
      this.#editor.insert(first.text + suffix, start)
    } else if (prefix.length > typed.length) this.#editor.insert(prefix, start)
    else this.print(listOf(candidates, this.columns))
    this.#flush()
    this.#redraw()
  }

  #finish(line: string | undefined): void {
    const reading = this.#reading
    if (reading === undefined) return
    this.#leaveLine('')
    this.#reading = undefined
    reading.resolve(line)
  }

  /** The whole line stays where it is, and the cursor goes below it. */
  #leaveLine(mark: string): void {
    this.#editor.cursor = this.#editor.text.length
    this.#redraw()
    this.#write(`${mark}\r\n`)
    this.#layout = undefined
  }

  readonly #flush = (): void => {
    if (this.#printed.length === 0) return
    const text = this.#printed.splice(0).join('\n')
    this.#write(`${this.#erased()}${text.replaceAll('\n', '\r\n')}\r\n${this.#drawn()}`)
  }

  readonly #redraw = (): void => {
    // In one piece, so that it does not flicker.
    this.#write(this.#erased() + this.#drawn())
  }

  #erased(): string {
    const layout = this.#layout
    this.#layout = undefined
    return layout === undefined ? '' : `${up(layout.cursorRow)}\r${ERASE_BELOW}`
  }

  #drawn(): string {
    if (this.#reading === undefined) return ''
    const { text, cursor, searchPrompt } = this.#editor
    const layout = layoutOf(searchPrompt ?? this.#reading.prompt(), text, cursor, this.columns)
    const below = layout.rows.length - 1 - layout.cursorRow
    this.#layout = layout
    return `${layout.rows.join('\r\n')}${up(below)}\r${right(layout.cursorColumn)}`
  }

  #write(text: string): void {
    this.#options.output.write(text)
  }
}

function listOf(candidates: readonly Candidate[], columns: number): string {
  const withHints = candidates.length <= HINTS_SHOWN_MAX && candidates.some(({ hint }) => hint !== undefined)
  if (withHints) return inTable(candidates.map(({ text, hint = '' }) => [text, cut(hint, columns / 2)] as const))
  const shown = candidates.slice(0, CANDIDATES_SHOWN_MAX).map(({ text }) => text)
  const left = candidates.length - shown.length
  return inColumns(shown, columns) + (left > 0 ? `\n... and ${left} more` : '')
}

const cut = (text: string, most: number): string =>
  text.length <= most ? text : `${text.slice(0, Math.max(0, most - 3))}...`
